"""What published CLIPs have in common (Radford et al. 2021, section 2.4): the text tower, and how weights are read."""

import math
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glip.clip_configuration import PublishedClipConfig, ResNetClipConfig, VitClipConfig
from glip.errors import CheckpointError, PromptError, ShapeError
from glip.layers.pre_norm import PreNormLayer
from glip.models.dual_encoder import DualEncoder
from glip.models.strict import check_state
from glip.weights.clip_openai import read_openai_clip

READERS = {VitClipConfig.model_type: "VitClipModel", ResNetClipConfig.model_type: "ResNetClipModel"}  # for errors


class PublishedClipModel(DualEncoder):
    """A causal text transformer, and an image tower that a child adds; what a `ClipModel` says, it says, too.

    Args:
        config: the network's numbers.
    """

    config: PublishedClipConfig

    def __init__(self, config: PublishedClipConfig) -> None:
        super().__init__(config)
        width = config.text_width
        self.tokens = nn.Embedding(config.vocab_size, width)
        nn.init.normal_(self.tokens.weight, std=0.02)
        self.text_positions = nn.Parameter(0.01 * torch.randn(config.max_tokens, width))
        self.text_layers = nn.ModuleList(
            PreNormLayer(
                width,
                num_heads=config.text_heads,
                feedforward_dim=4 * width,
                quick_gelu=config.quick_gelu,
                is_causal=True,
            )
            for _ in range(config.text_layers)
        )
        self.text_norm = nn.LayerNorm(width)
        self.text_projection = nn.Linear(width, config.embed_dim, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.logit_bias = None

    @classmethod
    def from_openai(cls, path: str | Path, *, quick_gelu: bool, head_width: int = 64) -> Self:
        """Load weights under OpenAI's names, as open_clip saves them; nothing in the file is executed.

        Args:
            path: a file of plain tensors (`.pt`, `.pth`, `.bin`) or `.safetensors`.
            quick_gelu: whether it was trained with QuickGELU (all of OpenAI's) or GELU; no file says it, and the wrong
                one costs accuracy silently.
            head_width: of an attention head; 64 in all published towers up to L, and in all ResNets.

        Raises:
            FileError: there is no such file.
            CheckpointError: it is another model, has the other kind of image tower, or does not fit exactly.
        """
        config, state = read_openai_clip(path, quick_gelu=quick_gelu, head_width=head_width)
        if config.model_type != cls.config_class.model_type:  # type: ignore[union-attr]  # each child has one
            reader = READERS[config.model_type]
            raise CheckpointError(f"{path}: has another image tower than a {cls.__name__}; read it by {reader}")
        return cls._of(str(path), config, state)

    @classmethod
    def _of(cls, source: str, config: PublishedClipConfig, state: dict[str, Tensor]) -> Self:
        model = cls(config)
        expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
        check_state(source, expected, state, config=type(config).__name__)
        model.load_state_dict(state)
        model.eval()
        return model

    def encode_images(self, pixel_values: Tensor) -> Tensor:
        """`(B, 3, S, S)` normalised RGB, S the config's `image_size`, to `(B, D)` of L2 norm 1.

        Raises:
            ShapeError: pictures have another size.
        """
        side = self.config.image_size
        if pixel_values.shape[1:] != (3, side, side):
            raise ShapeError(f"pictures must be (B, 3, {side}, {side}), got {tuple(pixel_values.shape)}")
        return F.normalize(self.image_vectors(pixel_values).float(), dim=-1)

    def image_vectors(self, pixel_values: Tensor) -> Tensor:
        """The image tower: `(B, 3, S, S)` normalised RGB to `(B, D)` of any length."""
        raise NotImplementedError

    def encode_texts(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """`(B, L)` int64 to `(B, D)` of L2 norm 1.

        Args:
            input_ids: tokens with a start and an end token each.
            attention_mask: not needed: a position sees only those before it, and padding stands behind the end.

        Raises:
            PromptError: a text is longer than the network was made for.
        """
        length = input_ids.shape[1]
        if length > self.config.max_tokens:
            raise PromptError(f"a text may have {self.config.max_tokens} tokens, got {length}: shorten it")
        sequence = self.tokens(input_ids) + self.text_positions[:length]
        for layer in self.text_layers:
            sequence = layer(sequence)
        end = self.config.end_token
        places = input_ids.argmax(dim=1) if end is None else (input_ids == end).int().argmax(dim=1)
        pooled = self.text_norm(sequence)[torch.arange(len(input_ids), device=input_ids.device), places]
        return F.normalize(self.text_projection(pooled).float(), dim=-1)
