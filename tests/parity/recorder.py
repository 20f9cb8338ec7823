"""What every module of our network gives while it runs, under the names that the official records use."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from glip.models.glip import GlipModel
from glip.structures.output import GlipOutput

DYCONV_PARTS = {"offset": "offset", "DyConv0": "from_coarser", "DyConv1": "from_same", "DyConv2": "from_finer"}


@contextmanager
def recording(model: GlipModel) -> Iterator[dict[str, Tensor]]:
    """Fill a dict while the network runs, by forward hooks; nothing is run twice or in another order."""
    recorder = _Recorder(model)
    recorder.watch_encoders()
    for index in range(model.config.num_blocks):
        recorder.watch_block(index)
    recorder.watch_first_dyconv()
    recorder.before("head.word_projection", lambda inputs: recorder.keep("head.text_proj.in", inputs[0]))
    recorder.after("head.word_projection", lambda output: recorder.keep("head.text_proj.out", output))
    try:
        yield recorder.seen
    finally:
        for handle in recorder.handles:
            handle.remove()


class _Recorder:
    """Hooks on a model's modules, by name, and what they have seen."""

    def __init__(self, model: GlipModel) -> None:
        self.model = model
        self.seen: dict[str, Tensor] = {}
        self.handles: list[RemovableHandle] = []

    def keep(self, name: str, tensor: Tensor) -> None:
        self.seen[name] = tensor

    def keep_levels(self, prefix: str, levels: Sequence[Tensor], first: int = 0) -> None:
        self.seen |= {f"{prefix}.{first + index}": level for index, level in enumerate(levels)}

    def after(self, module: str, act: Callable[[Any], None]) -> None:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            act(output)

        self.handles.append(self.model.get_submodule(module).register_forward_hook(hook))

    def before(self, module: str, act: Callable[[tuple[Any, ...]], None]) -> None:
        def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            act(inputs)

        self.handles.append(self.model.get_submodule(module).register_forward_pre_hook(hook))

    def watch_encoders(self) -> None:
        """Swin's maps, the pyramid, BERT."""
        self.after("backbone.patch_embed", lambda output: self.keep("swin.patch_embed", output.permute(0, 3, 1, 2)))
        self.after("backbone.layers.0", lambda output: self.keep("swin.out.0", output[0].permute(0, 3, 1, 2)))
        self.after("backbone", lambda output: self.keep_levels("swin.out", output, first=1))
        self.after("fpn", lambda output: self.keep_levels("fpn", output))
        self.after("text_encoder.bert.embeddings", lambda output: self.keep("lang.bert_embeddings", output))
        self.after("text_encoder", lambda output: self.keep("lang.hidden", output))
        if not self.model.config.fusion:
            self.before("blocks.0", lambda inputs: self.keep("lang.embedded", inputs[1]))

    def watch_block(self, index: int) -> None:
        """The official tower counts fusion, text layer and DyConv one after the other, or DyConv alone."""
        block, module = f"blocks.{index}", index
        if self.model.config.fusion:
            module = 3 * index + 2
            fuse, layer = f"tower.{module - 2}.VLFuse", f"tower.{module - 1}.BertEncoderLayer"
            self.after(f"{block}.fusion", lambda output: self.keep(f"{fuse}.lang_hidden", output[1]))
            self.before(f"{block}.dyconv", lambda inputs: self.keep_levels(f"{fuse}.visual", inputs[0]))
            self.before(f"{block}.dyconv", lambda inputs: self.keep_levels(f"{layer}.visual", inputs[0]))
            self.after(f"{block}.text_layer", lambda output: self.keep(f"{layer}.lang_hidden", output))
        self.after(block, lambda output: self.keep_levels(f"tower.{module}.DyConv.visual", output[0]))
        self.after(block, lambda output: self.keep(f"tower.{module}.DyConv.lang_hidden", output[1]))

    def watch_first_dyconv(self) -> None:
        """Each part of the first DyConv, call by call."""
        for official, ours in DYCONV_PARTS.items():
            self.after(f"blocks.0.dyconv.{ours}", self._count_calls(f"dyconv_first.{official}"))
        keep_call = self._count_calls("dyconv_first.dyrelu_coef")
        self.after("blocks.0.dyconv.activation.excite", lambda output: keep_call(F.hardsigmoid(output)))

    def _count_calls(self, name: str) -> Callable[[Tensor], None]:
        calls = 0

        def keep_call(output: Tensor) -> None:
            nonlocal calls
            self.seen[f"{name}.call{calls}"] = output
            calls += 1

        return keep_call


def by_level(output: GlipOutput) -> dict[str, Tensor]:
    """The network's outputs in the official layout: boxes and centerness as maps, logits as rows."""
    named = {}
    for index, (level, size) in enumerate(zip(output.levels, output.level_shapes, strict=True)):
        named[f"head.dot_product_logits.{index}"] = output.alignment_logits[:, level]
        named[f"head.bbox_reg.{index}"] = output.box_deltas[:, level].transpose(1, 2).unflatten(2, size)
        named[f"head.centerness.{index}"] = output.centerness_logits[:, None, level].unflatten(2, size)
    return named


def count_unmatched(
    found: tuple[Tensor, Tensor, Tensor], recorded: tuple[Tensor, Tensor, Tensor], *, pixels: float, score: float
) -> int:
    """How many recorded detections (boxes, scores, labels) have no counterpart; each counterpart serves once."""
    boxes, scores, labels = found
    free = torch.ones(len(boxes), dtype=torch.bool)
    unmatched = 0
    for box, value, label in zip(*recorded, strict=True):
        near = ((boxes - box).abs().amax(dim=1) < pixels) & ((scores - value).abs() < score) & (labels == label) & free
        if near.any():
            free[int(near.nonzero()[0])] = False
        else:
            unmatched += 1
    return unmatched
