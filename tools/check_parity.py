"""Compare the library with records of the official model: every tensor, detection, loss and gradient in a folder.

    python tools/check_parity.py ../shared/parity [--skip-full]

Takes every variant `X` that has `X_meta.json` and `X_weights_f16.npz`, and the full-size ones (`full_*.json`), whose
weights are made by the rule that the folder's README names. Prints the largest difference of each kind and exits
with 1 if one is beyond its tolerance.
"""

import argparse
import json
import sys
import tempfile
import zlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glip.detection.anchors import make_anchors
from glip.detection.assigners import AtssAssigner
from glip.detection.losses import GlipCriterion
from glip.detection.postprocess import PostProcessor
from glip.models.glip import GlipModel
from glip.predictor import published_processor
from glip.processing import GlipImageProcessor
from glip.structures.targets import Targets
from glip.text.prompts import prompt_from_labels
from glip.text.tokens import tokenize_prompts
from tests.parity.official import (
    Record,
    load_official,
    normalize_bgr_record,
    ours,
    read_weights,
    run_recorded,
    without_dropout,
)

LOSS_TOLERANCE, NORM_TOLERANCE = 1e-4, 1e-3
HEAD_TOLERANCE = 2e-4
ZERO_GRADIENT = ".attention.self.key.bias"  # moves all scores of a query alike; what is left is noise


class Report:
    """Largest difference of each kind, as a share of its tolerance."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], tuple[float, float]] = {}

    def add(self, variant: str, kind: str, difference: float, tolerance: float) -> None:
        """Keep the difference that is nearest to its tolerance, or farthest beyond it."""
        before = self.rows.get((variant, kind))
        if before is None or difference / tolerance > before[0] / before[1]:
            self.rows[variant, kind] = (difference, tolerance)

    def add_tensor(self, variant: str, kind: str, found: Tensor, expected: Tensor, tolerance: float) -> None:
        """Compare two tensors."""
        self.add(variant, kind, float((found.detach() - expected).abs().max()), tolerance)

    def print(self) -> bool:
        """Write the table; whether all is within tolerance."""
        fine = True
        for (variant, kind), (difference, tolerance) in self.rows.items():
            holds = difference <= tolerance
            fine &= holds
            verdict = "ok" if holds else "BEYOND"
            sys.stdout.write(f"{variant:<18} {kind:<38} {difference:10.2e} of {tolerance:8.1e}  {verdict}\n")
        return fine


@torch.inference_mode()
def check_evaluation(folder: Path, variant: str, model: GlipModel, report: Report) -> None:
    """Every recorded tensor of one image, and detections from the recorded head outputs."""
    record = Record(folder, variant)
    ids, mask = record["tokens.input_ids"], record["tokens.attention_mask"].bool()
    real = int(mask.sum())
    maps = model.backbone(record.image())
    levels = model.fpn(maps)
    seen = {f"swin.out.{stage}": features for stage, features in zip((1, 2, 3), maps, strict=True)}
    seen |= {f"fpn.{index}": level for index, level in enumerate(levels)}
    seen |= run_recorded(model, levels, ids[:, :real], mask[:, :real])
    for name, tensor in seen.items():
        if name in record:
            expected = record[name][:, :real] if "lang" in name else record[name]
            report.add_tensor(variant, name.split(".")[0], tensor, expected, record.tolerance(name))
    expected_output = record.output()
    for length in (real, ids.shape[1]):
        output = model.align(levels, ids[:, :length], mask[:, :length])
        kind = f"head, {length} tokens"
        logits = output.alignment_logits[..., :real]
        report.add_tensor(variant, kind, logits, expected_output.alignment_logits[..., :real], HEAD_TOLERANCE)
        report.add_tensor(variant, kind, output.box_deltas, expected_output.box_deltas, HEAD_TOLERANCE)
        report.add_tensor(variant, kind, output.centerness_logits, expected_output.centerness_logits, HEAD_TOLERANCE)
    token_map = record.token_map(ids.shape[1])
    for aggregation in ("mean", "max"):
        boxes, scores, labels = PostProcessor(aggregation=aggregation).decode(expected_output, 0, token_map)
        prefix = f"det.{aggregation.upper()}"
        order = record[f"{prefix}.scores"].argsort(descending=True, stable=True)
        same = len(boxes) == len(order) and torch.equal(labels + 1, record[f"{prefix}.labels"][order])
        report.add(variant, f"detections, {aggregation}", 0.0 if same else 1.0, 0.5)
        if same:
            report.add_tensor(variant, f"detections, {aggregation}", boxes, record[f"{prefix}.boxes"][order], 1e-6)
            report.add_tensor(variant, f"detections, {aggregation}", scores, record[f"{prefix}.scores"][order], 1e-6)


def check_training(folder: Path, variant: str, model: GlipModel, report: Report) -> None:
    """Losses, assignment, gradients of one step."""
    record = Record(folder, variant, "train")
    train = record.meta["train"]
    count = len(train["images"])
    images = torch.zeros(count, 3, *train["padded"][2:])
    rows = record["positive_map"].bool()
    targets = []
    for index in range(count):
        pixels = normalize_bgr_record(record[f"image_rgb_uint8.{index}"])
        images[index, :, : pixels.shape[1], : pixels.shape[2]] = pixels
        boxes = record[f"gt_boxes.{index}"]
        targets.append(Targets(boxes, rows[: len(boxes)], torch.arange(len(boxes))))
        rows = rows[len(boxes) :]
    without_dropout(model)
    sizes = torch.tensor(train["image_sizes_hw"])
    output = model(images, record["tokens.input_ids"], record["tokens.attention_mask"], sizes)
    losses = GlipCriterion()(output, targets)
    torch.stack(list(losses.values())).sum().backward()
    names = {"loss_dot_product_token": "loss_alignment", "loss_reg": "loss_giou", "loss_centerness": "loss_centerness"}
    for official, name in names.items():
        expected = train["losses"][official]
        report.add(variant, "losses, relative", abs(losses[name].item() - expected) / abs(expected), LOSS_TOLERANCE)
    anchors = make_anchors(output.level_shapes, output.strides)
    for index, target in enumerate(targets):
        assigned = AtssAssigner()(
            anchors, output.levels, target, alignment_logits=output.alignment_logits[index], box_deltas=anchors
        )
        wrong = int((assigned != record[f"assign.matched_gt_index.{index}"]).sum())
        report.add(variant, "anchors assigned otherwise", wrong, 0.5)
    check_gradients(record, variant, model, report)
    model.zero_grad()


def check_gradients(record: Record, variant: str, model: GlipModel, report: Report) -> None:
    """Norms of all gradients, and the gradients that were recorded whole."""
    fused = bool(model.config.fusion)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    for official, norm in record.meta["train"]["grad_norms"].items():
        if not official.endswith(ZERO_GRADIENT):
            found = float(gradients[ours(official, fused=fused)].norm())
            report.add(variant, "gradient norms, relative", abs(found - norm) / max(abs(norm), 1e-6), NORM_TOLERANCE)
    for name in record.arrays.files:
        if name.startswith("grad.") and not name.endswith(ZERO_GRADIENT):
            expected = record[name]
            found = gradients[ours(name.removeprefix("grad."), fused=fused)].view(expected.shape)
            scale = max(float(expected.abs().max()), 1e-6)
            report.add_tensor(
                variant, "gradients, share of the largest", found / scale, expected / scale, NORM_TOLERANCE
            )


def full_weights(shapes: dict[str, list[int]], blocks: int, seed: int = 2024) -> dict[str, Tensor]:
    """The full-size records' weights: a normal draw for each tensor, seeded by its name, scaled by what it is."""
    state = {}
    for name, shape in shapes.items():
        if name.endswith("relative_position_index") or "cell_anchors" in name:
            state[name] = torch.zeros(shape)
            continue
        draw = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
        values = draw.standard_normal(tuple(shape)).astype(np.float32)
        scaled = np.asarray(scale_weights(name, values, blocks), np.float32)
        state[name] = torch.from_numpy(scaled.astype(np.float16).astype(np.float32))
    return state


