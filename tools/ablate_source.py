"""Train with and without one source of an experiment, several seeds, same steps, and print the dev numbers of both.

    python tools/ablate_source.py configs/glip_nano_pseudo.yaml --source runs/pseudo.jsonl --data ../shared/data \
        --output runs/ablation [--seeds 0 1 2] [--sets realground coco_mini_captions]

Each run is the command a user would give, `glip train CONFIG sources=...`, and its last weights are measured once, by
tools/evaluate_dev.py. A run that is there already is not made again.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glip.errors import ConfigError, GlipError
from glip.files import write_json

Record = dict[str, Any]
KINDS = ("without", "with")


def sources_of(config: Path, source: str, kind: str) -> list[Record]:
    """The experiment's sources, with or without one of them.

    Raises:
        ConfigError: the experiment does not have it.
    """
    sources: list[Record] = yaml.safe_load(config.read_text(encoding="utf-8"))["sources"]
    others = [one for one in sources if one["annotations"] != source]
    if len(others) == len(sources):
        raise ConfigError(f"{config}: no source has annotations {source}")
    return sources if kind == "with" else others


def numbers_of(measured: Record, prefix: str = "") -> dict[str, float]:
    """All numbers of a report by their path, as in `realground/recall@1`."""
    found: dict[str, float] = {}
    for name, value in measured.items():
        if isinstance(value, dict):
            found |= numbers_of(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            found[f"{prefix}{name}"] = float(value)
    return found


def run(kind: str, seed: int, arguments: argparse.Namespace) -> Record:
    """Train once, measure, and keep the numbers only."""
    folder = arguments.output / f"{kind}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was interrupted
    sources = json.dumps(sources_of(arguments.config, arguments.source, kind))
    train = [sys.executable, "-m", "glip", "train", str(arguments.config), f"sources={sources}", f"seed={seed}"]
    measure = [sys.executable, "tools/evaluate_dev.py", "--data", str(arguments.data), "--sets", *arguments.sets]
    with (arguments.output / f"{kind}-{seed}.log").open("w") as log:
        subprocess.run([*train, f"output={folder}"], check=True, stdout=log, stderr=log)
        said = subprocess.run(
            [*measure, "--model", str(folder / "model")], check=True, stdout=subprocess.PIPE, stderr=log
        )
    shutil.rmtree(folder)
    return {"kind": kind, "seed": seed, **json.loads(said.stdout)}


def table(rows: list[Record]) -> str:
    """Markdown: a line for each number that both kinds have, means over seeds and each seed's value."""
    by_kind = {kind: [numbers_of(row) for row in rows if row["kind"] == kind] for kind in KINDS}
    names = [name for name in by_kind["without"][0] if name != "seed"]
    lines = ["| number | without | with | each seed without | each seed with |", "| --- | --- | --- | --- | --- |"]
    for name in names:
        values = {kind: [row[name] for row in found] for kind, found in by_kind.items()}
        means = " | ".join(f"{statistics.mean(values[kind]):.3f}" for kind in KINDS)
        each = " | ".join(", ".join(f"{value:.3f}" for value in values[kind]) for kind in KINDS)
        lines.append(f"| {name} | {means} | {each} |")
    return "\n".join(lines)


def main() -> None:
    """Make the runs that are not there yet, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="an experiment that has the source")
    parser.add_argument("--source", required=True, help="its `annotations` in the experiment")
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets of ../shared/data")
    parser.add_argument("--sets", nargs="+", default=["realground"], help="dev sets that are measured")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "table.json"
    rows: list[Record] = json.loads(path.read_text()) if path.is_file() else []
    for seed in arguments.seeds:
        for kind in KINDS:
            if not any(row["kind"] == kind and row["seed"] == seed for row in rows):
                rows.append(run(kind, seed, arguments))
                write_json(path, rows)
    sys.stdout.write(table(rows) + "\n")


if __name__ == "__main__":
    try:
        main()
    except GlipError as error:
        sys.exit(f"error: {error}")
