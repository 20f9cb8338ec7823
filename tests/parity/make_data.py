"""Make the compact copy in tests/parity/data: `python tests/parity/make_data.py ../shared/parity`.

Kept: weights, photo and the outputs of every module of the fused variant; the variant without fusion from its Swin
maps on; what training gives; all units; the key lists. Left out: the padded image (made again from the photo), the
finest level between modules (its head outputs are kept), pad tokens, and the second variant's Swin weights.
"""

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent / "data"
TOKENS = "tokens.attention_mask"
SWIN = "backbone.body."


def kept(name: str) -> bool:
    """Whether a recorded tensor goes into the compact copy."""
    return not (
        name in ("image.padded", "lang.aggregate", "lang.bert_embeddings", "swin.patch_embed", "swin.out.0", "fpn.0")
        or name.startswith(("head.cls_logits", "head.text_proj", "cand.", "anchors."))
        or name.endswith((".visual.0", ".call0"))
    )


def compact(variant: str, source: Path) -> None:
    """One small variant's evaluation record, captions cut to their real tokens."""
    record = np.load(source / f"{variant}_eval.npz")
    length = int(record[TOKENS].sum())
    arrays = {}
    for name in record.files:
        array = record[name]
        if not kept(name) or (variant == "public_a" and name.startswith(("dyconv_first", "image."))):
            continue
        if name.startswith("head.dot_product_logits"):
            array = array[..., :length]
        elif name.endswith("lang_hidden") or name in ("lang.hidden", "lang.embedded"):
            array = array[:, :length]
        arrays[name] = array
    np.savez_compressed(HERE / f"{variant}_eval.npz", **arrays)


def main() -> None:
    """Write all files."""
    source = Path(sys.argv[1])
    HERE.mkdir(exist_ok=True)
    for variant in ("public", "public_a"):
        compact(variant, source)
        weights = np.load(source / f"{variant}_weights_f16.npz")
        names = [name for name in weights.files if variant == "public" or not name.startswith(SWIN)]
        np.savez_compressed(HERE / f"{variant}_weights_f16.npz", **{name: weights[name] for name in names})
        for part in ("meta", "conditioning"):
            content = json.loads((source / f"{variant}_{part}.json").read_text())
            (HERE / f"{variant}_{part}.json").write_text(json.dumps(content, separators=(",", ":")))
    for name in ("public_train.npz", "public_units.npz"):
        record = np.load(source / name)
        dropped = ("anchors.", "batch_eval.fpn", "batch_eval.last_tower.visual.1") if "train" in name else ()
        np.savez_compressed(HERE / name, **{key: record[key] for key in record.files if not key.startswith(dropped)})
    for variant in ("t_a", "t_c", "l"):
        content = json.loads((source / f"keys_glip_{variant}.json").read_text())
        (HERE / f"keys_glip_{variant}.json").write_text(json.dumps(content, separators=(",", ":")))


if __name__ == "__main__":
    main()
