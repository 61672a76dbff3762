"""A training that is killed anywhere, and resumed, ends with the weights of one that was not; needs the train extra."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.learning import scanner_data

pytest.importorskip("torch", reason="training needs the train extra")
pytest.importorskip("mlflow", reason="training needs the train extra")


pytestmark = [pytest.mark.torch, pytest.mark.timeout(1200)]

RECIPE = """\
name = "killed"
version = "1.0.0"
network = { widths = [8, 16, 24] }
input = { rows = 48, columns = 64 }
fitting = { epochs = 5, batch = 8, checkpoint_steps = 1 }
"""
KILLS = 4


def start(folder: Path, home: str, *options: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "FETALMLOPS_HOME": str(folder / home), "OMP_NUM_THREADS": "1"}
    program = str(Path(sys.executable).with_name("fetalmlops"))
    arguments = ["train", "--recipe", str(folder / "recipe.toml"), "--data", str(folder / "data"), *options]
    return subprocess.Popen([program, *arguments], env=environment, stderr=subprocess.DEVNULL)


def weights(folder: Path, home: str) -> str:
    return hashlib.sha256((folder / home / "bundles" / "killed-1.0.0" / "weights.safetensors").read_bytes()).hexdigest()


def checkpoint(folder: Path) -> int:
    """When the checkpoint was last written, ns; 0 where there is none."""
    with contextlib.suppress(StopIteration, FileNotFoundError):
        return next((folder / "killed" / "training").glob("*/checkpoint.pt")).stat().st_mtime_ns
    return 0


def kill_after(process: subprocess.Popen[bytes], folder: Path, written: int, delay: float) -> bool:
    """Kill a training once so many checkpoints were written and a moment has passed; False where it ended before."""
    last = checkpoint(folder)
    while written:
        if process.poll() is not None:
            return False
        if (now := checkpoint(folder)) != last:
            last, written = now, written - 1
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    return process.wait() < 0


def test_a_killed_training_resumes_to_the_same_weights(tmp_path: Path) -> None:
    scanner_data(tmp_path / "data", 81, seed=2)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    assert start(tmp_path, "whole").wait() == 0
    rng, killed = random.Random(os.urandom(8)), 0
    for _ in range(KILLS):
        process = start(tmp_path, "killed", "--resume")
        killed += kill_after(process, tmp_path, rng.randint(1, 4), rng.uniform(0, 0.1))
    assert killed >= 2
    assert start(tmp_path, "killed", "--resume").wait() == 0
    assert weights(tmp_path, "killed") == weights(tmp_path, "whole")
