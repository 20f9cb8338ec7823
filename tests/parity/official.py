"""The official model's recorded numbers, and our model on the same weights and inputs.

Layout of the records: ../shared/parity/README.md; what the compact copy leaves out: `make_data.py`. Recorded images
are BGR, ours RGB.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from glip.detection.postprocess import Aggregation, PostProcessor
from glip.models.glip import GlipModel
from glip.processing import GlipImageProcessor
from glip.structures.output import GlipOutput
from glip.structures.targets import Targets
from glip.weights.official import our_name, read_official_checkpoint

DATA = Path(__file__).parent / "data"
HEAD_TOLERANCE = 2e-4  # absolute, of head outputs; of other tensors the least tolerance
HEAD_OUTPUTS = ("head.bbox_reg", "head.centerness", "head.dot_product_logits")
LEVELS = range(5)
STRIDES = (8, 16, 32, 64, 128)
# A bias of a text layer's attention keys moves all scores of a query alike: its gradient is 0, what is left is noise.
ZERO_GRADIENT = ".attention.self.key.bias"
LOSS_NAMES = {
    "loss_dot_product_token": "loss_alignment",
    "loss_reg": "loss_giou",
    "loss_centerness": "loss_centerness",
}


class Comparison(NamedTuple):
    """Two tensors that should be one."""

    name: str
    found: Tensor
    expected: Tensor
    tolerance: float


def assert_agrees(comparison: Comparison) -> None:
    """Fail, and name the tensor, if one number differs by more than the tolerance."""
    name, found, expected, tolerance = comparison
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0, msg=lambda text: f"{name}: {text}")


class Record:
    """One variant's folder: recorded tensors, meta data, and the tolerance of each tensor."""

    def __init__(self, folder: Path, variant: str, part: str = "eval") -> None:
        self.arrays = np.load(folder / f"{variant}_{part}.npz")
        self.meta = json.loads((folder / f"{variant}_meta.json").read_text())
        conditioning = folder / f"{variant}_conditioning.json"
        self.conditioning = json.loads(conditioning.read_text()) if conditioning.exists() else {}

    def __contains__(self, name: str) -> bool:
        """Whether a tensor was recorded."""
        return name in self.arrays.files

    def __getitem__(self, name: str) -> Tensor:
        """A recorded tensor."""
        return torch.from_numpy(self.arrays[name])

    @property
    def tensor_names(self) -> set[str]:
        """The recorded outputs of modules."""
        groups = ("swin.", "fpn.", "lang.", "tower.", "dyconv_first.", "head.")
        return {name for name in self.arrays.files if name.startswith(groups)}

    def tolerance(self, name: str) -> float:
        """2e-4 of head outputs; elsewhere ten times the official model's own float32 error, if that is more."""
        if name.startswith(HEAD_OUTPUTS):
            return HEAD_TOLERANCE
        entry = self.conditioning.get(name, {})
        return max(HEAD_TOLERANCE, 10 * float(entry.get("max_abs_diff_f32_f64", 0.0)))

    def comparisons(self, seen: dict[str, Tensor], *, real: int, prefix: str = "") -> Iterator[Comparison]:
        """Pair every recorded tensor with ours, cut to what both hold.

        Args:
            seen: ours, by the official names.
            real: words count up to this one.
            prefix: of the recorded names.
        """
        for name, tensor in seen.items():
            if prefix + name not in self:
                continue
            found, expected = tensor.detach(), self[prefix + name]
            axis = 2 if "dot_product_logits" in name else 1
            if found.ndim == 4 and found.shape[1] != expected.shape[1]:  # the compact copy's finest level
                found = found[:, :: int(self.arrays["channel_step"])]
            elif found.ndim == 3:
                length = min(real, expected.shape[axis])
                found, expected = found.narrow(axis, 0, length), expected.narrow(axis, 0, length)
            yield Comparison(prefix + name, found, expected, self.tolerance(prefix + name))

    def levels(self, name: str) -> Tensor:
        """A recorded output of all levels as one, `(B, A, last)`; logits as far as all levels hold them."""
        parts = [self[f"{name}.{level}"] for level in LEVELS]
        rows = [part if part.ndim == 3 else part.flatten(2).transpose(1, 2) for part in parts]
        last = min(part.shape[2] for part in rows)
        return torch.cat([part[..., :last] for part in rows], dim=1)

    def output(self) -> GlipOutput:
        """The recorded head outputs as our network would give them."""
        logits = self.levels("head.dot_product_logits")
        length = logits.shape[2]
        return GlipOutput(
            alignment_logits=logits,
            box_deltas=self.levels("head.bbox_reg"),
            centerness_logits=self.levels("head.centerness")[..., 0],
            level_shapes=tuple((s[2], s[3]) for s in (self[f"head.bbox_reg.{level}"].shape for level in LEVELS)),
            strides=STRIDES,
            image_sizes=torch.tensor([self.meta["resized_hw"]]),
            input_ids=self["tokens.input_ids"][:, :length],
            attention_mask=self["tokens.attention_mask"][:, :length].bool(),
        )

    def post_processor(self, aggregation: Aggregation) -> PostProcessor:
        """The rules that the record was made with."""
        post = self.meta["post"]
        return PostProcessor(
            candidate_threshold=post["pre_nms_thresh"],
            candidates_per_level=post["pre_nms_top_n"],
            nms_threshold=post["nms_thresh"],
            max_detections=post["detections_per_img"],
            aggregation=aggregation,
        )

    def words(self, *, padded: bool) -> tuple[Tensor, Tensor]:
        """Ids and mask of the caption, as long as it is or padded to 256."""
        ids, mask = self["tokens.input_ids"], self["tokens.attention_mask"].bool()
        length = ids.shape[1] if padded else int(mask.sum(dim=1).max())
        return ids[:, :length], mask[:, :length]

    def detections(self, prefix: str, *, boxes: str = "boxes") -> tuple[Tensor, Tensor, Tensor]:
        """Recorded boxes, scores and labels, best first; labels count from 0 as ours do."""
        scores = self[f"{prefix}.scores"]
        order = scores.argsort(descending=True, stable=True)
        return self[f"{prefix}.{boxes}"][order], scores[order], self[f"{prefix}.labels"][order] - 1

    def image(self, photo: Any = None) -> Tensor:
        """The network's input, RGB: recorded, or made again from the photo as the meta data say."""
        if "image.padded" in self:
            return self["image.padded"].flip(1)
        overrides = self.meta["cfg_overrides"]
        processor = GlipImageProcessor(
            short_side=overrides["INPUT.MIN_SIZE_TEST"], max_side=overrides["INPUT.MAX_SIZE_TEST"]
        )
        pixels: Tensor = processor(self.arrays["image.raw_rgb_uint8"] if photo is None else photo)["pixel_values"]
        return pixels

    def training_images(self) -> tuple[Tensor, Tensor]:
        """The batch of the training record, padded, and the true sizes."""
        train = self.meta["train"]
        mean, std = (torch.tensor(self.meta[name]).flip(0) for name in ("pixel_mean", "pixel_std"))
        images = torch.zeros(*train["padded"])
        for index, image in enumerate(images):
            pixels = ((self[f"image_rgb_uint8.{index}"].float() - mean) / std).permute(2, 0, 1)
            image[:, : pixels.shape[1], : pixels.shape[2]] = pixels
        return images, torch.tensor(train["image_sizes_hw"])

    def training_targets(self, length: int) -> list[Targets]:
        """The truth of the training record, with token maps of this length."""
        boxes = [self[f"gt_boxes.{index}"] for index in range(self.meta["train"]["padded"][0])]
        rows = self["positive_map"][:, :length].bool().split([len(part) for part in boxes])
        return [Targets(part, row, torch.arange(len(part))) for part, row in zip(boxes, rows, strict=True)]