VECTOR_RULES = (  # (what the name holds, offset, scale), first match
    ("AttnConv", 1.0, 0.5),
    (".offset.", 0.0, 0.5),
    ("", 0.0, 0.1),
)
GAINS = (
    (("attention.output.dense.weight", "output.dense.weight"), 0.4),
    (("dot_product_projection_text.weight",), 20.0),
    (("cls_logits.weight",), 0.5),
    ((".offset.weight",), 1.2),
)
LOUD = ("query", "key", "qkv", "v_proj", "l_proj", "bbox_pred", ".relu.fc", "DyConv")


def scale_weights(name: str, values: Any, blocks: int) -> Any:
    """One tensor's rule, by its official name."""
    constant = {"log_scale": 0.3, "bias0": -3.2}.get(name.rsplit(".", 1)[-1])
    if constant is not None:
        return np.full(values.shape, constant, np.float32)
    special = {
        "word_embeddings": (0.0, 1.0),
        "_embeddings": (0.0, 0.3),
        "relative_position_bias_table": (0.0, 0.5),
        "gamma_": (1 / blocks, 0.3 / blocks),
        "bias_lang": (0.0, 0.8),
        "scales.": (1.0, 0.2),
    }
    for part, (offset, scale) in special.items():
        if part in name:
            return offset + np.float32(scale) * values if part != "gamma_" else (1 + 0.3 * values) / blocks
    if values.ndim == 1:
        if name.endswith("weight"):
            return 1 + 0.2 * values
        offset, scale = next((o, s) for part, o, s in VECTOR_RULES if part in name)
        return offset + scale * values
    gain = 1.5 if any(part in name for part in LOUD) else 1.0
    gain = next((g for ends, g in GAINS if name.endswith(ends)), gain)
    return values * np.float32(gain / np.sqrt(np.prod(values.shape[1:])))


