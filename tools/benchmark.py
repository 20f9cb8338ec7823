"""Time a model's parts against the same model in plain arithmetic, in one run.

    python tools/benchmark.py [--variant tiny] [--size 800 1066] [--tokens 8 32 194] [--runs 5] [--batch 1]
        [--dtype float32] [--threads 2] [--compile] [--output FILE.json] [--plot FILE.png]

Plain arithmetic: textbook fusion, captions padded to 256 tokens, torchvision's deformable convolution. Weights are
random. The two forms run in turn, so that a machine whose speed drifts treats both alike; medians are printed.
"""

import argparse
import json
import resource
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glip.configuration import glip_large, glip_nano, glip_resnet50, glip_tiny, glip_tiny_a
from glip.detection.postprocess import PostProcessor
from glip.layers import deform_conv
from glip.layers.transformer import PostNormEncoderLayer
from glip.models.dyhead import DyConv
from glip.models.fusion import BidirectionalFusion
from glip.models.glip import GlipModel
from glip.predictor import published_processor
from glip.structures.prompt import Prompt
from glip.text.prompts import prompt_from_labels
from glip.text.tokens import MAX_TOKENS, TokenizedPrompts, tokenize_prompts
from tests.reference.plain_fusion import plain_fusion

VARIANTS = {
    "tiny-a": glip_tiny_a,
    "tiny": glip_tiny,
    "large": glip_large,
    "resnet50": glip_resnet50,
    "nano": glip_nano,
}
NAMES = """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop
sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack,
umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball
glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana,
apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed,
dining table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink,
refrigerator, book, clock, vase, scissors, teddy bear, hair drier, toothbrush"""  # COCO's
PARTS = ("backbone", "pyramid", "text encoder", "fusion", "text layers", "DyConv", "heads", "post-processing")
FORMS = {"here": "ours", "plain": "plain"}
Times = dict[str, float]


def words_of_length(tokens: int, tokenizer: Any) -> tuple[Prompt, TokenizedPrompts]:
    """A class list of so many tokens, made of COCO's names; or a little less, where they do not add up."""
    names = [name.strip() for name in NAMES.split(",")]

    def words_of(labels: list[str]) -> TokenizedPrompts:
        return tokenize_prompts([prompt_from_labels(labels)], tokenizer)

    chosen: list[str] = []
    for name in names:
        if words_of([*chosen, name]).input_ids.shape[1] <= tokens:
            chosen.append(name)
    exact = ([*chosen[:-1], name] for name in names)  # one token short: a longer last name may fill it
    chosen = next((labels for labels in exact if words_of(labels).input_ids.shape[1] == tokens), chosen)
    return prompt_from_labels(chosen), words_of(chosen)


def pad_words(words: TokenizedPrompts) -> TokenizedPrompts:
    """The same words at the published length of 256."""
    missing = MAX_TOKENS - words.input_ids.shape[1]
    pad: Callable[[Tensor], Tensor] = lambda tensor: nn.functional.pad(tensor, (0, missing))  # noqa: E731
    return TokenizedPrompts(pad(words.input_ids), pad(words.attention_mask), tuple(map(pad, words.token_maps)))


@contextmanager
def plain_arithmetic() -> Iterator[None]:
    """Textbook fusion and torchvision's deformable convolution, for as long as the block runs."""
    with (
        mock.patch.object(BidirectionalFusion, "forward", plain_fusion),
        mock.patch.object(deform_conv, "gather_deform_conv2d", deform_conv.torchvision_deform_conv2d),
    ):
        yield


@contextmanager
def timed_parts(model: GlipModel, times: Times) -> Iterator[None]:
    """Add the seconds of each part's calls to `times`."""
    owners: list[tuple[str, nn.Module]] = [
        ("backbone", model.backbone),
        ("pyramid", model.fpn),
        ("text encoder", model.text_encoder),
        ("heads", model.head),
    ]
    kinds = {BidirectionalFusion: "fusion", PostNormEncoderLayer: "text layers", DyConv: "DyConv"}
    owners += [(kinds[type(module)], module) for module in model.modules() if type(module) in kinds]
    with ExitStack() as stack:
        for part, module in owners:
            started: list[float] = []
            before = module.register_forward_pre_hook(lambda *_, s=started: s.append(time.perf_counter()))
            after = module.register_forward_hook(
                lambda *_, p=part, s=started: times.__setitem__(p, times[p] + time.perf_counter() - s.pop())
            )
            stack.callback(before.remove)
            stack.callback(after.remove)
        yield


