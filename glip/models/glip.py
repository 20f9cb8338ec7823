"""GLIP: Grounded Language-Image Pre-training (Li et al. 2021, arXiv 2112.03857), figure 2.

`GlipModel.forward` reads as the figure does: image pyramid, words, blocks of deep fusion, alignment.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForZeroShotObjectDetection

from glip.configuration import GlipConfig, complete_heads
from glip.errors import ConfigError, PromptError, ShapeError
from glip.layers.transformer import PostNormEncoderLayer
from glip.layers.two_way_attention import works_in_slices
from glip.models.alignment_head import AlignmentHead
from glip.models.backbones import build_backbone
from glip.models.cues import PlainCues
from glip.models.dyhead import DyConv
from glip.models.fpn import FeaturePyramid
from glip.models.fusion import BidirectionalFusion
from glip.models.heads.build import build_heads, run_heads
from glip.models.heads.decoding import DecodingRule, describe
from glip.models.strict import StrictModel, check_state
from glip.models.text_encoder import TextEncoder
from glip.structures.output import GlipFeatures, GlipOutput
from glip.structures.tasks import TaskInputs
from glip.weights.official import read_official_checkpoint

BACKBONE_LEVELS = 3
QUIET_SHARE = 0.01  # of what a residual block adds before it has learnt anything


class GlipBlock(nn.Module):
    """One round of the deep-fusion encoder: fusion, a text layer, a DyConv (GLIP, equations 4 to 6)."""

    def __init__(self, config: GlipConfig, encoder: TextEncoder) -> None:
        super().__init__()
        if config.fusion:
            self.fusion = BidirectionalFusion(
                config.channels,
                encoder.dim,
                fusion_dim=config.fusion_dim,
                num_heads=config.fusion_heads,
                dropout=config.fusion_dropout,
                initial_scale=QUIET_SHARE if config.residual else 1 / config.num_blocks,
                residual=config.residual,
            )
            self.text_layer = PostNormEncoderLayer(
                encoder.dim, num_heads=encoder.num_heads, feedforward_dim=encoder.feedforward_dim
            )
        self.fused = config.fusion
        self.dyconv = DyConv(config.channels, num_groups=config.num_groups)
        self.mixed_scale = nn.Parameter(torch.full((config.channels,), QUIET_SHARE)) if config.residual else None
        self.gradient_checkpointing = False  # as transformers has it: set by `gradient_checkpointing_enable`

    def forward(
        self,
        levels: Sequence[Tensor],
        words: Tensor,
        word_mask: Tensor,
        level_masks: Sequence[Tensor] | None,
    ) -> tuple[list[Tensor], Tensor]:
        """Let image and words see each other, then mix the levels.

        Args:
            levels: pyramid, `(B, C, H, W)` each.
            words: `(B, L, D)`.
            word_mask: `(B, L)` bool, True on real tokens.
            level_masks: `(B, H, W)` bool of each level, True on the image; None where padding takes part.

        Returns:
            Levels and words of the same shapes.
        """
        recompute = self.gradient_checkpointing and torch.is_grad_enabled()
        if self.fused:
            image_mask = None if level_masks is None else torch.cat([m.flatten(1) for m in level_masks], dim=1)
            image = flatten_levels(levels)
            if recompute and not works_in_slices(image):  # which would keep every score
                image, words = checkpoint(self.fusion, image, words, word_mask, image_mask, use_reentrant=False)
            else:
                image, words = self.fusion(image, words, word_mask, image_mask)
            words = self.text_layer(words, word_mask)
            levels = split_levels(image, levels)
        mixed: list[Tensor]
        if recompute:
            mixed = checkpoint(self.dyconv, levels, level_masks, use_reentrant=False)
        else:
            mixed = self.dyconv(levels, level_masks)
        if self.mixed_scale is not None:
            scale = self.mixed_scale[:, None, None]
            mixed = [level + scale * new for level, new in zip(levels, mixed, strict=True)]
        return mixed, words


class GlipModel(StrictModel):
    """Pixels and tokens in, `GlipOutput` out.

    Args:
        config: the network's numbers.
    """

    config_class = GlipConfig
    base_model_prefix = ""
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["GlipBlock", "SwinBlock", "BertLayer"]
    config: GlipConfig

    def __init__(self, config: GlipConfig) -> None:
        super().__init__(config)
        self.backbone = build_backbone(config.backbone)
        self.fpn = FeaturePyramid(
            self.backbone.channels,  # type: ignore[arg-type]  # `Backbone` says so, nn.Module does not
            config.channels,
            num_extra=len(config.strides) - BACKBONE_LEVELS,
            top_down=config.top_down,
            drop_block=config.drop_block,
        )
        self.cues = PlainCues(config.channels, num_levels=len(config.strides)) if config.cues else None
        self.text_encoder = TextEncoder(config.text)
        self.blocks = nn.ModuleList(GlipBlock(config, self.text_encoder) for _ in range(config.num_blocks))
        self.head = AlignmentHead(
            config.channels, self.text_encoder.dim, num_levels=len(config.strides), box_bins=config.box_bins
        )
        self.text_prompt = (
            nn.Parameter(torch.zeros(config.prompt_length, self.text_encoder.dim)) if config.prompt_length else None
        )
        self.heads = build_heads(config, self.text_encoder)
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        image_sizes: Tensor | None = None,
        *,
        tasks: TaskInputs | None = None,
        output_features: bool = False,
        **_: Any,
    ) -> GlipOutput:
        """Find what the captions name.

        Args:
            pixel_values: `(B, 3, H, W)` normalised RGB, padded on the right and bottom to a multiple of 32.
            input_ids: `(B, L)` int64 tokens of one caption per image.
            attention_mask: `(B, L)`, nonzero on real tokens; None if no caption is padded.
            image_sizes: `(B, 2)` (height, width) of each image without padding; None if no image is padded.
            tasks: what the heads are asked; None to ask none. Detection is the same either way.
            output_features: whether the output has `features`.

        Raises:
            ShapeError: the batch sizes differ.
            PromptError: a caption is longer than the network was made for.
        """
        output = self.align(
            self.encode_image(pixel_values, image_sizes),
            input_ids,
            attention_mask,
            image_sizes=image_sizes,
            output_features=output_features or tasks is not None,
        )
        if tasks is None or output.features is None:
            return output
        embedding = self.text_encoder.word_embedding
        said = run_heads(self.heads, self.config, output.features, output.attention_mask, tasks, embedding)
        return replace(output, tasks=said, features=output.features if output_features else None)

    def encode_image(self, pixel_values: Tensor, image_sizes: Tensor | None = None) -> list[Tensor]:
        """Backbone and pyramid.

        Args:
            pixel_values: `(B, 3, H, W)` normalised RGB.
            image_sizes: `(B, 2)` (height, width) without padding, which plain cues of places are measured by; None for
                images that fill the batch.

        Returns:
            `(B, C, Hl, Wl)` of each level, finest first.
        """
        levels: list[Tensor] = self.fpn(self.backbone(pixel_values))
        return levels if self.cues is None else self.cues(pixel_values, levels, image_sizes)

    def encode_words(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Words before they see an image, so that one caption can serve many images.

        Args:
            input_ids: `(B, L)` int64.
            attention_mask: `(B, L)`, nonzero on real tokens.

        Returns:
            `(B, L, D)`.

        Raises:
            PromptError: a caption is longer than the network was made for.
        """
        if input_ids.shape[1] > self.config.max_tokens:
            raise PromptError(
                f"a caption may have {self.config.max_tokens} tokens, got {input_ids.shape[1]}: shorten it, or split "
                "the class list"
            )
        word_mask = attention_mask.bool()
        words: Tensor = self.text_encoder(input_ids, word_mask)
        if not self.config.fusion:
            words = words * word_mask.unsqueeze(-1)  # GLIP-T (A) was trained with the pads' features zeroed
        if self.text_prompt is not None:
            words = words + self.text_prompt[: words.shape[1]]
        return words

    def align(
        self,
        levels: Sequence[Tensor],
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        image_sizes: Tensor | None = None,
        words: Tensor | None = None,
        output_features: bool = False,
    ) -> GlipOutput:
        """The part that needs both image and words, so that one pyramid can serve many captions.

        Args:
            levels: pyramid from `encode_image`; batch size B, or 1 to be looked at with B captions.
            input_ids: `(B, L)` int64.
            attention_mask: `(B, L)`, nonzero on real tokens; None if no caption is padded.
            image_sizes: `(B, 2)` (height, width) without padding; None if no image is padded.
            words: `(B, L, D)` that `encode_words` gave for these captions; None to encode them here.
            output_features: whether the output has `features`.
        """
        self._check_batch(levels, input_ids)
        if len(levels[0]) < len(input_ids):
            levels = [level.expand(len(input_ids), -1, -1, -1) for level in levels]
        word_mask = torch.ones_like(input_ids).bool() if attention_mask is None else attention_mask.bool()
        if image_sizes is None:
            image_sizes = self._full_sizes(levels)
        level_masks = self._level_masks(levels, image_sizes) if self.config.mask_padding else None
        if words is None:
            words = self.encode_words(input_ids, word_mask)
        plain_levels, plain_words = levels, words
        for block in self.blocks:
            levels, words = block(levels, words, word_mask, level_masks)
        alignment, deltas, centerness = self.head(
            flatten_levels(levels), words, [level.shape[2] * level.shape[3] for level in levels]
        )
        return GlipOutput(
            alignment_logits=alignment,
            box_deltas=deltas,
            centerness_logits=centerness,
            level_shapes=tuple((level.shape[2], level.shape[3]) for level in levels),
            strides=tuple(self.config.strides),
            image_sizes=image_sizes,
            input_ids=input_ids,
            attention_mask=word_mask,
            features=GlipFeatures(
                levels=tuple(levels),
                words=words,
                plain_levels=tuple(plain_levels),
                plain_words=plain_words,
                level_masks=tuple(self._level_masks(plain_levels, image_sizes)),
                strides=tuple(self.config.strides),
                alignment_logits=alignment,
            )
            if output_features
            else None,
        )

    def describe(
        self, pixel_values: Tensor, image_sizes: Tensor | None = None, *, rule: DecodingRule | None = None
    ) -> list[Tensor]:
        """Sentences about images, by the captioning head.

        Args:
            pixel_values: as `forward` takes them.
            image_sizes: as `forward` takes them.
            rule: how sentences are searched; beam search over BERT's vocabulary if None.

        Returns:
            For each image int64 tokens, start and end left out.

        Raises:
            ConfigError: the network has no captioning head.
        """
        if "captioning" not in self.heads:
            raise ConfigError("this network cannot write captions: add the head with with_heads({'captioning': {}})")
        levels = self.encode_image(pixel_values, image_sizes)
        sizes = self._full_sizes(levels) if image_sizes is None else image_sizes
        place = self.config.strides.index(self.config.heads["captioning"]["stride"])
        return describe(
            self.heads["captioning"],  # type: ignore[arg-type]  # nn.ModuleDict forgets what it holds
            levels[place],
            self._level_masks(levels, sizes)[place],
            self.text_encoder.word_embedding,
            rule or DecodingRule(),
        )

    def with_heads(self, heads: Mapping[str, Mapping[str, Any]]) -> Self:
        """A copy that has these heads, too; they are new, everything else stays as it is.

        Args:
            heads: as `GlipConfig.heads`; one that the network has already is replaced.

        Raises:
            ConfigError: a head or one of its numbers is unknown or impossible.
        """
        new = copy.deepcopy(self.config)
        new.heads = complete_heads("GlipModel", {name: dict(n) for name, n in heads.items()}, new.strides)
        model = copy.deepcopy(self)
        model.config.heads = {**model.config.heads, **new.heads}
        added = build_heads(new, self.text_encoder).to(self.device, self.dtype).train(self.training)
        model.heads.update(dict(added.items()))
        return model

    def without_heads(self) -> Self:
        """A copy that has detection only, with exactly the weights that it had without heads."""
        model = copy.deepcopy(self)
        model.config.heads = {}
        model.heads = nn.ModuleDict()
        return model

    def _check_batch(self, levels: Sequence[Tensor], input_ids: Tensor) -> None:
        images, captions = len(levels[0]), len(input_ids)
        if images not in (1, captions):
            raise ShapeError(f"each image needs one caption, got {images} images and {captions} captions")

    def _full_sizes(self, levels: Sequence[Tensor]) -> Tensor:
        """Sizes of images that fill their batch: `(B, 2)`."""
        batch, _, height, width = levels[0].shape
        stride = self.config.strides[0]
        return torch.tensor([[height * stride, width * stride]], device=levels[0].device).expand(batch, 2)

    def _level_masks(self, levels: Sequence[Tensor], image_sizes: Tensor) -> list[Tensor]:
        """`(B, H, W)` bool of each level, True where a position starts inside the unpadded image."""
        masks = []
        for level, stride in zip(levels, self.config.strides, strict=True):
            rows, columns = (torch.arange(n, device=level.device) * stride for n in level.shape[-2:])
            inside_rows = rows < image_sizes[:, :1].to(level.device)
            inside_columns = columns < image_sizes[:, 1:].to(level.device)
            masks.append(inside_rows[:, :, None] & inside_columns[:, None])
        return masks

    @classmethod
    def from_original(cls, path: str | Path, config: GlipConfig | None = None) -> Self:
        """Load weights that the official code or mmdetection wrote; nothing in the file is executed.

        Args:
            path: a `.pth` file.
            config: the network's numbers; None to tell the variant from the file.

        Raises:
            CheckpointError: the file is not such a checkpoint, or does not fit the network exactly.
            FileError: there is no such file.
        """
        config, state = read_official_checkpoint(path, config)
        with torch.device("meta"):
            model = cls(config)
        expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
        check_state(str(path), expected, state, config="GlipConfig")
        model = cls(config)
        model.load_state_dict(state)
        model.eval()
        return model


def flatten_levels(levels: Sequence[Tensor]) -> Tensor:
    """Positions of all levels behind each other, each level row by row: `(B, N, C)`."""
    return torch.cat([level.flatten(2) for level in levels], dim=2).transpose(1, 2)


def split_levels(image: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The inverse of `flatten_levels`, for levels of these shapes."""
    parts = image.transpose(1, 2).split([level.shape[2] * level.shape[3] for level in like], dim=2)
    return [part.unflatten(2, level.shape[2:]) for part, level in zip(parts, like, strict=True)]


AutoModelForZeroShotObjectDetection.register(GlipConfig, GlipModel)
