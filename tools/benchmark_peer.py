"""Time one picture and one short prompt against transformers' Grounding DINO-T, in turn and in one run.

    python tools/benchmark_peer.py [--size 800 1066] [--runs 3] [--output FILE.json]

Both networks have random weights, a Swin-T, a BERT-base, the same picture and the same words. Times are of the networks
alone: pixels and tokens in, predictions out.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glip.configuration import glip_tiny
from glip.models.glip import GlipModel
from glip.predictor import published_processor

PROMPT = "a cat. dog."  # seven tokens with CLS and SEP


def ours() -> Callable[[Tensor, Any], Any]:
    """GLIP-T (C) with random weights."""
    model = GlipModel(glip_tiny()).eval()
    return lambda pixels, words: model(pixels, words["input_ids"], words["attention_mask"])


def peer() -> Callable[[Tensor, Any], Any]:
    """Grounding DINO-T with random weights, in transformers' default arithmetic for a CPU."""
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection, SwinConfig

    swin = SwinConfig(embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], window_size=7, out_indices=[2, 3, 4])
    model = GroundingDinoForObjectDetection(GroundingDinoConfig(backbone_config=swin)).eval()
    return lambda pixels, words: model(pixel_values=pixels, **words)


@torch.inference_mode()
def main() -> None:
    """Run in turn, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1066), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, help="write the numbers here as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    words = dict(published_processor().tokenizer(PROMPT, return_tensors="pt"))
    height, width = (-(-side // 32) * 32 for side in arguments.size)
    pixels = torch.randn(1, 3, height, width)
    networks = {"glip": ours(), "grounding dino": peer()}
    times: dict[str, list[float]] = {name: [] for name in networks}
    for number in range(arguments.runs + 1):
        for name, network in networks.items():
            start = time.perf_counter()
            network(pixels, words)
            if number:  # the first of each warms up
                times[name].append(time.perf_counter() - start)
    report = {
        "size": list(arguments.size),
        "tokens": words["input_ids"].shape[1],
        "threads": arguments.threads,
        "seconds": times,
        "ratio": statistics.median(b / a for a, b in zip(*times.values(), strict=True)),
    }
    for name, found in times.items():
        sys.stdout.write(f"{name:<16}{statistics.median(found):.2f} s ({min(found):.2f} to {max(found):.2f})\n")
    sys.stdout.write(f"grounding dino / glip: {report['ratio']:.2f} at {report['tokens']} tokens\n")
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