@torch.inference_mode()
def run_once(model: GlipModel, image: Tensor, prompt: Prompt, words: TokenizedPrompts) -> Times:
    """Seconds of each part of a batch, and of the whole; a compiled network has no parts."""
    times: Times = defaultdict(float)
    rules = PostProcessor()
    batch = len(image)
    start = time.perf_counter()
    with timed_parts(model, times):
        output = model(image, words.input_ids.expand(batch, -1), words.attention_mask.expand(batch, -1))
    middle = time.perf_counter()
    height, width = image.shape[2:]
    rules(output, [prompt] * batch, words.token_maps * batch, [(height, width)] * batch)
    end = time.perf_counter()
    times["post-processing"] = end - middle
    times["total"] = end - start
    return times


def compare(model: GlipModel, image: Tensor, tokens: int, runs: int) -> dict[str, Any]:
    """Medians of alternating runs of both forms at one prompt length."""
    prompt, words = words_of_length(tokens, published_processor().tokenizer)
    padded = pad_words(words)
    ours: list[Times] = []
    plain: list[Times] = []
    for number in range(runs + 1):
        first = run_once(model, image, prompt, words)
        with plain_arithmetic():
            second = run_once(model, image, prompt, padded)
        if number:  # the first pair warms up
            ours.append(first)
            plain.append(second)
    return {
        "tokens": words.input_ids.shape[1],
        "ours": {part: statistics.median(t[part] for t in ours) for part in (*PARTS, "total")},
        "plain": {part: statistics.median(t[part] for t in plain) for part in (*PARTS, "total")},
        "ratio": statistics.median(b["total"] / a["total"] for a, b in zip(ours, plain, strict=True)),
        "spread": [min(t["total"] for t in ours), max(t["total"] for t in ours)],
        "plain_spread": [min(t["total"] for t in plain), max(t["total"] for t in plain)],
    }


def table(results: list[dict[str, Any]]) -> str:
    """The medians in seconds, one row a part."""
    header = "part".ljust(16) + "".join(f"{r['tokens']:>5} tokens ours / plain" for r in results)
    rows = [
        part.ljust(16) + "".join(f"{r['ours'][part]:>13.3f} / {r['plain'][part]:<10.3f}" for r in results)
        for part in (*PARTS, "total")
    ]
    ratios = "plain / ours".ljust(16) + "".join(f"{r['ratio']:>20.2f}x    " for r in results)
    return "\n".join([header, *rows, ratios])


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """A bar a form and prompt length, its parts one on the other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    bars = [(f"{r['tokens']} tokens\n{name}", r[form]) for r in results for name, form in FORMS.items()]
    below = [0.0] * len(bars)
    for part in PARTS:
        heights = [times[part] for _, times in bars]
        axes.bar([label for label, _ in bars], heights, bottom=below, label=part)
        below = [low + height for low, height in zip(below, heights, strict=True)]
    axes.set_ylabel("seconds")
    axes.legend()
    figure.savefig(path)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="tiny")
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1066), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--tokens", type=int, nargs="+", default=[8, 32, 194])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--compile", action="store_true", help="our form through torch.compile; needs a compiler")
    parser.add_argument("--output", type=Path, help="write the numbers here as JSON")
    parser.add_argument("--plot", type=Path, help="draw the parts' times here; needs matplotlib")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    dtype = getattr(torch, arguments.dtype)
    model = GlipModel(VARIANTS[arguments.variant]()).eval().to(dtype)
    if arguments.compile:
        model.compile(dynamic=True)
    height, width = (-(-side // 32) * 32 for side in arguments.size)
    image = torch.zeros(arguments.batch, 3, height, width, dtype=dtype)
    image[:, :, : arguments.size[0], : arguments.size[1]] = torch.randn(arguments.batch, 3, *arguments.size)
    results = [compare(model, image, tokens, arguments.runs) for tokens in arguments.tokens]
    report = {
        "variant": arguments.variant,
        "size": list(arguments.size),
        "batch": arguments.batch,
        "dtype": arguments.dtype,
        "compiled": arguments.compile,
        "threads": arguments.threads,
        "torch": torch.__version__,
        "runs": arguments.runs,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "results": results,
    }
    sys.stdout.write(table(results) + "\n")
    if arguments.plot is not None:
        draw(results, arguments.plot)
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
