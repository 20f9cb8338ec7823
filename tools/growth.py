"""Seconds by image size, words, names and batch, measured beside the floors that tools/cost.py counts.

    python tools/growth.py [--variant tiny] [--runs 3] [--axes image words names batch] [--output FILE.json]

Weights are random. A row's growth is its seconds by those of the axis's first row: where measured and counted growth
agree, the count tells what a larger size costs, whatever the machine reaches of its peak.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glip.configuration import GlipConfig
from glip.models.glip import GlipModel
from glip.predictor import published_processor
from tools.benchmark import VARIANTS, words_of_length
from tools.cost import CPU_GFLOPS, CPU_GIGABYTES, Machine, network

CHUNK_TOKENS = 194  # of one caption of a long list


@dataclass(frozen=True)
class Point:
    """A size of the work.

    Attributes:
        axis: what grows.
        label: of the row.
        size: (height, width) in pixels.
        tokens: of a caption.
        images: of the batch.
        captions: of each image, over one pyramid.
    """

    axis: str
    label: str
    size: tuple[int, int] = (480, 640)
    tokens: int = 8
    images: int = 1
    captions: int = 1


POINTS = (
    *(
        Point("image", f"{h} x {w}", size=(h, w))
        for h, w in ((256, 320), (384, 512), (480, 640), (640, 832), (800, 1088))
    ),
    *(Point("words", f"{tokens} tokens", tokens=tokens) for tokens in (8, 32, 64, 128, 194)),
    *(Point("names", f"{n} captions", tokens=CHUNK_TOKENS, captions=n) for n in (1, 2, 4, 8)),
    *(Point("batch", f"{n} images", images=n) for n in (1, 2, 4)),
)


def floor(config: GlipConfig, point: Point, machine: Machine) -> float:
    """The least seconds of a point, as tools/cost.py counts them."""
    parts = network(config, point.size, point.tokens, images=point.images, captions=point.captions)
    return sum(machine.seconds(part, 4)[0] for part in parts.values())


@torch.inference_mode()
def measure(model: GlipModel, point: Point, runs: int) -> float:
    """The median of some passes, in seconds, after one that warms up; long lists one caption a pass, as on a CPU."""
    _, words = words_of_length(point.tokens, published_processor().tokenizer)
    images = torch.randn(point.images, 3, *point.size)
    ids, mask = (part.expand(point.images, -1) for part in (words.input_ids, words.attention_mask))
    seconds = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        levels = model.encode_image(images)
        for _ in range(point.captions):
            model.align(levels, ids, mask)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def table(rows: list[dict[str, object]]) -> str:
    """Measured and counted seconds and growth, a row a point."""
    lines = ["axis   size            measured   floor   reached   growth: measured   counted"]
    first: dict[object, dict[str, object]] = {}
    for row in rows:
        start = first.setdefault(row["axis"], row)
        seconds, least = float(str(row["seconds"])), float(str(row["floor"]))
        growth = seconds / float(str(start["seconds"])), least / float(str(start["floor"]))
        lines.append(
            f"{row['axis']:<6} {row['label']:<14}{seconds:>9.2f}s{least:>7.2f}s{least / seconds:>9.0%}"
            f"{growth[0]:>19.2f}{growth[1]:>10.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="tiny")
    parser.add_argument("--axes", nargs="+", choices=sorted({point.axis for point in POINTS}), default=None)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, help="write the numbers here as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    config = VARIANTS[arguments.variant]()
    model = GlipModel(config).eval()
    machine = Machine("this CPU", CPU_GFLOPS * 1e9, CPU_GIGABYTES * 1e9)
    rows: list[dict[str, object]] = []
    for point in POINTS:
        if arguments.axes is None or point.axis in arguments.axes:
            seconds = measure(model, point, arguments.runs)
            rows.append(
                {"axis": point.axis, "label": point.label, "seconds": seconds, "floor": floor(config, point, machine)}
            )
            sys.stderr.write(f"{point.axis}, {point.label}: {seconds:.2f} s\n")
    sys.stdout.write(table(rows) + "\n")
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
