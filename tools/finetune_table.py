"""Fine-tune glip-nano on one data set in every way, with several seeds, and print a table.

    python tools/finetune_table.py ../shared/data/kangaroo --output runs/finetune_kangaroo [--ways full lora 1-shot ...]

Each run is the command a user would give: `glip train --data FOLDER/train.json tuning.mode=...`, in a process of its
own, so that its peak memory is its own. No run looks at dev.json: the last weights are measured on it, once. A row that
is there already is not run again; `table.json` in the output folder has one record a run.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glip.engine.answers import ask, cut
from glip.engine.tuning import TuningConfig, prepare_tuning
from glip.evaluation.coco import CocoJsonBenchmark
from glip.files import write_json
from glip.images import read_image
from glip.predictor import Predictor

Record = dict[str, Any]
WAYS = {
    "full": ("tuning.mode=full",),
    "linear": ("tuning.mode=linear",),
    "prompt": ("tuning.mode=prompt",),
    "lora": ("tuning.mode=lora",),
    "1-shot": ("few_shot.shots=1",),
    "1-shot-and-start": ("few_shot.shots=1", "start_share=0.5"),
    "3-shot": ("few_shot.shots=3",),
    "10-shot": ("few_shot.shots=10",),
}
MEGABYTE = 2**20


def measure(model: str | Path, data: Path) -> Record:
    """AP and AP50 of a model on the dev photos."""
    predictor = Predictor.from_pretrained(model)
    benchmark = CocoJsonBenchmark(annotations=data / "dev.json", images=None)
    answers = []
    for batch in cut(benchmark.questions(), predictor.batch_size):
        found = ask(predictor, batch, [read_image(question.image) for question in batch])
        answers += [benchmark.answer(question, one) for question, one in zip(batch, found, strict=True)]
    score = benchmark.score(answers)
    return {"AP": score["AP"], "AP50": score["AP50"]}


def trained_parameters(way: str) -> int:
    """How many numbers a way of tuning changes."""
    mode: Any = next((word.partition("=")[2] for word in WAYS[way] if word.startswith("tuning.mode=")), "full")
    model = prepare_tuning(Predictor.from_pretrained().model, TuningConfig(mode=mode)).model
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def run(way: str, seed: int, arguments: argparse.Namespace) -> Record:
    """Fine-tune once, measure, and remove what the run left."""
    folder = arguments.output / f"{way}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was interrupted
    command = [sys.executable, "-m", "glip", "train", *WAYS[way], f"seed={seed}", f"few_shot.seed={seed}"]
    command += ["workers=0", "log_every=1", *arguments.set]
    command += ["--data", str(arguments.data / "train.json"), "--output", str(folder)]
    with (arguments.output / f"{way}-{seed}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)  # which says how much memory and time it took
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\nfailed; see {log.name}")
    steps = max(json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines())
    numbers = measure(folder / "model", arguments.data)
    shutil.rmtree(folder)
    return {
        "way": way,
        "seed": seed,
        "steps": steps,
        "core_minutes": round((usage.ru_utime + usage.ru_stime) / 60, 2),
        "peak_memory_mb": round(usage.ru_maxrss * 1024 / MEGABYTE),
        **{name: round(value, 4) for name, value in numbers.items()},
    }


def table(before: Record, rows: list[Record]) -> str:
    """Markdown: a line a way, means over its seeds and the range of AP50."""
    lines = [
        "| way | trained parameters | steps | minutes of a core | peak memory | AP | AP50 | AP50 of each seed |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        f"| as shipped | 0 | 0 | | | {100 * before['AP']:.1f} | {100 * before['AP50']:.1f} | |",
    ]
    ways = defaultdict(list)
    for row in rows:
        ways[row["way"]].append(row)
    for way, found in ways.items():
        numbers = ("steps", "core_minutes", "AP", "AP50")
        steps, minutes, ap, ap50 = (statistics.mean(row[name] for row in found) for name in numbers)
        memory = max(row["peak_memory_mb"] for row in found) / 1024
        each = ", ".join(f"{100 * row['AP50']:.1f}" for row in found)
        lines.append(
            f"| {way} | {trained_parameters(way):,} | {steps:.0f} | {minutes:.1f} | {memory:.1f} GB "
            f"| {100 * ap:.1f} | {100 * ap50:.1f} | {each} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what is not there yet, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with train.json and dev.json, COCO's format")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of every run")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "table.json"
    report: Record = json.loads(path.read_text()) if path.is_file() else {"runs": []}
    report["runs"] = [row for row in report["runs"] if "core_minutes" in row]  # of this tool as it is
    report.setdefault("before", measure("glip-nano", arguments.data))
    for seed in arguments.seeds:
        for way in arguments.ways:
            if not any(row["way"] == way and row["seed"] == seed for row in report["runs"]):
                report["runs"].append(run(way, seed, arguments))
                write_json(path, report)
    sys.stdout.write(table(report["before"], report["runs"]) + "\n")


if __name__ == "__main__":
    main()
