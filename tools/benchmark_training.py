"""Time and memory of a training step, here and in plain arithmetic, with and without gradient checkpointing.

    python tools/benchmark_training.py [--variant tiny] [--size 640 640] [--tokens 8 194] [--output FILE.json]

A step is the forward pass, the losses of six boxes, and the backward pass of one picture; weights are random and the
text encoder is trained, too. Plain arithmetic is that of tools/benchmark.py. With gradient checkpointing the form here
gives freed memory back, as `glip train` does on a CPU; the others leave that to the C library. Each form runs in a
process of its own, so that its peak memory is its own; the forms take turns, and medians are printed. Memory is the
process's peak: weights, gradients and torch itself are in it, AdamW's moments (two more copies of the weights) are not.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glip.detection.losses import GlipCriterion
from glip.engine.memory import return_memory_between_parts
from glip.models.glip import GlipModel
from glip.predictor import published_processor
from glip.structures.targets import Targets
from tools.benchmark import VARIANTS, pad_words, plain_arithmetic, words_of_length

FORMS = {
    "here": (False, False),
    "here, checkpointed": (False, True),
    "plain": (True, False),
    "plain, checkpointed": (True, True),
}
BOXES = 6


def measure_step(variant: str, size: tuple[int, int], tokens: int, form: str) -> dict[str, float]:
    """Seconds and peak gigabytes of a second step in this process; the first warms up."""
    plain, checkpointed = FORMS[form]
    torch.manual_seed(0)
    model = GlipModel(VARIANTS[variant]()).train()
    if checkpointed:
        model.recompute_activations()
        if not plain:
            return_memory_between_parts(model)
    criterion = GlipCriterion()
    prompt, words = words_of_length(tokens, published_processor().tokenizer)
    if plain:
        words = pad_words(words)
    height, width = size
    corners = torch.rand(BOXES, 2) * torch.tensor([width, height]) / 2
    boxes = torch.cat([corners, corners + torch.tensor([width, height]) / 4], dim=1)
    phrases = torch.arange(BOXES) % len(prompt.phrases)
    target = Targets(boxes, words.token_maps[0][phrases], phrases)
    image = torch.randn(1, 3, height, width)
    forward = backward = 0.0
    with plain_arithmetic() if plain else nullcontext():
        for _ in range(2):
            model.zero_grad(set_to_none=True)
            start = time.perf_counter()
            loss = sum(criterion(model(image, words.input_ids, words.attention_mask), [target]).values())
            middle = time.perf_counter()
            torch.as_tensor(loss).backward()
            forward, backward = middle - start, time.perf_counter() - middle
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"forward": forward, "backward": backward, "step": forward + backward, "peak_memory_gb": peak}


def in_a_process_of_its_own(arguments: argparse.Namespace, tokens: int, form: str) -> dict[str, float]:
    """`measure_step` in a fresh process."""
    command = [sys.executable, __file__, "--variant", arguments.variant, "--size", *map(str, arguments.size)]
    command += ["--tokens", str(tokens), "--threads", str(arguments.threads), "--one", form]
    finished = subprocess.run(command, check=True, capture_output=True)
    result: dict[str, float] = json.loads(finished.stdout)
    return result


def table(results: list[dict[str, Any]]) -> str:
    """A row a form."""
    lines = [
        f"{'tokens':>6}  {'form':<22}{'forward':>9}{'backward':>10}{'step':>8}{'memory':>10}"
        f"{'of plain: time':>16}{'memory':>8}"
    ]
    for row in results:
        plain = next((r for r in results if r["form"] == "plain" and r["tokens"] == row["tokens"]), row)
        lines.append(
            f"{row['tokens']:>6}  {row['form']:<22}{row['forward']:>8.2f}s{row['backward']:>9.2f}s{row['step']:>7.2f}s"
            f"{row['peak_memory_gb']:>7.2f} GB{row['step'] / plain['step']:>16.2f}"
            f"{row['peak_memory_gb'] / plain['peak_memory_gb']:>8.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Run every form in turn, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="tiny")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--tokens", type=int, nargs="+", default=[8, 194])
    parser.add_argument("--forms", nargs="+", choices=list(FORMS), default=list(FORMS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, help="write the numbers here as JSON")
    parser.add_argument("--one", choices=list(FORMS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.one:
        numbers = measure_step(arguments.variant, tuple(arguments.size), arguments.tokens[0], arguments.one)
        sys.stdout.write(json.dumps(numbers))
        return
    runs = [
        {"tokens": tokens, "form": form, **in_a_process_of_its_own(arguments, tokens, form)}
        for _ in range(arguments.runs)
        for tokens in arguments.tokens
        for form in arguments.forms
    ]
    results = []
    for tokens in arguments.tokens:
        for form in arguments.forms:
            mine = [run for run in runs if run["tokens"] == tokens and run["form"] == form]
            names = ("forward", "backward", "step", "peak_memory_gb")
            results.append(
                {"tokens": tokens, "form": form, **{n: statistics.median(r[n] for r in mine) for n in names}}
            )
    sys.stdout.write(table(results) + "\n")
    if arguments.output is not None:
        arguments.output.write_text(json.dumps({"threads": arguments.threads, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
