"""Write a trained model as the package ships it: text tower and trained part in files of their own, half precision.

    python tools/pack_nano.py runs/nano/model --threshold 0.4

The text tower's file is written once and never again: it must stay the same byte for byte, so a new tower is refused.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from glip.errors import CheckpointError, GlipError
from glip.processing import GlipProcessor
from glip.weights.folder import DEFAULT_MODEL, SHIPPED

TEXT_FILE, TRAINED_FILE, INDEX_FILE = "text_encoder.safetensors", "trained.safetensors", "model.safetensors.index.json"
TEXT_PREFIX = "text_encoder."
MAX_TRAINED_BYTES = 20_000_000


def main() -> None:
    """Split, convert and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder that training wrote")
    parser.add_argument("--threshold", type=float, required=True, help="lowest score that the model shows")
    parser.add_argument("--rules", type=json.loads, default={}, help="of its detections, as JSON; see PostProcessor")
    arguments = parser.parse_args()
    target = SHIPPED[DEFAULT_MODEL]
    target.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.half() for name, tensor in load_file(arguments.model / "model.safetensors").items()}
    text = {name: tensor for name, tensor in state.items() if name.startswith(TEXT_PREFIX)}
    trained = {name: tensor for name, tensor in state.items() if name not in text}
    if (target / TEXT_FILE).exists():
        check_same(load_file(target / TEXT_FILE), text)
    else:
        save_file(text, target / TEXT_FILE, metadata={"format": "pt"})
    save_file(trained, target / TRAINED_FILE, metadata={"format": "pt"})
    size = (target / TRAINED_FILE).stat().st_size
    if size > MAX_TRAINED_BYTES:
        raise CheckpointError(f"the trained part must be at most {MAX_TRAINED_BYTES} bytes, got {size}")
    weight_map = dict.fromkeys(text, TEXT_FILE) | dict.fromkeys(trained, TRAINED_FILE)
    for file in (TEXT_FILE, TRAINED_FILE):
        (target / file).chmod(0o644)
    total = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (target / INDEX_FILE).write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
    config = json.loads((arguments.model / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | {"dtype": "float16"}, indent=1, sort_keys=True) + "\n")
    processor: GlipProcessor = GlipProcessor.from_pretrained(arguments.model)
    processor.threshold, processor.rules = arguments.threshold, arguments.rules
    processor.post_processor()
    processor.save_pretrained(target)


def check_same(shipped: dict[str, Tensor], text: dict[str, Tensor]) -> None:
    """Refuse a text tower that differs from the shipped one."""
    if shipped.keys() != text.keys() or any(not torch.equal(shipped[name], text[name]) for name in text):
        raise CheckpointError(
            "the text tower differs from the shipped one, which must not change; freeze it in training"
        )


if __name__ == "__main__":
    try:
        main()
    except GlipError as error:
        sys.exit(f"error: {error}")
