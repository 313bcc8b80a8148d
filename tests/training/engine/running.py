"""Runs of the trainer inside the test's process, on a small world, and what they leave behind."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from tests.training.configs import tiny_config
from tests.training.data.building import write_captions, write_explanations, write_rows, write_world
from training.config.sections import Config
from training.engine.checkpoint import PARTS, checkpoints
from training.engine.loop import Loop
from training.engine.meters import Progress
from training.engine.resume import resolve_resume
from training.engine.signals import StopSignal
from training.engine.step import StepResult
from training.engine.trackers import Trackers

TRAIN_ROWS, VAL_ROWS = 21, 8


def write_split_world(out: Path, *, texts: bool = True) -> list[dict[str, Any]]:
    """Write a world of 21 training and 8 validation rows; return the rows."""
    rows = write_world(out, TRAIN_ROWS + VAL_ROWS)
    rows = [row | {"split": "train" if n < TRAIN_ROWS else "val"} for n, row in enumerate(rows)]
    write_rows(out, rows)
    if texts:
        write_captions(out, rows)
        write_explanations(out, rows)
    return rows


def run_config(towers: str, out: Path, **changes: Any) -> Config:
    """Return the tiny configuration on a world, without TensorBoard; 3 steps per epoch."""
    data = {"out": out, **changes.pop("data", {})}
    train = {"trackers": (), "epochs": 3, **changes.pop("train", {})}
    return tiny_config(towers, data=data, train=train, **changes)


def cpu_accelerator(precision: str = "float32") -> Accelerator:
    """Return an accelerator on the CPU, whatever an earlier test set."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=True, mixed_precision="bf16" if precision == "bfloat16" else "no")


class StoppedLoop(Loop):
    """Sends its own process a SIGTERM right after an optimizer step, or at the start of a validation."""

    stop_at = 0
    in_validation = False

    def _record(self, result: StepResult, trackers: Trackers, progress: Progress) -> None:
        super()._record(result, trackers, progress)
        if self.step == self.stop_at and not self.in_validation:
            signal.raise_signal(signal.SIGTERM)

    def _evaluate(self, stop: StopSignal, trackers: Trackers, progress: Progress) -> bool:
        if self.step == self.stop_at and self.in_validation:
            signal.raise_signal(signal.SIGTERM)
        return super()._evaluate(stop, trackers, progress)


def open_loop(config: Config, run_dir: Path, kind: type[Loop] = Loop) -> Loop:
    """Return a loop that goes on from the last checkpoint of RUN, if it has one."""
    accelerator = cpu_accelerator(config.train.precision)
    return kind(config, run_dir, accelerator, resolve_resume(run_dir, "auto"))


def records(run_dir: Path) -> list[dict[str, Any]]:
    """Return the records of log.jsonl without what depends on the clock and the machine."""
    kept = []
    for line in (run_dir / "log.jsonl").read_text().splitlines():
        values = json.loads(line)
        volatile = ("time", "speed/", "memory/")
        kept.append({name: value for name, value in values.items() if not name.startswith(volatile)})
    return kept


def last_tensors(run_dir: Path) -> dict[str, torch.Tensor]:
    """Return every tensor of the newest checkpoint, random generators included, by file and name."""
    path = checkpoints(run_dir)[-1]
    names = [*PARTS, "rng-rank0"]
    return {f"{n}/{k}": v for n in names for k, v in load_file(path / f"{n}.safetensors").items()}


def last_json(run_dir: Path, name: str) -> dict[str, Any]:
    """Return ``state`` or ``metrics`` of the newest checkpoint."""
    found: dict[str, Any] = json.loads((checkpoints(run_dir)[-1] / f"{name}.json").read_text())
    return found


def assert_same_run(run_dir: Path, other: Path) -> None:
    """Compare what two runs left, bit for bit."""
    mine, theirs = last_tensors(run_dir), last_tensors(other)
    assert mine.keys() == theirs.keys()
    # The byte view tells -0.0 from 0.0 and equals NaN with NaN.
    differing = [k for k in mine if mine[k].numpy().tobytes() != theirs[k].numpy().tobytes()]
    assert differing == []
    state, wanted = last_json(run_dir, "state"), last_json(other, "state")
    for found in (state, wanted):
        found["config"]["data"].pop("workers")
    assert state == wanted
    assert last_json(run_dir, "metrics") == last_json(other, "metrics")
    assert records(run_dir) == records(other)
