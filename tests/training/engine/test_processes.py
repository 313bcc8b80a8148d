from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.training.engine.running import run_config, write_split_world
from tests.training.launching import launched
from training.config import dump_config
from training.engine.checkpoint import checkpoints
from training.engine.processes import make_accelerator
from training.errors import UsageError

CPU = ("--config_file", "configs/accelerate/cpu.yaml", "--num_cpu_threads_per_process", "1")


@pytest.mark.slow
def test_the_launcher_starts_two_processes_of_one_run(towers: str, tmp_path: Path) -> None:
    write_split_world(tmp_path / "out")
    config = tmp_path / "run.yaml"
    config.write_text(dump_config(run_config(towers, tmp_path / "out", train={"max_steps": 2})))
    done = launched([*CPU, "training/train.py", "--config", str(config), "--to", str(tmp_path / "run")])
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


def test_processes_wait_an_hour_for_one_that_joins_or_writes(
    towers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    handler = make_accelerator(run_config(towers, tmp_path)).init_handler
    assert handler is not None and handler.timeout == timedelta(hours=1)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.slow
def test_an_error_of_another_process_is_told_and_ends_the_run(
    towers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = write_split_world(tmp_path / "out")
    # In a validation each process has a part of the rows, in order: the last one is of the second process.
    last = max((row for row in rows if row["split"] == "val"), key=lambda row: row["sample_id"])
    broken = tmp_path / "out" / "images" / last["image_path"]
    broken.write_bytes(broken.read_bytes()[:40])
    config = tmp_path / "run.yaml"
    config.write_text(dump_config(run_config(towers, tmp_path / "out", train={"max_steps": 2})))
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "300")
    done = launched([*CPU, "training/train.py", "--config", str(config), "--to", str(tmp_path / "run")])
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if line.startswith("rank 1: ")]
    assert len(told) == 1 and broken.name in told[0], done.stderr


@pytest.mark.slow
def test_an_error_of_the_first_process_is_one_sentence_of_all(towers: str, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(dump_config(run_config(towers, tmp_path / "nowhere")))
    done = launched([*CPU, "training/train.py", "--config", str(config), "--to", str(tmp_path / "run")])
    assert done.returncode == 1
    assert done.stderr.count("no samples here") == 1
    # The launcher's own report follows; no process was left waiting for another.
    assert "Connection closed" not in done.stderr and "[rank1]" not in done.stderr, done.stderr
