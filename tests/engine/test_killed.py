"""`kill -9` at any moment: the run that goes on ends with the weights of one that was never stopped."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from glip.engine.checkpoint import newest_checkpoint
from tests.engine.test_trainer import config_of, data, save_start, start

__all__ = ["data", "save_start", "start"]  # fixtures

TOOL = Path(__file__).parents[2] / "tools" / "train.py"
STEPS, KILLS = 60, 5


def begin(config: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}
    quiet = subprocess.DEVNULL
    return subprocess.Popen([sys.executable, str(TOOL), str(config)], env=environment, stdout=quiet, stderr=quiet)


@pytest.mark.slow
def test_killed_five_times_a_run_ends_with_the_very_same_weights(start: Path, data: Path, tmp_path: Path) -> None:
    """A checkpoint is written after every step, so that most kills meet one that is being written."""
    paths = {}
    for name in ("whole", "killed"):
        config = config_of(start, data, tmp_path / name, steps=STEPS, save_every=1)
        paths[name] = tmp_path / f"{name}.yaml"
        paths[name].write_text(yaml.safe_dump(json.loads(config.model_dump_json())))
    assert begin(paths["whole"]).wait() == 0
    draw = random.Random(0)
    reached = 0
    for _ in range(KILLS):
        process = begin(paths["killed"])
        while (found := newest_checkpoint(tmp_path / "killed")) is None or found[1]["step"] <= reached:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.05)
        reached = found[1]["step"]
        time.sleep(draw.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert newest_checkpoint(tmp_path / "killed") is not None
    assert begin(paths["killed"]).wait() == 0
    ends = [newest_checkpoint(tmp_path / name) for name in ("whole", "killed")]
    whole, killed = (found[1] for found in ends if found is not None)
    assert whole["step"] == killed["step"] == STEPS
    for part in ("model", "average", "buffers"):
        for name, tensor in whole[part].items():
            assert torch.equal(killed[part][name], tensor), name
