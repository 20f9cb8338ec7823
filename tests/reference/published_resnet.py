"""A CLIP with a ResNet as OpenAI and open_clip store it: every tensor by name and shape, written by hand.

The numbers in it are random, and the same on every machine: NumPy's old generator never changes.
"""

import math

import numpy as np
import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]

POSITIONS = "visual.attnpool.positional_embedding"
TINY_SIDE = 96  # pixels; a last map of 3x3
TINY_HEAD_WIDTH = 16
TINY_TOKENS = 12
TINY_VOCABULARY = 60
TINY_BLOCKS = (1, 2, 1, 1)
EMBED_DIM = 16


def tiny_shapes() -> Shapes:
    """A network with every part, and a width of 8."""
    return {
        "logit_scale": (),
        **text_shapes(width=32, layers=2, vocabulary=TINY_VOCABULARY, tokens=TINY_TOKENS, embed_dim=EMBED_DIM),
        **resnet_shapes(width=8, blocks=TINY_BLOCKS, side=TINY_SIDE, embed_dim=EMBED_DIM),
    }


def rn50_shapes() -> Shapes:
    """The published RN50."""
    return {
        "logit_scale": (),
        **text_shapes(width=512, layers=12, vocabulary=49408, tokens=77, embed_dim=1024),
        **resnet_shapes(width=64, blocks=(3, 4, 6, 3), side=224, embed_dim=1024),
    }


def text_shapes(*, width: int, layers: int, vocabulary: int, tokens: int, embed_dim: int) -> Shapes:
    """The text tower, which is the same whatever the image tower."""
    shapes: Shapes = {
        "token_embedding.weight": (vocabulary, width),
        "positional_embedding": (tokens, width),
        "text_projection": (width, embed_dim),
        "ln_final.weight": (width,),
        "ln_final.bias": (width,),
    }
    for number in range(layers):
        layer = f"transformer.resblocks.{number}"
        for part, rows, columns in (
            ("attn.in_proj_", 3 * width, width),
            ("attn.out_proj.", width, width),
            ("mlp.c_fc.", 4 * width, width),
            ("mlp.c_proj.", width, 4 * width),
        ):
            shapes |= {f"{layer}.{part}weight": (rows, columns), f"{layer}.{part}bias": (rows,)}
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"{layer}.{norm}.weight": (width,), f"{layer}.{norm}.bias": (width,)}
    return shapes


def resnet_shapes(*, width: int, blocks: tuple[int, ...], side: int, embed_dim: int) -> Shapes:
    """The image tower: a stem of three convolutions, four stages, attention pooling."""
    half, last = width // 2, 32 * width
    shapes = {
        **conv_shapes("visual.conv1", "visual.bn1", (half, 3, 3, 3)),
        **conv_shapes("visual.conv2", "visual.bn2", (half, half, 3, 3)),
        **conv_shapes("visual.conv3", "visual.bn3", (width, half, 3, 3)),
        POSITIONS: ((side // 32) ** 2 + 1, last),
        "visual.attnpool.c_proj.weight": (embed_dim, last),
        "visual.attnpool.c_proj.bias": (embed_dim,),
    }
    for part in ("q_proj", "k_proj", "v_proj"):
        shapes |= {f"visual.attnpool.{part}.weight": (last, last), f"visual.attnpool.{part}.bias": (last,)}
    before = width
    for stage, count in enumerate(blocks, start=1):
        inner, outer = width * 2 ** (stage - 1), 4 * width * 2 ** (stage - 1)
        for number in range(count):
            block = f"visual.layer{stage}.{number}"
            shapes |= conv_shapes(f"{block}.conv1", f"{block}.bn1", (inner, before, 1, 1))
            shapes |= conv_shapes(f"{block}.conv2", f"{block}.bn2", (inner, inner, 3, 3))
            shapes |= conv_shapes(f"{block}.conv3", f"{block}.bn3", (outer, inner, 1, 1))
            if number == 0:
                shapes |= conv_shapes(f"{block}.downsample.0", f"{block}.downsample.1", (outer, before, 1, 1))
            before = outer
    return shapes


def conv_shapes(conv: str, norm: str, shape: tuple[int, ...]) -> Shapes:
    """A convolution without bias and its batch norm."""
    kinds = ("weight", "bias", "running_mean", "running_var")
    return {
        f"{conv}.weight": shape,
        **{f"{norm}.{kind}": shape[:1] for kind in kinds},
        f"{norm}.num_batches_tracked": (),
    }


def weights(shapes: Shapes) -> dict[str, Tensor]:
    """Numbers for these tensors, in float32, that let a picture and a text matter to the end."""
    draw = np.random.RandomState(0)
    state = {}
    for name, shape in sorted(shapes.items()):
        numbers = 2 * draw.random_sample(shape) - 1
        is_gain = len(shape) == 1 and name.endswith(".weight")
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1000)
            continue
        if name == "logit_scale":
            numbers = np.asarray(math.log(1 / 0.07))
        elif is_gain or name.endswith("running_var"):
            numbers = 1 + 0.5 * numbers
        elif len(shape) > 1:
            numbers = numbers * math.sqrt(6 / math.prod(shape[1:]))
        else:
            numbers = 0.1 * numbers
        state[name] = torch.tensor(numbers, dtype=torch.float32)
    return state


def pictures() -> Tensor:
    """Two pictures, `(2, 3, 96, 96)`, normalised: noise over a colour and a shade of their own."""
    draw = np.random.RandomState(1)
    colours = 4 * draw.random_sample((2, 3, 1, 1)) - 2
    shades = np.linspace(-1, 1, TINY_SIDE) * (4 * draw.random_sample((2, 3, TINY_SIDE, 1)) - 2)
    noise = 2 * draw.random_sample((2, 3, TINY_SIDE, TINY_SIDE)) - 1
    return torch.tensor(colours + shades + noise, dtype=torch.float32)


def texts() -> Tensor:
    """Two texts of other lengths, `(2, 12)` int64: a start, words, an end that is the largest id, zeros behind it."""
    start, end = TINY_VOCABULARY - 2, TINY_VOCABULARY - 1
    return torch.tensor([[start, 5, 17, 40, 3, 9, 22, 31, 8, 8, 2, end], [start, 44, end, 0, 0, 0, 0, 0, 0, 0, 0, 0]])
