"""CLIP: Learning Transferable Visual Models From Natural Language Supervision (Radford et al. 2021, arXiv 2103.00020).

Figure 3 of the paper over GLIP's own towers: what is learnt here starts a `GlipModel`, and the other way round
(`copy_towers`).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig

from glip.clip_configuration import MAX_SCALE, ClipConfig
from glip.errors import CheckpointError, PromptError
from glip.layers.pooling import AttentionPool, masked_mean
from glip.models.backbones import build_backbone
from glip.models.dual_encoder import DualEncoder
from glip.models.glip import GlipModel
from glip.models.strict import check_state
from glip.models.text_encoder import TextEncoder

MAX_LOG_SCALE = math.log(MAX_SCALE)
TRAINING_ONLY = {"drop_path_rate", "hidden_dropout_prob", "attention_probs_dropout_prob"}
"""Numbers of a tower that change nothing outside of training."""


class ClipModel(DualEncoder):
    """Pixels and tokens in, `ClipOutput` out.

    Args:
        config: the network's numbers.
    """

    config_class = ClipConfig
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["SwinBlock", "BertLayer"]
    config: ClipConfig

    def __init__(self, config: ClipConfig) -> None:
        super().__init__(config)
        self.backbone = build_backbone(config.backbone)
        self.text_encoder = TextEncoder(config.text)
        width: int = self.backbone.channels[-1]  # type: ignore[index, assignment]  # `Backbone` says so, not nn.Module
        self.image_pool = (
            AttentionPool(width, num_heads=config.pool_heads) if config.image_pool == "attention" else None
        )
        self.image_projection = _projection(width, config.embed_dim)
        self.text_projection = _projection(self.text_encoder.dim, config.embed_dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.initial_scale)))
        bias = config.initial_bias
        self.logit_bias = None if bias is None else nn.Parameter(torch.tensor(float(bias)))
        self.post_init()

    def encode_images(self, pixel_values: Tensor) -> Tensor:
        """`(B, 3, H, W)` normalised RGB to `(B, D)` of L2 norm 1."""
        coarsest = self.backbone(pixel_values)[-1]
        pooled = masked_mean(coarsest, None) if self.image_pool is None else self.image_pool(coarsest)
        return F.normalize(self.image_projection(pooled).float(), dim=-1)

    def encode_texts(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Encode texts.

        Args:
            input_ids: `(B, L)` int64.
            attention_mask: `(B, L)`, nonzero on real tokens; None if no text is padded.

        Returns:
            `(B, D)` of L2 norm 1.

        Raises:
            PromptError: a text is longer than the network was made for.
        """
        if input_ids.shape[1] > self.config.max_tokens:
            raise PromptError(
                f"a text may have {self.config.max_tokens} tokens, got {input_ids.shape[1]}: shorten it, or let "
                "ClipProcessor cut it"
            )
        mask = torch.ones_like(input_ids).bool() if attention_mask is None else attention_mask.bool()
        words = self.text_encoder(input_ids, mask)
        if self.config.text_pool == "first":
            pooled = words[:, 0]
        else:
            pooled = (words * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)
        return F.normalize(self.text_projection(pooled).float(), dim=-1)

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Bring the scale back to at most 100; to be called after each optimiser step (CLIP, section 2.5)."""
        self.log_scale.clamp_(max=MAX_LOG_SCALE)


def copy_towers(source: GlipModel | ClipModel, target: GlipModel | ClipModel) -> None:
    """Let a network start from the image and text encoder of another: a GLIP from a CLIP, or a CLIP from a GLIP.

    Everything else of the target stays as it is. Afterwards both give the same maps and the same words.

    Args:
        source: whose encoders are copied.
        target: whose encoders are overwritten.

    Raises:
        CheckpointError: the configs describe other encoders, or a tensor does not fit; nothing was copied then.
    """
    for part, own, given in (
        ("backbone", target.config.backbone, source.config.backbone),
        ("text", BertConfig(**target.config.text).to_dict(), BertConfig(**source.config.text).to_dict()),
    ):
        for name in sorted({*own, *given} - TRAINING_ONLY):
            if own.get(name) != given.get(name):
                raise CheckpointError(
                    f"{part}.{name} is {given.get(name)!r} in the network that is copied and {own.get(name)!r} in the "
                    "one that starts from it; give both the same encoders"
                )
    towers = [(source.backbone, target.backbone), (source.text_encoder, target.text_encoder)]
    for given_tower, own_tower in towers:
        expected = {name: tensor.shape for name, tensor in own_tower.state_dict().items()}
        check_state("the copied encoder", expected, given_tower.state_dict(), config="config")
    for given_tower, own_tower in towers:
        own_tower.load_state_dict(given_tower.state_dict())


def _projection(width: int, embed_dim: int) -> nn.Linear:
    """A linear map without bias that keeps a vector's expected length."""
    projection = nn.Linear(width, embed_dim, bias=False)
    nn.init.normal_(projection.weight, std=width**-0.5)
    return projection
