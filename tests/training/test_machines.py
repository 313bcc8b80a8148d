"""Several machines train as one, are stopped and killed, and end like an uninterrupted run."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.engine.running import assert_same_run, records, run_config, write_split_world
from tests.training.machines import (
    CPU,
    Machines,
    end,
    launch,
    send,
    tree_of,
    two_machines,
    wait_until,
)
from training.config import dump_config
from training.engine.checkpoint import checkpoints

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with two_machines(port=29611) as found:
        yield found


@pytest.fixture(scope="module")
def config(towers: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("tables")
    write_split_world(folder / "out")
    tiny = run_config(
        towers,
        folder / "out",
        model={"fusion": {"dropout": 0.1}},
        train={"epochs": 3, "batch_size": 4, "eval_every": 10, "save_every": 3, "keep_last": 4},
    )
    path = folder / "run.yaml"
    path.write_text(dump_config(tiny))
    return path


@pytest.fixture(scope="module")
def whole(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of two processes on one machine: 15 steps."""
    run_dir: Path = tmp_path_factory.mktemp("whole") / "run"
    words = [*CPU, "training/train.py", "--config", str(config), "--to", str(run_dir)]
    assert launch(words, run_dir.parent / "whole.txt").wait(300) == 0
    return run_dir


def last_step(run_dir: Path) -> int:
    log = run_dir / "log.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    # The last line may be half written.
    return json.loads(lines[-2])["step"] if len(lines) > 1 else 0


def codes(launchers: list[subprocess.Popen[bytes]], limit: float = 300) -> list[int]:
    try:
        return [launcher.wait(limit) for launcher in launchers]
    finally:
        end(launchers)


def texts(folder: Path) -> list[str]:
    return [(folder / f"machine-{rank}.txt").read_text() for rank in (0, 1)]


def test_two_machines_train_like_one(machines: Machines, config: Path, whole: Path, tmp_path: Path) -> None:
    words = ["--config", str(config), "--to", str(tmp_path / "run")]
    both = machines.start_both(words, tmp_path / "said")
    assert codes(both) == [0, 0], texts(tmp_path / "said")
    assert_same_run(tmp_path / "run", whole)


def test_preempted_machines_go_on_bit_for_bit(
    machines: Machines, config: Path, whole: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    words = ["--config", str(config), "--to", str(run_dir), "--resume", "auto"]

    # A scheduler asks one machine to stop, and tells every process of it, twice.
    first = machines.start_both(words, tmp_path / "first")
    wait_until(lambda: last_step(run_dir) >= 3, first)
    for _ in range(2):
        send(tree_of(first[1]), signal.SIGTERM)
    assert codes(first) == [3, 3], texts(tmp_path / "first")
    stopped = checkpoints(run_dir)[-1]
    assert f"stopped after optimizer step {int(stopped.name[-8:])} of 15" in texts(tmp_path / "first")[0]

    # The other machine is gone without a word; what it leaves is a checkpoint that is half written.
    second = machines.start_both(words, tmp_path / "second")
    wait_until(lambda: last_step(run_dir) >= 9, second)
    send(tree_of(second[1]), signal.SIGKILL)
    assert codes(second) == [3, -signal.SIGKILL], texts(tmp_path / "second")
    assert f"going on from {stopped}" in texts(tmp_path / "second")[0]
    assert "lost another process of the run, which was killed" in texts(tmp_path / "second")[0]
    newest = checkpoints(run_dir)[-1]
    half = newest.parent / f".tmp-step-{int(newest.name[-8:]) + 1:08d}"
    half.mkdir()
    (half / "model.safetensors").write_bytes((newest / "model.safetensors").read_bytes()[:100])
    (newest / "optimizer.safetensors").write_bytes(b"")  # as after a power failure

    third = machines.start_both(words, tmp_path / "third")
    assert codes(third) == [0, 0], texts(tmp_path / "third")
    said = texts(tmp_path / "third")[0]
    assert f"{newest.name} is skipped" in said and "going on from" in said
    assert not half.exists()
    assert_same_run(run_dir, whole)


def test_a_run_goes_on_with_fewer_machines(machines: Machines, config: Path, tmp_path: Path) -> None:
    # Batches of 8, so that an epoch has three steps on either: one row left over is a step of one process.
    without = ["--set", "model.fusion.dropout=0", "train.batch_size=8"]
    words = ["--config", str(config), *without, "--to"]
    whole, run_dir = tmp_path / "whole", tmp_path / "run"
    alone = ["--config_file", "configs/accelerate/single-gpu.yaml", "--cpu", "training/train.py"]
    assert launch([*alone, *words, str(whole)], tmp_path / "whole.txt").wait(300) == 0

    both = machines.start_both([*words, str(run_dir)], tmp_path / "both")
    wait_until(lambda: last_step(run_dir) >= 3, both)
    both[0].send_signal(signal.SIGTERM)
    assert codes(both) == [3, 3], texts(tmp_path / "both")
    rest = launch([*alone, *words, str(run_dir)], tmp_path / "rest.txt")
    assert rest.wait(300) == 0

    mine, theirs = records(run_dir), records(whole)
    assert [record["step"] for record in mine] == [record["step"] for record in theirs]
    for found, wanted in zip(mine, theirs, strict=True):
        assert found.keys() == wanted.keys()
        if "loss/total" in found:
            assert found["loss/total"] == pytest.approx(wanted["loss/total"], rel=1e-3), found["step"]
