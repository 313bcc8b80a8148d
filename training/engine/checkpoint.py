"""What a checkpoint holds, and how it is found, checked and read; no pickle anywhere.

RUN/checkpoints/step-00001234/
    model, momentum, queues, optimizer .safetensors    tensors by name
    rng-rank0.safetensors                              random generators, one file per process
    state.json                                         counters, schedule, configuration
    files.json                                         size and SHA-256 of the files above
    metrics.json                                       validation metrics at this step, if there are any
RUN/checkpoints/last.json, best.json                   name a checkpoint
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from training.engine.files import sha256
from training.engine.tensors import check_tensors, read_tensors
from training.errors import DataError

log = logging.getLogger(__name__)

FOLDER = "checkpoints"
PREFIX = "step-"
PARTS = ("model", "momentum", "queues", "optimizer")


@dataclass(frozen=True)
class Counters:
    """What ``state.json`` holds.

    Attributes:
        step: Optimizer steps done.
        epoch: Epoch of the next step, from 0.
        position: Effective batches of that epoch that are done.
        schedule: State of the learning rate schedule.
        best: Best value so far of each watched metric.
        config: The resolved configuration, for `changed_keys`.
        world_size: Processes that wrote the checkpoint.
        rows: Name of the joined training rows, which the position refers to.
        steps_per_epoch: Optimizer steps of the first epoch, which the schedule's length follows from.
        means: State of `Means`: what the steps since the last record add to the next one.
    """

    step: int
    epoch: int = 0
    position: int = 0
    schedule: dict[str, Any] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    world_size: int = 1
    rows: str = ""
    steps_per_epoch: int = 0
    means: dict[str, tuple[float, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainState:
    """A run at a step. Tensors are full ones, by name; ranks other than 0 may leave all but ``rng`` empty.

    Attributes:
        counters: Where the run is.
        model: Weights and buffers.
        momentum: Those of the momentum encoder.
        queues: Momentum features and their counters.
        optimizer: From `flatten_optimizer`.
        rng: From `rng_state`, this rank's own; None when the run had fewer processes than it has now.
        metrics: Validation metrics at this step.
    """

    counters: Counters
    model: Mapping[str, Tensor] = field(default_factory=dict)
    momentum: Mapping[str, Tensor] = field(default_factory=dict)
    queues: Mapping[str, Tensor] = field(default_factory=dict)
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    rng: Mapping[str, Tensor] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


def folder_of(run_dir: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies."""
    return run_dir / FOLDER / f"{PREFIX}{step:08d}"


def step_of(path: Path) -> int:
    """Return the step that a checkpoint's name says."""
    return int(path.name.removeprefix(PREFIX))


def checkpoints(run_dir: Path) -> list[Path]:
    """Return the finished checkpoints of a run, oldest first; whether they are whole is not checked."""
    found = [p for p in (run_dir / FOLDER).glob(f"{PREFIX}*") if p.name.removeprefix(PREFIX).isdigit()]
    return sorted(found, key=step_of)


def pointed(run_dir: Path, name: str) -> Path | None:
    """Return the checkpoint that ``last`` or ``best`` names, or None: also where it was removed."""
    pointer = run_dir / FOLDER / f"{name}.json"
    if not pointer.is_file():
        return None
    found = run_dir / FOLDER / str(json.loads(pointer.read_text(encoding="utf-8"))["checkpoint"])
    return found if found.is_dir() else None


def rows_needed(run_dir: Path) -> set[str]:
    """Return the names of the joined rows that checkpoints of a run stopped in the middle of."""
    needed = set()
    for path in checkpoints(run_dir):
        with contextlib.suppress(DataError):  # nothing goes on from a damaged one
            counters = read_counters(path)
            if counters.position:
                needed.add(counters.rows)
    return needed


def damage(path: Path, deep: bool = True) -> str | None:
    """Return what is wrong with a checkpoint's files, or None.

    Args:
        path: Folder of the checkpoint.
        deep: Compare hashes too, which reads every byte; else names and sizes.
    """
    try:
        listed = json.loads((path / "files.json").read_text(encoding="utf-8"))
        for name, entry in listed.items():
            size = (path / name).stat().st_size
            if size != entry["size"]:
                return f"{path / name} has {size:,} bytes instead of {entry['size']:,}"
            if deep and sha256(path / name) != entry["sha256"]:
                return f"{path / name} has changed since it was written (SHA-256)"
    except FileNotFoundError as error:
        return f"{error.filename} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{path} cannot be read: {error}"
    return None


def read_counters(path: Path) -> Counters:
    """Read a checkpoint's ``state.json`` alone.

    Raises:
        DataError: It is damaged or missing.
    """
    file = path / "state.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        # JSON has lists only; a checkpoint that was read is to equal the one that was written.
        means = {name: (float(total), int(count)) for name, (total, count) in values.pop("means", {}).items()}
        return Counters(**values, means=means)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{file} cannot be read: {error}; resume from another checkpoint") from None


def load_checkpoint(
    path: Path,
    expected: Mapping[str, Mapping[str, Tensor]] | None = None,
    rank: int = 0,
    deep: bool = True,
) -> TrainState:
    """Read a checkpoint.

    Args:
        path: Its folder.
        expected: For ``model``, ``momentum`` or ``queues``: the state dict that the tensors are to fill;
            names, shapes and types must agree.
        rank: Whose random generators are wanted.
        deep: Compare hashes too, which reads every file once more; not needed after `resolve_resume`.

    Raises:
        DataError: A file is damaged or missing, or a tensor is missing, left over or of another shape.
    """
    if problem := damage(path, deep):
        raise DataError(f"{problem}; the checkpoint {path} is damaged, resume from another one")
    tensors = {part: read_tensors(path / f"{part}.safetensors") for part in PARTS}
    for part, wanted in (expected or {}).items():
        check_tensors(tensors[part], wanted, path / f"{part}.safetensors")
    counters = read_counters(path)
    generators = path / f"rng-rank{rank}.safetensors"
    if not generators.is_file():
        message = "%s was written by %d processes: rank %d starts new random streams, dropout will differ"
        log.warning(message, path, counters.world_size, rank)
    rng = read_tensors(generators) if generators.is_file() else None
    return TrainState(counters, **tensors, rng=rng, metrics=metrics_of(path))


def metrics_of(path: Path) -> dict[str, float]:
    """Return the validation metrics of a checkpoint; empty if it was not evaluated."""
    file = path / "metrics.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
