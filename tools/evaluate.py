"""Evaluate a model on every benchmark of a YAML file, and print a table.

    python tools/evaluate.py configs/evaluate_dev.yaml [key=value ...]
    torchrun --nproc-per-node 2 tools/evaluate.py configs/evaluate_dev.yaml

Results go to the config's `output` folder, one JSON file a benchmark. Finished benchmarks are kept, and an interrupted
one goes on where it stopped.
"""

import argparse
import logging
import sys
from pathlib import Path

from glip.engine.answers import local_device
from glip.engine.evaluation import RunOptions, evaluate_all
from glip.engine.evaluation_config import read_evaluation_config
from glip.errors import GlipError
from glip.predictor import Predictor

HEADLINES = ("AP", "AP50", "recall@1", "recall@5", "precision@1")


def main() -> None:
    """Read the config, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="YAML file")
    parser.add_argument("overrides", nargs="*", help="key=value, such as model=runs/mine/model output=runs/evaluation")
    parser.add_argument("--overwrite", action="store_true", help="replace finished results")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    config = read_evaluation_config(arguments.config, tuple(arguments.overrides))
    benchmarks = config.build()
    predictor = Predictor.from_pretrained(
        config.model, device=local_device(config.device), batch_size=config.batch_size
    )
    options = RunOptions(model=config.model, workers=config.workers, overwrite=arguments.overwrite)
    results = evaluate_all(benchmarks, predictor, config.output, options)
    for name, result in (results or {}).items():
        numbers = [
            f"{headline} {100 * (value['all'] if isinstance(value, dict) else value):.1f}"
            for headline, value in result["metrics"].items()
            if headline in HEADLINES
        ]
        print(f"| {name} | {result['settings']['benchmark']} | {', '.join(numbers)} |")


if __name__ == "__main__":
    try:
        main()
    except GlipError as error:
        sys.exit(f"error: {error}")
