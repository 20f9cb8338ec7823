"""Turn a published checkpoint into a folder that `Predictor.from_pretrained` and `GlipModel.from_pretrained` read.

    python tools/convert_checkpoint.py IN.pth OUT_FOLDER [--overwrite]

IN.pth is a file of the official code or of mmdetection; docs/how_to/weights.md says what is taken from it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from glip.configuration import GlipConfig
from glip.errors import FileError, GlipError
from glip.models.glip import GlipModel
from glip.predictor import published_processor


def convert(source: Path, target: Path, *, overwrite: bool) -> str:
    """Read the checkpoint, write the folder, and say what the network is.

    Args:
        source: a `.pth` file.
        target: a folder; it is made where it does not exist.
        overwrite: whether files in the folder may be replaced.

    Raises:
        FileError: there is no such source, or the target must not be written.
        CheckpointError: the source is no GLIP checkpoint, or holds a tensor too many or too few.
    """
    check_target(target, overwrite=overwrite)
    model = GlipModel.from_original(source)
    model.save_pretrained(target)
    published_processor().save_pretrained(target)
    # `from_original` raises unless the file's tensors and the network's are the same.
    return (
        f"{describe(model.config)}\n{len(model.state_dict())} tensors, missing 0, unexpected 0\nwritten to {target}\n"
    )


def check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, a target that must not be written.

    Raises:
        FileError: the target is a file, or a folder with something in it and `overwrite` is not set.
    """
    if target.exists() and not target.is_dir():
        raise FileError(f"{target}: is a file; give a folder")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise FileError(f"{target}: the folder is not empty; give a new one, or add --overwrite")


def describe(config: GlipConfig) -> str:
    """The numbers that tell the variants apart, one line each."""
    backbone, text = config.backbone, config.text
    return "\n".join(
        [
            f"backbone: swin, embed_dim {backbone['embed_dim']}, depths {backbone['depths']}, "
            f"num_heads {backbone['num_heads']}, window_size {backbone['window_size']}",
            f"text encoder: {text['num_hidden_layers']} layers, hidden_size {text['hidden_size']}, "
            f"num_attention_heads {text['num_attention_heads']}, vocab_size {text['vocab_size']}",
            f"head: {config.num_blocks} blocks, channels {config.channels}, "
            + (f"fusion_dim {config.fusion_dim}" if config.fusion else "no fusion"),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; an expected error is one line on stderr and exit code 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="IN.pth", type=Path, help="a checkpoint of the official code or mmdetection")
    parser.add_argument("target", metavar="OUT_FOLDER", type=Path, help="where the converted model goes")
    parser.add_argument("--overwrite", action="store_true", help="replace files in a folder that is not empty")
    given = parser.parse_args(arguments)
    try:
        sys.stdout.write(convert(given.source, given.target, overwrite=given.overwrite))
    except GlipError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
