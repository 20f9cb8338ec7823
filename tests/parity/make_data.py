"""Make the compact copy in tests/parity/data: `python tests/parity/make_data.py ../shared/parity`.

Kept of the fused variant: weights, photo and the output of every module; of the variant without fusion: the head and
tower, from its Swin maps on (its Swin weights are left out); all of the training step; all units; the key lists.

To stay small, maps of the finest level between modules keep every `CHANNEL_STEP`th channel, words keep their real
tokens (both ends of the language path keep all 256, so that padding is checked too), and the padded image keeps
`IMAGE_ROWS` of its rows: the tests make it again from the photo.
"""

import json
import lzma
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent / "data"
CHANNEL_STEP = 8
IMAGE_ROWS = (0, 1, 100, 207, -1)  # the last is padding
MASK = "tokens.attention_mask"
SWIN = "backbone.body."
NEVER_OURS = ("lang.aggregate", "lang.masks", "tokens.special_tokens_mask", "head.cls_logits")
PADDED_WORDS = ("lang.hidden", "tower.4.BertEncoderLayer.lang_hidden")
PADDED_LOGIT_LEVELS = ("2", "3", "4")
FINEST = {
    *("swin.patch_embed", "swin.out.0", "fpn.0"),
    *("dyconv_first.offset.call0", "dyconv_first.DyConv1.call0"),  # the other parts' first call is at level 1
    *("batch_eval.fpn.1", "batch_eval.last_tower.visual.1"),
}

Array = Any  # numpy arrays of any type and shape


def thin(name: str, array: Array) -> Array:
    """A map of the finest level with every eighth channel; anything else as it is."""
    return array[:, ::CHANNEL_STEP] if name in FINEST or name.endswith(".visual.0") else array


def shorten(name: str, array: Array, length: int) -> Array:
    """Words and logits without their padding, where that is not to be checked."""
    if name.startswith("head.dot_product_logits"):
        return array if name.endswith(PADDED_LOGIT_LEVELS) else array[..., :length]
    is_words = name.startswith(("lang.", "head.text_proj")) or name.endswith("lang_hidden")
    return array[:, :length] if is_words and name not in PADDED_WORDS else array


def compact(variant: str, source: Path) -> dict[str, Array]:
    """One small variant's evaluation record."""
    record = np.load(source / f"{variant}_eval.npz")
    length = int(record[MASK].sum())
    dropped = NEVER_OURS if variant == "public" else (*NEVER_OURS, "dyconv_first", "swin.patch_embed", "swin.out.0")
    arrays = {"channel_step": np.array(CHANNEL_STEP)}
    for name in record.files:
        if name == "image.padded":
            arrays["image.rows"] = record[name][:, :, list(IMAGE_ROWS)]
        elif name.startswith("image.") and variant != "public":
            continue
        elif not name.startswith(dropped):
            arrays[name] = thin(name, shorten(name, record[name], length))
    return arrays


def main() -> None:
    """Write all files."""
    source = Path(sys.argv[1])
    HERE.mkdir(exist_ok=True)
    for variant in ("public", "public_a"):
        np.savez_compressed(HERE / f"{variant}_eval.npz", **compact(variant, source))
        weights = np.load(source / f"{variant}_weights_f16.npz")
        names = [name for name in weights.files if variant == "public" or not name.startswith(SWIN)]
        np.savez_compressed(HERE / f"{variant}_weights_f16.npz", **{name: weights[name] for name in names})
        for part in ("meta", "conditioning"):
            content = json.loads((source / f"{variant}_{part}.json").read_text())
            (HERE / f"{variant}_{part}.json").write_text(json.dumps(content, separators=(",", ":")))
    train, units = np.load(source / "public_train.npz"), np.load(source / "public_units.npz")
    arrays = {"channel_step": np.array(CHANNEL_STEP), **{name: thin(name, train[name]) for name in train.files}}
    np.savez_compressed(HERE / "public_train.npz", **arrays)
    np.savez_compressed(HERE / "public_units.npz", **{name: units[name] for name in units.files})
    keys = {v: json.loads((source / f"keys_glip_{v}.json").read_text()) for v in ("t_a", "t_b", "t_c", "l")}
    (HERE / "keys_glip.json.xz").write_bytes(lzma.compress(json.dumps(keys, separators=(",", ":")).encode()))
    (HERE / "edge_cases.json").write_text((source / "edge_cases.json").read_text().rstrip() + "\n")


if __name__ == "__main__":
    main()
