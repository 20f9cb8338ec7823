"""A program that loads saved networks in a process of its own and saves what they say.

Nothing that the saving process left in memory can help. The arguments are folders that `save_pretrained` wrote.
"""

import sys
import traceback
from pathlib import Path

import torch

from glip.models.glip import GlipModel
from tests.reference.tiny_models import random_captions, random_images

PREDICTIONS = ("alignment_logits", "box_deltas", "centerness_logits")


def run(folder: Path) -> None:
    """Load the network in a folder; write its `buffers.pt` and `output.pt` there."""
    model = GlipModel.from_pretrained(folder)
    for parameter in model.parameters():  # the file's memory is not aligned as torch's is, which shows in last bits
        parameter.data = parameter.data.clone()
    torch.save(dict(model.named_buffers()), folder / "buffers.pt")
    with torch.no_grad():
        output = model(random_images(1, 160, 160), random_captions(1))
    torch.save({name: output[name] for name in PREDICTIONS}, folder / "output.pt")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        try:
            run(Path(argument))
        except Exception:  # the reader asks for the files of each, and shows what is printed here
            traceback.print_exc()
