from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.engine.running import assert_same_run, run_config, write_split_world
from training.config import dump_config
from training.engine.checkpoint import checkpoints

ROOT = Path(__file__).resolve().parents[2]


def launch(config: Path, run_dir: Path, stderr: Path) -> subprocess.Popen[bytes]:
    with stderr.open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1"]
            + ["training/train.py", "--config", str(config), "--to", str(run_dir)],
            cwd=ROOT,
            stderr=stream,
        )


def signal_after(launcher: subprocess.Popen[bytes], run_dir: Path, step: int, number: int) -> None:
    """Send the trainer a signal once it has recorded a step."""
    deadline = time.monotonic() + 300
    while last_step(run_dir) < step:
        assert launcher.poll() is None, "the run ended before the signal"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    assert len(children) == 1
    os.kill(int(children[0]), number)


def last_step(run_dir: Path) -> int:
    log = run_dir / "log.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    # The last line may be half written.
    return json.loads(lines[-2])["step"] if len(lines) > 1 else 0


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the trainer through /proc")
def test_a_launched_run_that_is_stopped_and_killed_ends_like_a_whole_one(towers: str, tmp_path: Path) -> None:
    write_split_world(tmp_path / "out")
    tiny = run_config(
        towers,
        tmp_path / "out",
        model={"fusion": {"dropout": 0.1}},
        train={"epochs": 5, "batch_size": 2, "eval_every": 20, "save_every": 4},
    )
    config, run_dir = tmp_path / "run.yaml", tmp_path / "run"
    config.write_text(dump_config(tiny))

    first = launch(config, run_dir, tmp_path / "first.txt")
    signal_after(first, run_dir, 5, signal.SIGTERM)
    # The launcher itself ends with 1 whatever the trainer returns, and says what that was.
    assert first.wait(120) == 1
    said = (tmp_path / "first.txt").read_text()
    assert "exit status 3" in said
    stopped = checkpoints(run_dir)[-1].name
    assert f"stopped after optimizer step {int(stopped[-8:])} of 55; go on with --resume" in said

    second = launch(config, run_dir, tmp_path / "second.txt")
    signal_after(second, run_dir, 30, signal.SIGKILL)
    assert second.wait(120) == 1
    assert f"going on from {run_dir}/checkpoints/{stopped}" in (tmp_path / "second.txt").read_text()
    assert 28 <= int(checkpoints(run_dir)[-1].name[-8:]) < 55

    assert launch(config, run_dir, tmp_path / "third.txt").wait(300) == 0
    # In a process of its own as well: what other tests left behind in this one can round differently.
    assert launch(config, tmp_path / "whole", tmp_path / "whole.txt").wait(300) == 0
    assert_same_run(run_dir, tmp_path / "whole")