def token_map_of(recorded: dict[str, list[int]], length: int) -> Tensor:
    """A recorded label -> tokens map as `(P, L)` bool; label 1 is row 0."""
    token_map = torch.zeros(len(recorded), length, dtype=torch.bool)
    for label, tokens in recorded.items():
        token_map[int(label) - 1, tokens] = True
    return token_map


def read_weights(path: Path) -> dict[str, Tensor]:
    """The official state dict, float tensors as float32."""
    arrays = np.load(path)
    tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    return {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in tensors.items()}


def load_official(state: dict[str, Tensor], meta: dict[str, Any], scratch: Path) -> GlipModel:
    """Our model from an official-layout file; what no shape tells, from the meta data."""
    path = scratch / "official.pth"
    torch.save({"model": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    config, _ = read_official_checkpoint(path)
    bert = meta.get("bert_config", {})
    config.text["num_attention_heads"] = bert.get("num_attention_heads", config.text["num_attention_heads"])
    config.fusion_heads = meta.get("fuse_num_heads", config.fusion_heads)
    config.num_groups = meta.get("gn_groups", config.num_groups)
    model = GlipModel.from_original(path, config)
    path.unlink()
    return model


def without_dropout(model: GlipModel) -> GlipModel:
    """The model in training mode with every dropout off, as the training record was made."""
    model.train()
    for module in model.modules():
        for name in ("dropout", "probability", "p", "dropout_prob"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model


def ours(name: str, *, fused: bool = True) -> str:
    """Our name of an official parameter."""
    renamed = our_name(name, fused=fused)
    assert renamed is not None, name
    return renamed
