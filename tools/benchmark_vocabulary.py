"""Time a long class list on one picture, against one padded pass of the whole network for each chunk of 40 names.

    python tools/benchmark_vocabulary.py [--names lvis_v1_val.json] [--size 800 1066] [--output FILE.json]

Names are those of an LVIS file, or 1,203 made-up ones ("wooden chair"), a little longer than LVIS'. Weights are random
(GLIP-T (C)). The padded pass is timed on a few chunks in plain arithmetic (see tools/benchmark.py) and multiplied; ours
is timed whole, from a compiled vocabulary to merged detections, with the same chunks and with as many names as fit.
"""

import argparse
import itertools
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glip.detection.postprocess import PostProcessor
from glip.models.glip import GlipModel
from glip.predictor import Predictor, published_processor
from tools.benchmark import NAMES, VARIANTS, pad_words, plain_arithmetic

COUNT, CHUNK = 1203, 40  # LVIS, and the published names a caption
KINDS = ("", "wooden", "small", "old", "red", "plastic", "open", "round", "metal", "paper", "green", "toy", "large",
         "striped", "glass", "dirty")  # fmt: skip


def names_of(path: Path | None) -> list[str]:
    """The category names of a file, or made-up ones."""
    if path is not None:
        return [category["name"] for category in json.loads(path.read_text())["categories"]]
    things = [" ".join(name.split()) for name in NAMES.split(",")]
    return [f"{kind} {thing}".strip() for kind, thing in itertools.product(KINDS, things)][:COUNT]


def seconds(run: Callable[[], Any]) -> float:
    """How long one run takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@torch.inference_mode()
def padded_pass(predictor: Predictor, image: torch.Tensor, names: list[str], chunk: int) -> float:
    """Seconds of the whole network with one chunk, padded to 256 tokens, in plain arithmetic."""
    part = predictor.compile_vocabulary(names[chunk * CHUNK : (chunk + 1) * CHUNK])
    words = pad_words(part.words)
    size = (image.shape[2], image.shape[3])

    def run() -> None:
        output = predictor.model(image, words.input_ids, words.attention_mask)
        predictor.rules(output, part.prompts, words.token_maps, [size])

    with plain_arithmetic():
        return seconds(run)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="tiny")
    parser.add_argument("--names", type=Path, help="a COCO or LVIS file")
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1066), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--passes", type=int, default=4, help="padded passes that are timed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, help="write the numbers here as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    predictor = Predictor(GlipModel(VARIANTS[arguments.variant]()), published_processor(), rules=PostProcessor())
    names = names_of(arguments.names)
    chunks = -(-len(names) // CHUNK)
    height, width = arguments.size
    picture = (torch.rand(3, height, width) * 255).to(torch.uint8)
    image = predictor.processor.image_processor([picture])["pixel_values"]
    same, packed = predictor.compile_vocabulary(names, chunk_size=CHUNK), predictor.compile_vocabulary(names)
    padded_pass(predictor, image, names, 0)  # warms up
    passes, ours = [], {}
    for label, vocabulary in (("same chunks", same), ("packed chunks", packed)):
        passes += [padded_pass(predictor, image, names, chunk) for chunk in range(arguments.passes // 2)]
        ours[label] = seconds(lambda v=vocabulary: predictor.detect(picture, v))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        passes += [padded_pass(predictor, image, names, chunk) for chunk in range(arguments.passes // 2)]
    plain = statistics.median(passes) * chunks
    report: dict[str, Any] = {
        "names": len(names),
        "threads": arguments.threads,
        "padded_passes_seconds": plain,
        "ours_seconds": ours,
        "captions": {"same chunks": len(same.prompts), "packed chunks": len(packed.prompts)},
        "ratio": {label: plain / found for label, found in ours.items()},
        "peak_memory_gb": peak,
    }
    sys.stdout.write(
        f"{len(names)} names; padded, {chunks} passes: {plain:.0f} s (of {statistics.median(passes):.2f} s)\n"
    )
    for label, found in ours.items():
        captions = report["captions"][label]
        sys.stdout.write(f"{label}, {captions} captions: {found:.0f} s, {plain / found:.2f} times faster\n")
    sys.stdout.write(f"peak memory, the padded passes' included: {peak:.2f} GB\n")
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
