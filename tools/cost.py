"""FLOPs and bytes of each part, on paper: what one call of the network costs at least, and how long two machines need.

    python tools/cost.py [--variant tiny] [--size 800 1066] [--tokens 8 32 194] [--batch 1] [--captions 1] [--bytes 4]

No network is built. Multiply-adds are those of matrix products and convolutions. Bytes are the weights once, and what
each product reads and writes; norms, activations, softmaxes and sums ride along for nothing, and attention scores never
leave the cache. Real runs need longer. Post-processing is left out: it multiplies no matrices.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import BertConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glip.configuration import GlipConfig
from glip.errors import ConfigError
from glip.layers.deform_conv import TAPS
from glip.layers.dynamic_relu import REDUCTION
from glip.models.backbones.swin import MLP_RATIO, PATCH_SIZE
from tools.benchmark import VARIANTS

SIZE_DIVISOR = 32  # pictures are padded to multiples of it
CORNERS = 4  # pixels round each sampling position
CORNER_NUMBERS = 3  # a weight, and a row number that is as long as two float32
OFFSET_NUMBERS = 3 * TAPS  # dy, dx and the weight of each tap
CPU_GFLOPS = 145.0  # measured: large float32 matrix products, two threads
CPU_GIGABYTES = 20.0  # an assumption
H100_FLOPS = 989e12  # dense bfloat16, data sheet
H100_BANDWIDTH = 3.35e12  # data sheet
H100_EFFICIENCY = 0.4  # an assumption: the share of the peak that large products reach

Size = tuple[int, int]


@dataclass(frozen=True)
class Cost:
    """What a part costs.

    Attributes:
        macs: multiply-adds.
        weights: numbers of its matrices; biases and norms are left out.
        activations: numbers read and numbers written.
    """

    macs: int = 0
    weights: int = 0
    activations: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        """One after the other."""
        return Cost(self.macs + other.macs, self.weights + other.weights, self.activations + other.activations)

    def repeated(self, times: int) -> "Cost":
        """So many of them behind each other, each with weights of its own."""
        return Cost(times * self.macs, times * self.weights, times * self.activations)

    def moved(self, number_bytes: float) -> float:
        """Bytes that go through memory: (weights + activations) x bytes of a number."""
        return (self.weights + self.activations) * number_bytes


@dataclass(frozen=True)
class Machine:
    """What computes.

    Attributes:
        name: in the table.
        flops: floating-point operations a second; a multiply-add is two.
        bandwidth: bytes a second.
    """

    name: str
    flops: float
    bandwidth: float

    def seconds(self, cost: Cost, number_bytes: float) -> tuple[float, str]:
        """The floor, max(2 macs / flops, bytes / bandwidth), and which of the two it is."""
        arithmetic, memory = 2 * cost.macs / self.flops, cost.moved(number_bytes) / self.bandwidth
        return max((arithmetic, "FLOP "), (memory, "bytes"))


def linear(rows: int, inputs: int, outputs: int) -> Cost:
    """A matrix product: rows x inputs x outputs multiply-adds; rows are read and written once."""
    return Cost(rows * inputs * outputs, inputs * outputs, rows * (inputs + outputs))


def conv(before: int, after: int, inputs: int, outputs: int, *, taps: int) -> Cost:
    """A convolution: after x taps x inputs x outputs multiply-adds.

    Args:
        before: positions that are read, of all images together.
        after: positions that are written.
        inputs: channels read.
        outputs: channels written.
        taps: 9 for a 3x3 kernel.
    """
    weights = taps * inputs * outputs
    return Cost(after * weights, weights, before * inputs + after * outputs)


def self_attention(sequences: int, length: int, dim: int) -> Cost:
    """Scores and weighted sums: 2 x length^2 x dim multiply-adds a sequence, whatever the heads.

    Queries, keys and values are read, results written.
    """
    return Cost(sequences * 2 * length**2 * dim, 0, sequences * 4 * length * dim)


def mlp(rows: int, dim: int, hidden: int) -> Cost:
    """Two linear layers: rows x 2 x dim x hidden multiply-adds."""
    return linear(rows, dim, hidden) + linear(rows, hidden, dim)


def swin(images: int, size: Size, *, embed_dim: int, depths: Sequence[int], window: int) -> Cost:
    """Patches of 48 numbers, then stages: blocks, and 4 C numbers projected to 2 C between them.

    Args:
        images: B.
        size: (height, width) of the padded images.
        embed_dim: C of the first stage; each later one has twice as many.
        depths: blocks of each stage.
        window: side of the attention window, in positions.
    """
    height, width = grid(size, PATCH_SIZE)
    total = linear(images * height * width, 3 * PATCH_SIZE**2, embed_dim)
    for stage, depth in enumerate(depths):
        dim = embed_dim * 2**stage
        if stage:
            height, width = grid((height, width), 2)
            total += linear(images * height * width, 2 * dim, dim)
        total += swin_block(images, (height, width), dim=dim, window=window).repeated(depth)
    return total


def swin_block(images: int, size: Size, *, dim: int, window: int) -> Cost:
    """Attention on positions padded to whole windows, 4 C^2 + 2 w^2 C multiply-adds each; MLP on all, 8 C^2 each."""
    rows, columns = grid(size, window)
    windows, inside = images * rows * columns, window**2
    attention = linear(windows * inside, dim, 3 * dim) + self_attention(windows, inside, dim)
    projected = linear(windows * inside, dim, dim)
    return attention + projected + mlp(images * size[0] * size[1], dim, MLP_RATIO * dim)


def resnet(images: int, size: Size, *, layers: Sequence[int]) -> Cost:
    """A 7x7 stem at stride 2, a pooling, and bottlenecks: 1x1 to w channels, 3x3, 1x1 to 4 w."""
    stem, pooled = grid(size, 2), grid(size, 4)
    total = conv(images * area(size), images * area(stem), 3, 64, taps=49)
    before, channels = images * area(pooled), 64
    for stage, depth in enumerate(layers):
        narrow = 64 * 2**stage
        after = images * area(grid(pooled, 2**stage))
        total += conv(before, after, channels, 4 * narrow, taps=1)  # the first block's shortcut
        total += conv(before, before, channels, narrow, taps=1) + conv(before, after, narrow, narrow, taps=9)
        total += conv(after, after, narrow, 4 * narrow, taps=1).repeated(depth)
        later = conv(after, after, 4 * narrow, narrow, taps=1) + conv(after, after, narrow, narrow, taps=9)
        total += later.repeated(depth - 1)
        before, channels = after, 4 * narrow
    return total


def csp(images: int, size: Size, *, stem: int, stage_channels: Sequence[int], depths: Sequence[int], neck: int) -> Cost:
    """3x3 convolutions: a stem; of each stage an entry, an exit and pairs to half the channels; a neck."""
    total = conv(images * area(size), images * area(grid(size, 2)), 3, stem, taps=9)
    before, channels = images * area(grid(size, 4)), stem
    for stage, (outputs, depth) in enumerate(zip(stage_channels, depths, strict=True)):
        after = images * area(grid(size, 4 * 2**stage))
        half = channels // 2
        total += conv(before, after, channels, channels, taps=9) + conv(after, after, channels, channels, taps=9)
        pair = conv(after, after, channels, half, taps=9) + conv(after, after, half, half, taps=9)
        total += pair.repeated(depth)
        if stage:
            total += conv(after, after, outputs, neck, taps=1) + conv(after, after, neck, neck, taps=9)
        before, channels = after, outputs
    return total


def pyramid(positions: Sequence[int], widths: Sequence[int], channels: int) -> Cost:
    """A 1x1 and a 3x3 convolution on each of the backbone's maps; a 3x3 at stride 2 for each level more.

    Args:
        positions: of each level, all images together, finest first.
        widths: channels of the backbone's maps.
        channels: C of every level.
    """
    total = Cost()
    for count, width in zip(positions, widths, strict=False):
        total += conv(count, count, width, channels, taps=1) + conv(count, count, channels, channels, taps=9)
    for before, after in zip(positions[len(widths) - 1 :], positions[len(widths) :], strict=False):
        total += conv(before, after, channels, channels, taps=9)
    return total


def text_layer(captions: int, tokens: int, *, dim: int, feedforward: int) -> Cost:
    """A transformer layer: 4 D^2 + 2 D F + 2 L D multiply-adds a token."""
    rows = captions * tokens
    attention = linear(rows, dim, 3 * dim) + self_attention(captions, tokens, dim) + linear(rows, dim, dim)
    return attention + mlp(rows, dim, feedforward)


def fusion(
    captions: int, positions: int, tokens: int, *, channels: int, text_dim: int, fusion_dim: int, heads: int
) -> Cost:
    """The folded form: three products of N x h L x C multiply-adds, and 3 L F (D + C) of the words' projections.

    Scores, what positions take and what words see are the three. Positions are read and written once, and so are the
    h L folded keys, folded values and seen positions of C numbers, and the keys and values of F numbers before them.

    Args:
        captions: all images together.
        positions: N, of all levels of one image.
        tokens: L.
        channels: C of positions.
        text_dim: D of words.
        fusion_dim: F, the width of the attention.
        heads: h.
    """
    folded, weights = heads * tokens, 3 * fusion_dim * (text_dim + channels)
    macs = 3 * positions * folded * channels + tokens * weights
    moved = 2 * channels * (positions + 3 * folded) + 2 * tokens * (text_dim + 3 * fusion_dim)
    return Cost(captions * macs, weights, captions * moved)


def deform_conv(before: int, after: int, channels: int) -> Cost:
    """A gather and a product: after x 9 x C x C multiply-adds.

    The gather reads the map and 27 offsets a position, writes and reads four corners a tap (three numbers each), and
    writes the nine sums of C numbers, which the product reads. That a row is a corner of many positions costs nothing.
    """
    corners, sums = TAPS * CORNERS * CORNER_NUMBERS, TAPS * channels
    gather = before * channels + after * (OFFSET_NUMBERS + 2 * corners + sums)
    product = after * (sums + channels)
    return Cost(after * sums * channels, sums * channels, gather + product)


def dyconv(captions: int, levels: Sequence[int], channels: int) -> Cost:
    """The offsets of each level, (N + 2 (N - N0)) x 9 x C x C multiply-adds of its neighbours, and their sum.

    A level sees itself, the finer one at stride 2, and the coarser one at the coarser one's size. The three kinds have
    weights of their own, which all levels share. All results are read once more, weighted and added.

    Args:
        captions: all images together.
        levels: positions of each level of one image, finest first; N is their sum and N0 the first.
        channels: C.
    """
    count = captions * sum(levels)
    all_but_first, all_but_last = count - captions * levels[0], count - captions * levels[-1]
    offsets = conv(count, count, channels, OFFSET_NUMBERS, taps=TAPS)
    same = deform_conv(count, count, channels)
    finer = deform_conv(all_but_last, all_but_first, channels)
    coarser = deform_conv(all_but_first, all_but_first, channels)
    weighted = Cost(0, 0, (2 * count + 2 * all_but_first) * channels)
    maps, squeezed = captions * len(levels), channels // REDUCTION
    slopes = linear(maps, channels, squeezed) + linear(maps, squeezed, 4 * channels)
    return offsets + same + finer + coarser + weighted + slopes


def head(captions: int, positions: int, tokens: int, *, channels: int, text_dim: int) -> Cost:
    """Five numbers a position, C a word, and their alignment: N x C x (5 + L) + L x D x C multiply-adds."""
    boxes = linear(captions * positions, channels, 4 + 1)
    words = linear(captions * tokens, text_dim, channels)
    aligned = captions * positions * tokens
    return boxes + words + Cost(aligned * channels, 0, aligned + captions * tokens * channels)


def network(
    config: GlipConfig, size: Size, tokens: int, *, images: int = 1, captions: int = 1, compiled: bool = False
) -> dict[str, Cost]:
    """The cost of each part.

    Args:
        config: the network's numbers.
        size: (height, width) of the images, in pixels; they are padded to multiples of 32.
        tokens: L of each caption, CLS and SEP included.
        images: B.
        captions: of each image, over one pyramid.
        compiled: whether the words were read beforehand (`compile_vocabulary`), so that the text encoder rests.
    """
    rows, columns = grid(size, SIZE_DIVISOR)
    padded = rows * SIZE_DIVISOR, columns * SIZE_DIVISOR
    levels = [area(grid(padded, stride)) for stride in config.strides]
    text = BertConfig(**config.text)
    dim, channels, looks = text.hidden_size, config.channels, images * captions
    layer = text_layer(looks, tokens, dim=dim, feedforward=text.intermediate_size)
    blocks = config.num_blocks
    fused = fusion(
        looks,
        sum(levels),
        tokens,
        channels=channels,
        text_dim=dim,
        fusion_dim=config.fusion_dim,
        heads=config.fusion_heads,
    )
    trunk, widths = backbone(images, padded, config.backbone)
    return {
        "backbone": trunk,
        "pyramid": pyramid([images * count for count in levels], widths, channels),
        "text encoder": Cost() if compiled else layer.repeated(text.num_hidden_layers),
        "fusion": fused.repeated(blocks if config.fusion else 0),
        "text layers": layer.repeated(blocks if config.fusion else 0),
        "DyConv": dyconv(looks, levels, channels).repeated(blocks),
        "heads": head(looks, sum(levels), tokens, channels=channels, text_dim=dim),
    }


def backbone(images: int, size: Size, numbers: dict[str, Any]) -> tuple[Cost, Sequence[int]]:
    """Cost of the backbone that a config describes, and the channels of its three maps."""
    match numbers["kind"]:
        case "swin":
            first, depths = numbers["embed_dim"], numbers["depths"]
            cost = swin(images, size, embed_dim=first, depths=depths, window=numbers["window_size"])
            return cost, [2 * first, 4 * first, 8 * first]
        case "resnet":
            return resnet(images, size, layers=numbers["layers"]), [512, 1024, 2048]
        case "csp":
            neck = numbers["neck_channels"]
            stages, depths = numbers["stage_channels"], numbers["stage_depths"]
            cost = csp(images, size, stem=numbers["stem_channels"], stage_channels=stages, depths=depths, neck=neck)
            return cost, [neck] * 3
        case kind:
            raise ConfigError(f"backbone kind {kind!r} is not counted; swin, resnet and csp are")


def grid(size: Size, stride: int) -> Size:
    """Rows and columns of cells that cover a map: its sides divided by the stride, rounded up."""
    return -(-size[0] // stride), -(-size[1] // stride)


def area(size: Size) -> int:
    """Height x width."""
    return size[0] * size[1]


def table(parts: dict[str, Cost], machines: Sequence[Machine], *, images: int, number_bytes: float) -> str:
    """One row a part: multiply-adds, bytes, and of each machine the floor and what sets it; then the sums."""
    sums = [0.0] * len(machines)
    lines = [_line("part", "GMAC", "GB", [f"{machine.name}, ms" for machine in machines])]
    for part, cost in parts.items():
        if not cost.macs:
            continue
        floors = [machine.seconds(cost, number_bytes) for machine in machines]
        sums = [total + seconds for total, (seconds, _) in zip(sums, floors, strict=True)]
        cells = [f"{seconds * 1e3:.3f} {limit}" for seconds, limit in floors]
        lines.append(_line(part, *_amounts(cost, number_bytes), cells))
    whole = sum(parts.values(), Cost())
    lines.append(_line("all", *_amounts(whole, number_bytes), [f"{seconds * 1e3:.3f} {'':5}" for seconds in sums]))
    lines.append(_line("images/s", "", "", [f"{images / seconds:.2f} {'':5}" for seconds in sums]))
    return "\n".join(lines)


def _amounts(cost: Cost, number_bytes: float) -> tuple[str, str]:
    return f"{cost.macs / 1e9:.2f}", f"{cost.moved(number_bytes) / 1e9:.3f}"


def _line(name: str, macs: str, moved: str, cells: Sequence[str]) -> str:
    return (f"{name:<12}{macs:>11}{moved:>10}" + "".join(f"{cell:>18}" for cell in cells)).rstrip()


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="tiny")
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1066), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--tokens", type=int, nargs="+", default=[8, 32, 194], help="of a caption; a table for each")
    parser.add_argument("--batch", type=int, default=1, help="images")
    parser.add_argument("--captions", type=int, default=1, help="of each image, over one pyramid")
    parser.add_argument("--compiled", action="store_true", help="words were read beforehand: no text encoder")
    parser.add_argument("--bytes", type=float, default=4, help="of a number: 4 is float32, 2 is bfloat16")
    parser.add_argument("--cpu-gflops", type=float, default=CPU_GFLOPS, help="default: measured, two threads, float32")
    parser.add_argument("--cpu-bandwidth", type=float, default=CPU_GIGABYTES, help="GB/s; default: an assumption")
    parser.add_argument("--h100-efficiency", type=float, default=H100_EFFICIENCY, help="share of the dense bf16 peak")
    arguments = parser.parse_args()
    machines = [
        Machine("this CPU", arguments.cpu_gflops * 1e9, arguments.cpu_bandwidth * 1e9),
        Machine("H100", H100_FLOPS * arguments.h100_efficiency, H100_BANDWIDTH),
    ]
    height, width = arguments.size
    for tokens in arguments.tokens:
        parts = network(
            VARIANTS[arguments.variant](),
            (height, width),
            tokens,
            images=arguments.batch,
            captions=arguments.captions,
            compiled=arguments.compiled,
        )
        title = f"{arguments.variant}, {height} x {width}, batch {arguments.batch}, captions {arguments.captions}"
        content = table(parts, machines, images=arguments.batch, number_bytes=arguments.bytes)
        sys.stdout.write(f"{title}, tokens {tokens}, bytes {arguments.bytes:g}\n{content}\n\n")


if __name__ == "__main__":
    main()
