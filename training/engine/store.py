"""Writing checkpoints whole or not at all, and deleting those that are not to be kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError

from training.distributed import all_succeed, from_first
from training.engine.checkpoint import (
    FOLDER,
    PARTS,
    TrainState,
    checkpoints,
    damage,
    folder_of,
    metrics_of,
    step_of,
)
from training.engine.files import TEMPORARY_PREFIX, fsync_folder, sha256, write_json
from training.engine.retention import ranked, superfluous
from training.engine.tensors import write_tensors
from training.errors import TrainingError


class CheckpointStore:
    """Writes the checkpoints of a run and deletes those that are not to be kept.

    Args:
        run_dir: RUN; the checkpoints lie in RUN/checkpoints.
        keep_last: Newest ones kept.
        keep_best: Best ones kept.
        metric: Validation metric that ranks them.
        greater_is_better: Direction of the metric.
        rank: This process; rank 0 writes what is shared.
    """

    def __init__(
        self,
        run_dir: Path,
        keep_last: int,
        keep_best: int,
        metric: str,
        greater_is_better: bool = True,
        rank: int = 0,
    ) -> None:
        self._run_dir, self._keep_last, self._keep_best = run_dir, keep_last, keep_best
        self._metric, self._greater = metric, greater_is_better
        self._rank = rank
        self._folder = run_dir / FOLDER
        if rank == 0:
            self._folder.mkdir(parents=True, exist_ok=True)
            for leftover in self._folder.glob(f"{TEMPORARY_PREFIX}*"):
                _remove(leftover)

    def save(self, state: TrainState) -> Path:
        """Write a checkpoint; every process calls this with its own state. Evaluate before, not after.

        A whole checkpoint of the same step is kept as it is, since equal steps of a run are equal; only its
        metrics are set when ``state`` has some.

        Raises:
            TrainingError: The disk of a process is full or refuses; earlier checkpoints are untouched. Raised
                by all of them.
        """
        target = folder_of(self._run_dir, state.counters.step)
        temporary = self._folder / f"{TEMPORARY_PREFIX}{target.name}"
        exists = from_first(lambda: target.is_dir() and damage(target) is None)
        try:
            # Each part ends when all processes are through with it, or fails on all of them.
            if not exists:
                self._part(target, lambda: self._begin(temporary))
                self._part(target, lambda: self._write(state, temporary))
            self._part(target, lambda: self._finish(state, temporary, target, exists))
        except TrainingError:
            if self._rank == 0:
                shutil.rmtree(temporary, ignore_errors=True)
            raise
        return target

    def is_among_best(self, step: int, value: float) -> bool:
        """Tell whether a validation of a step belongs to the best that are kept; only on rank 0."""
        return (
            step in ranked(self._values(self._whole(step)) | {step: value}, self._greater)[: self._keep_best]
        )

    def _part(self, target: Path, work: Callable[[], None]) -> None:
        def told() -> None:
            try:
                work()
            except (OSError, SafetensorError) as error:
                raise TrainingError(
                    f"the checkpoint {target} could not be written: {error}. Make room on that disk and "
                    "resume: earlier checkpoints are untouched"
                ) from error

        all_succeed(told)

    def _begin(self, temporary: Path) -> None:
        if self._rank == 0:
            _remove(temporary)
            temporary.mkdir()

    def _write(self, state: TrainState, temporary: Path) -> None:
        if state.rng is not None:
            write_tensors(temporary / f"rng-rank{self._rank}.safetensors", state.rng)
        if self._rank == 0:
            for part in PARTS:
                write_tensors(temporary / f"{part}.safetensors", getattr(state, part))
            write_json(temporary / "state.json", asdict(state.counters))

    def _finish(self, state: TrainState, temporary: Path, target: Path, exists: bool) -> None:
        if self._rank != 0:
            return
        if exists:
            if state.metrics:
                write_json(target / "metrics.json", dict(state.metrics))
        else:
            written = sorted(temporary.iterdir())
            write_json(
                temporary / "files.json",
                {file.name: {"size": file.stat().st_size, "sha256": sha256(file)} for file in written},
            )
            if state.metrics:
                write_json(temporary / "metrics.json", dict(state.metrics))
            fsync_folder(temporary)
            # Only a damaged checkpoint can stand here, which a run has skipped and then come back to.
            _remove(target)
            os.rename(temporary, target)
            fsync_folder(self._folder)
        self._tidy(target)

    def _whole(self, newest: int) -> dict[int, Path]:
        """Return the whole checkpoints up to a step.

        Damaged ones, and later ones, which this run has skipped as damaged, are neither counted nor deleted:
        someone may want to look at them.
        """
        return {
            step_of(path): path
            for path in checkpoints(self._run_dir)
            if step_of(path) <= newest and damage(path, deep=False) is None
        }

    def _values(self, whole: Mapping[int, Path]) -> dict[int, float]:
        """Return the metric of those that were evaluated."""
        metrics = {step: metrics_of(path) for step, path in whole.items()}
        return {step: found[self._metric] for step, found in metrics.items() if self._metric in found}

    def _tidy(self, newest: Path) -> None:
        """Point at the newest and the best checkpoint, then delete what is not to be kept."""
        whole = self._whole(step_of(newest))
        values = self._values(whole)
        write_json(self._folder / "last.json", {"checkpoint": newest.name})
        best = ranked(values, self._greater)
        if best and self._keep_best:
            pointer = {"checkpoint": whole[best[0]].name, self._metric: values[best[0]]}
            write_json(self._folder / "best.json", pointer)
        else:
            # What it names may be deleted next.
            (self._folder / "best.json").unlink(missing_ok=True)
        for step in superfluous(whole, values, self._keep_last, self._keep_best, self._greater):
            _remove(whole[step])


def _remove(path: Path) -> None:
    """Delete a file or folder; a checkpoint loses its name first, so that none is ever seen half deleted."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    if not path.name.startswith(TEMPORARY_PREFIX):
        named, path = path, path.parent / f"{TEMPORARY_PREFIX}trash-{path.name}"
        os.rename(named, path)
    shutil.rmtree(path)
