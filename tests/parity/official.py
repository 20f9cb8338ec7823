"""The official model's recorded numbers, and our model on the same weights and inputs.

Layout of the records: ../shared/parity/README.md. Recorded images are BGR, ours RGB.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from glip.models.dyhead import DyConv
from glip.models.glip import GlipBlock, GlipModel, flatten_levels, split_levels
from glip.processing import GlipImageProcessor
from glip.structures.output import GlipOutput
from glip.weights.official import our_name, read_official_checkpoint

DATA = Path(__file__).parent / "data"
HEAD_TOLERANCE = 2e-4
LEVELS = range(5)
PUBLISHED_MEAN = torch.tensor([123.675, 116.28, 103.53])  # RGB
PUBLISHED_STD = torch.tensor([58.395, 57.12, 57.375])


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

    def tolerance(self, name: str) -> float:
        """Ten times the official model's own float32 error, at least `HEAD_TOLERANCE`."""
        entry = self.conditioning.get(name, {})
        return max(HEAD_TOLERANCE, 10 * float(entry.get("max_abs_diff_f32_f64", 0.0)))

    def levels(self, name: str, last: int) -> Tensor:
        """A recorded output of all levels as one: `(B, A, last)`."""
        parts = [self[f"{name}.{level}"] for level in LEVELS]
        return torch.cat([p if p.ndim == 3 else p.flatten(2).transpose(1, 2) for p in parts], dim=1)[..., :last]

    def output(self) -> GlipOutput:
        """The recorded head outputs as our network would give them."""
        mask = self["tokens.attention_mask"].bool()
        logits = self.levels("head.dot_product_logits", mask.shape[1])
        length = logits.shape[2]
        return GlipOutput(
            alignment_logits=logits,
            box_deltas=self.levels("head.bbox_reg", 4),
            centerness_logits=self.levels("head.centerness", 1)[..., 0],
            level_shapes=tuple((s[2], s[3]) for s in (self[f"head.bbox_reg.{level}"].shape for level in LEVELS)),
            strides=(8, 16, 32, 64, 128),
            image_sizes=torch.tensor([self.meta["resized_hw"]]),
            input_ids=self["tokens.input_ids"][:, :length],
            attention_mask=mask[:, :length],
        )

    def token_map(self, length: int) -> Tensor:
        """The recorded label -> tokens map as `(P, L)` bool."""
        recorded = self.meta["positive_map_label_to_token"]
        token_map = torch.zeros(len(recorded), length, dtype=torch.bool)
        for label, tokens in recorded.items():
            token_map[int(label) - 1, tokens] = True
        return token_map

    def image(self) -> Tensor:
        """The network's input, RGB: recorded, or made again from the photo as the meta data say."""
        if "image.padded" in self:
            return self["image.padded"].flip(1)
        overrides = self.meta["cfg_overrides"]
        processor = GlipImageProcessor(
            short_side=overrides["INPUT.MIN_SIZE_TEST"], max_side=overrides["INPUT.MAX_SIZE_TEST"]
        )
        pixels: Tensor = processor(self.arrays["image.raw_rgb_uint8"])["pixel_values"]
        return pixels


def read_weights(path: Path) -> dict[str, Tensor]:
    """The official state dict, float tensors as float32."""
    arrays = np.load(path)
    tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    return {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in tensors.items()}


def load_official(state: dict[str, Tensor], meta: dict[str, Any], scratch: Path) -> GlipModel:
    """Our model from an official-layout file; the text encoder's heads, which no shape tells, from the meta data."""
    path = scratch / "official.pth"
    torch.save({"model": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    config, _ = read_official_checkpoint(path)
    config.text["num_attention_heads"] = meta["bert_config"]["num_attention_heads"]
    return GlipModel.from_original(path, config)


def run_recorded(model: GlipModel, levels: list[Tensor], ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """What every module behind the pyramid gives, by the names of the official records.

    Tower modules count fusion, text layer and DyConv one after the other, or DyConv alone without fusion.
    """
    seen: dict[str, Tensor] = {}
    words = model.text_encoder(ids, mask)
    seen["lang.hidden"] = words
    seen["lang.embedded"] = words * mask.unsqueeze(-1)
    if not model.config.fusion:
        words = seen["lang.embedded"]
    module = 0
    blocks = [block for block in model.blocks if isinstance(block, GlipBlock)]
    handles = record_dyconv(blocks[0].dyconv, seen)
    for block in blocks:
        if block.fused:
            image, words = block.fusion(flatten_levels(levels), words, mask)
            levels = split_levels(image, levels)
            seen[f"tower.{module}.VLFuse.lang_hidden"] = words
            seen |= {f"tower.{module}.VLFuse.visual.{index}": level for index, level in enumerate(levels)}
            words = block.text_layer(words, mask)
            seen[f"tower.{module + 1}.BertEncoderLayer.lang_hidden"] = words
            module += 2
        levels = block.dyconv(levels)
        seen |= {f"tower.{module}.DyConv.visual.{index}": level for index, level in enumerate(levels)}
        module += 1
    for handle in handles:
        handle.remove()
    return seen


def record_dyconv(dyconv: DyConv, seen: dict[str, Tensor]) -> list[RemovableHandle]:
    """Keep what the parts of a DyConv block give, call by call, under the official names."""
    parts = {
        "offset": dyconv.offset,
        "DyConv0": dyconv.from_coarser,
        "DyConv1": dyconv.from_same,
        "DyConv2": dyconv.from_finer,
    }
    calls = dict.fromkeys(parts, 0)

    def keep(part: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            seen[f"dyconv_first.{part}.call{calls[part]}"] = output
            calls[part] += 1

        return hook

    return [module.register_forward_hook(keep(part)) for part, module in parts.items()]


def without_dropout(model: GlipModel) -> GlipModel:
    """The model in training mode with every dropout off, as the training record was made."""
    model.train()
    for module in model.modules():
        for name in ("dropout", "probability", "p", "dropout_prob"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model


def normalize_bgr_record(image: Tensor) -> Tensor:
    """A recorded `(H, W, 3)` RGB photo as the network's `(3, H, W)` input."""
    return ((image.float() - PUBLISHED_MEAN) / PUBLISHED_STD).permute(2, 0, 1)


def ours(name: str, *, fused: bool = True) -> str:
    """Our name of an official parameter."""
    renamed = our_name(name, fused=fused)
    assert renamed is not None, name
    return renamed
