"""What the command does, around the loop: dry run, resuming, the last report."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from pathlib import Path

from accelerate import Accelerator

from training.config import Config, dump_config
from training.data.rows import Rows, prepare_rows
from training.distributed import all_succeed, from_first, world_size
from training.engine.assembly import Run, assemble, plan_of, rows_folder
from training.engine.files import finite, write_json, write_text
from training.engine.lock import only_one
from training.engine.loop import Loop
from training.engine.resume import resolve_resume
from training.engine.sharding import shards
from training.engine.summary import Summary, summarise
from training.engine.trackers import check_trackers
from training.report.curves import draw_curves

log = logging.getLogger(__name__)

LOCK = ".training"
WAIT = "TRAINING_LOCK_WAIT"
"""Variable with the seconds that a requeued run waits for the one before it to be gone; 0 by default."""
BUSY = "another training is at work here; wait for it, stop it, or choose another --to"


def dry_run(config: Config, run_dir: Path, accelerator: Accelerator) -> list[str]:
    """Return the resolved configuration and what a run of it would be, as lines; RUN is left as it is."""
    all_succeed(lambda: check_trackers(config))
    rows, report = from_first(lambda: _count_rows(config, run_dir))
    run = assemble(config, accelerator, rows)
    return [dump_config(config), report, *_summary(run, rows).lines()]


def _count_rows(config: Config, run_dir: Path) -> tuple[int, str]:
    """Return how many training rows there are, and what is to be said about them."""
    plan = plan_of(config, config.data.train_splits)
    joined = rows_folder(config, run_dir) / plan.name
    if joined.is_file():
        rows = Rows(joined, plan)
        return len(rows), str(rows.report)
    # A run that was stopped may need the older joined rows in its folder, so nothing is written there.
    with tempfile.TemporaryDirectory() as folder:
        rows = prepare_rows(plan.out, plan.splits, Path(folder), plan=plan)
        return len(rows), str(rows.report)


def _summary(run: Run, rows: int) -> Summary:
    return summarise(
        run.config, run.model, run.queues, rows, run.steps_per_epoch, world_size(), shards(run.accelerator)
    )


def train(config: Config, run_dir: Path, accelerator: Accelerator, resume: str) -> dict[str, float]:
    """Train a run to its end; returns the last validation's metrics.

    Args:
        config: Resolved.
        run_dir: RUN.
        accelerator: Device, precision, processes.
        resume: As `resolve_resume` takes it.

    Raises:
        UsageError: Another run is at work in RUN, or something that `Loop` names.
    """
    with contextlib.ExitStack() as held:

        def begin() -> Path | None:
            if not run_dir.exists():
                resolve_resume(run_dir, resume)  # what is refused leaves no folder
            held.enter_context(only_one(run_dir, LOCK, BUSY, float(os.environ.get(WAIT, "0"))))
            return resolve_resume(run_dir, resume)

        all_succeed(lambda: check_trackers(config))
        checkpoint = from_first(begin)
        loop = Loop(config, run_dir, accelerator, checkpoint)
        if accelerator.is_main_process:
            write_text(run_dir / "config.yaml", dump_config(config))
            for line in _summary(loop.run, len(loop.rows)).lines():
                log.info("%s", line)
            if checkpoint is not None:
                log.info("going on from %s", checkpoint)
        metrics = loop.train()
        if accelerator.is_main_process:
            write_json(run_dir / "metrics.json", finite(metrics))
            draw_curves(run_dir / "log.jsonl", run_dir / "curves.png")
            log.info("%s: metrics.json, curves.png, checkpoints/", run_dir)
        accelerator.end_training()
        return metrics
