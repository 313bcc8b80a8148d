"""Save a checkpoint again and again, each time in a process that dies one file operation later."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from training.engine.checkpoint import Counters, TrainState
from training.engine.store import CheckpointStore

CALLS = ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir")


def die_at(number: int) -> None:
    """Kill this process just before its nth file operation."""
    count = 0

    def deadly(original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        return call

    for name in CALLS:
        setattr(os, name, deadly(getattr(os, name)))


def save(run: Path, step: int) -> None:
    state = TrainState(
        Counters(step),
        model={"w": torch.full((2,), float(step))},
        rng={"torch": torch.get_rng_state()},
        metrics={"score": 0.5},
    )
    CheckpointStore(run, keep_last=1, keep_best=0, metric="score").save(state)


def main(folder: Path) -> None:
    save(folder / "start", 1)
    for number in range(1, 200):
        run = folder / f"died-{number:03d}"
        shutil.copytree(folder / "start", run)
        child = os.fork()
        if child == 0:
            die_at(number)
            save(run, 2)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            return
    raise SystemExit("a save has more file operations than expected")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
