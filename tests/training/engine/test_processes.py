from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.engine.running import run_config, write_split_world
from training.config import dump_config
from training.engine.checkpoint import checkpoints
from training.engine.processes import make_accelerator
from training.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_the_launcher_starts_two_processes_of_one_run(towers: str, tmp_path: Path) -> None:
    write_split_world(tmp_path / "out")
    config = tmp_path / "run.yaml"
    config.write_text(dump_config(run_config(towers, tmp_path / "out", train={"max_steps": 2})))
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch"]
        + ["--config_file", "configs/accelerate/cpu.yaml", "--num_cpu_threads_per_process", "1"]
        + ["training/train.py", "--config", config, "--to", tmp_path / "run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("training rows:") == 1, "only the first process informs"
    left = {path.name for path in checkpoints(tmp_path / "run")[-1].iterdir()}
    assert {"rng-rank0.safetensors", "rng-rank1.safetensors"} <= left


def test_processes_that_do_not_meet_are_refused(
    towers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    with pytest.raises(UsageError, match="started 2 processes, but this one sees 1; .*cpu.yaml"):
        make_accelerator(run_config(towers, tmp_path))
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.slow
def test_an_error_of_the_first_process_is_one_sentence_of_all(towers: str, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(dump_config(run_config(towers, tmp_path / "nowhere")))
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "configs/accelerate/cpu.yaml"]
        + ["training/train.py", "--config", config, "--to", tmp_path / "run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    assert done.stderr.count("no samples here") == 1
    # The launcher's own report follows; no process was left waiting for another.
    assert "Connection closed" not in done.stderr and "[rank1]" not in done.stderr, done.stderr
