"""Which checkpoint a run starts from."""

from __future__ import annotations

import logging
from pathlib import Path

from training.engine.checkpoint import checkpoints, damage, step_of
from training.errors import DataError, UsageError

log = logging.getLogger(__name__)


def resolve_resume(run_dir: Path, resume: str) -> Path | None:
    """Return the checkpoint to start from, or None to start anew.

    Args:
        run_dir: RUN.
        resume: ``auto``: the latest whole checkpoint of RUN if it has any; ``true``: the same, but there must
            be one; ``false``: start anew, in a RUN without checkpoints; else the folder of a checkpoint.

    Raises:
        UsageError: There is no checkpoint but must be one, or there are some that would be mixed up with the
            run's own.
        DataError: No checkpoint is whole, or the named one is not.
    """
    found = checkpoints(run_dir)
    if resume == "false":
        if found:
            raise UsageError(
                f"{run_dir} already has checkpoints, up to {found[-1].name}: continue with --resume, or "
                "choose another --to"
            )
        return None
    if resume not in ("auto", "true"):
        return _named(run_dir, Path(resume).expanduser(), found)
    if not found and resume == "true":
        raise UsageError(f"{run_dir} has no checkpoint to resume from; leave --resume out to start anew")
    for path in reversed(found):
        problem = damage(path)
        if problem is None:
            return path
        log.warning("%s; %s is skipped", problem, path.name)
    if found:
        raise DataError(f"{run_dir}: none of its {len(found)} checkpoints is whole; choose another --to")
    return None


def _named(run_dir: Path, path: Path, found: list[Path]) -> Path:
    if not path.is_dir():
        known = ", ".join(p.name for p in found) or "none"
        raise UsageError(f"--resume {path} is no folder; checkpoints of {run_dir}: {known}")
    if problem := damage(path):
        raise DataError(f"--resume {path}: {problem}")
    same = [p for p in found if p.resolve() == path.resolve()]
    others = [p for p in found if not same or step_of(p) > step_of(path)]
    if others:
        raise UsageError(
            f"{run_dir} has checkpoints that do not lead to {path}, up to {others[-1].name}: use --resume "
            "auto, remove them, or choose another --to"
        )
    return path