@torch.inference_mode()
def check_full(folder: Path, name: str, scratch: Path, report: Report) -> None:
    """One full-size model: sampled tensors, the coarse levels' head outputs, and detections."""
    meta = json.loads((folder / f"{name}.json").read_text())
    arrays = np.load(folder / f"{name}.npz")
    keys = folder / f"keys_glip_{name.removeprefix('full_glip_')}.json"
    state = full_weights(json.loads(keys.read_text()), meta["num_convs"])
    model = load_official(state, {"bert_config": {"num_attention_heads": 12}}, scratch)
    del state
    short, long = meta["min_max_size"]
    photo = np.load(folder / "public_eval.npz")["image.raw_rgb_uint8"]
    features = GlipImageProcessor(short_side=short, max_side=long)(photo)
    prompt = prompt_from_labels(meta["categories"])
    words = tokenize_prompts([prompt], published_processor().tokenizer)
    missing = 256 - words.input_ids.shape[1]
    ids, mask = (torch.nn.functional.pad(t, (0, missing)) for t in (words.input_ids, words.attention_mask))
    maps = model.backbone(features["pixel_values"])
    levels = model.fpn(maps)
    seen = {f"swin.out.{stage}": f for stage, f in zip((1, 2, 3), maps, strict=True)}
    seen |= {f"fpn.{index}": level for index, level in enumerate(levels)}
    seen |= run_recorded(model, levels, ids, mask)
    output = model.align(levels, ids, mask, image_sizes=features["image_sizes"])
    for index, level in enumerate(output.levels):
        height, width = output.level_shapes[index]
        seen[f"head.dot_product_logits.{index}"] = output.alignment_logits[:, level]
        seen[f"head.bbox_reg.{index}"] = output.box_deltas[:, level].transpose(1, 2).unflatten(2, (height, width))
        seen[f"head.centerness.{index}"] = output.centerness_logits[:, level].view(1, 1, height, width)
    compared: dict[str, int] = defaultdict(int)
    for tensor, stats in meta["stats"].items():
        if tensor in seen and f"sample.{tensor}.index" in arrays.files:
            found = seen[tensor].flatten()[torch.from_numpy(arrays[f"sample.{tensor}.index"]).long()]
            kind = tensor.split(".")[0]
            expected = torch.from_numpy(arrays[f"sample.{tensor}.value"])
            report.add_tensor(name, f"{kind}, sampled", found, expected, max(1e-3, 1e-4 * stats["absmax"]))
            compared[kind] += 1
    sys.stdout.write(f"{name}: sampled tensors compared {dict(compared)}\n")
    check_full_detections(arrays, name, output, words.token_maps[0], report)


def check_full_detections(arrays: Any, name: str, output: Any, token_map: Tensor, report: Report) -> None:
    """End to end at most 2 of 100 detections may differ."""
    padded = torch.nn.functional.pad(token_map, (0, output.alignment_logits.shape[2] - token_map.shape[1]))
    for aggregation in ("mean", "max"):
        boxes, scores, labels = PostProcessor(aggregation=aggregation).decode(output, 0, padded)
        prefix = f"det.{aggregation.upper()}"
        recorded = [torch.from_numpy(arrays[f"{prefix}.{part}"]) for part in ("boxes", "scores", "labels")]
        unmatched = 0
        for box, score, label in zip(*recorded, strict=True):
            same = ((boxes - box).abs().amax(dim=1) < 0.1) & ((scores - score).abs() < 1e-3) & (labels + 1 == label)
            unmatched += int(not same.any())
        report.add(name, f"detections that differ, {aggregation}", unmatched, 2.5)


def main() -> int:
    """Check a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--skip-full", action="store_true", help="leave the full-size models out")
    arguments = parser.parse_args()
    report = Report()
    with tempfile.TemporaryDirectory() as scratch:
        for path in sorted(arguments.folder.glob("*_weights_f16.npz")):
            variant = path.name.removesuffix("_weights_f16.npz")
            meta = json.loads((arguments.folder / f"{variant}_meta.json").read_text())
            model = load_official(read_weights(path), meta, Path(scratch))
            check_evaluation(arguments.folder, variant, model, report)
            if (arguments.folder / f"{variant}_train.npz").exists():
                check_training(arguments.folder, variant, model, report)
        for path in [] if arguments.skip_full else sorted(arguments.folder.glob("full_*.json")):
            check_full(arguments.folder, path.stem, Path(scratch), report)
    return 0 if report.print() else 1


if __name__ == "__main__":
    sys.exit(main())
