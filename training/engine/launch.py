"""What the command does, around the loop: dry run, resuming, the last report."""

from __future__ import annotations

import logging
from pathlib import Path

from accelerate import Accelerator

from training.config import Config, dump_config
from training.distributed import world_size
from training.engine.assembly import assemble, open_rows
from training.engine.files import write_json, write_text
from training.engine.loop import Loop
from training.engine.resume import resolve_resume
from training.engine.summary import summarise
from training.report.curves import draw_curves

log = logging.getLogger(__name__)


def dry_run(config: Config, run_dir: Path, accelerator: Accelerator) -> list[str]:
    """Return the resolved configuration and what a run of it would be, as lines."""
    rows = open_rows(config, config.data.train_splits, run_dir, accelerator)
    run = assemble(config, accelerator, len(rows))
    found = summarise(config, run.model, run.queues, len(rows), run.steps_per_epoch, world_size())
    return [dump_config(config), str(rows.report), *found.lines()]


def train(config: Config, run_dir: Path, accelerator: Accelerator, resume: str) -> dict[str, float]:
    """Train a run to its end; returns the last validation's metrics.

    Args:
        config: Resolved.
        run_dir: RUN.
        accelerator: Device, precision, processes.
        resume: As `resolve_resume` takes it.
    """
    checkpoint = resolve_resume(run_dir, resume)
    accelerator.wait_for_everyone()
    loop = Loop(config, run_dir, accelerator, checkpoint)
    if accelerator.is_main_process:
        write_text(run_dir / "config.yaml", dump_config(config))
        run = loop.run
        for line in summarise(
            config, run.model, run.queues, len(loop.rows), run.steps_per_epoch, world_size()
        ).lines():
            log.info("%s", line)
        if checkpoint is not None:
            log.info("going on from %s", checkpoint)
    metrics = loop.train()
    if accelerator.is_main_process:
        write_json(run_dir / "metrics.json", metrics)
        draw_curves(run_dir / "log.jsonl", run_dir / "curves.png")
        log.info("%s: metrics.json, curves.png, checkpoints/", run_dir)
    accelerator.end_training()
    return metrics
