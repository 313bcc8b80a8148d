"""The whole command as a user starts it, with one process and with two."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from benchmarks.training_runs import Settings, Table, run_logged
from training.config import load_config

_CONFIGS = "configs/accelerate"


def measure_processes(settings: Settings) -> Table:
    """Run ``accelerate launch training/train.py`` and read the speed from RUN/log.jsonl.

    On a CPU all variants share the same cores; on GPUs each process has a card of its own.
    """
    base = load_config(settings.config)
    cores = len(os.sched_getaffinity(0))
    cards = torch.cuda.device_count()
    table = Table(
        f"accelerate launch training/train.py: {settings.steps} timed steps of {base.train.batch_size} rows",
        "rows/s",
        "From RUN/log.jsonl, the first records left out. "
        + (f"{cards} GPUs." if cards else f"{cores} cores, shared evenly by the processes."),
    )
    for count in (1, 2):
        if cards and count > cards:
            table.note += f" {count} processes: left out, there is one GPU."
            continue
        threads = max(1, cores // count)
        named = "2 processes" if count > 1 else "1 process"
        table.add(
            f"{named}, {threads} {'threads' if threads > 1 else 'thread'} each",
            **_launched(settings, base.train.batch_size, count, threads, bool(cards)),
        )
    return table


def _launched(settings: Settings, batch: int, count: int, threads: int, cuda: bool) -> dict[str, float]:
    run_dir = settings.scratch / f"run-{count}"
    every = max(1, settings.steps // 3)
    if cuda:
        how = ["--config_file", f"{_CONFIGS}/{'ddp' if count > 1 else 'single-gpu'}.yaml"]
    elif count > 1:
        how = ["--config_file", f"{_CONFIGS}/cpu.yaml"]
    else:
        how = ["--cpu"]
    how += ["--num_processes", str(count), "--num_cpu_threads_per_process", str(threads)]
    steps = settings.steps + every
    overrides = [f"train.max_steps={steps}", f"train.log_every={every}", f"train.eval_every={steps}"]
    overrides += [f"train.save_every={steps}", "train.trackers=[]", "train.epochs=1000000"]
    # Else the validation at the end would read a whole split.
    overrides.append(f"data.limit={steps * batch}")
    run_logged(
        [sys.executable, "-m", "accelerate.commands.launch", *how, "training/train.py"]
        + ["--config", str(settings.config), "--data", str(settings.data), "--to", str(run_dir)]
        + ["--set", *overrides],
        f"accelerate launch, --num_processes {count}",
        threads,
        {"ACCELERATE_USE_CPU": "false" if cuda else "true"},
    )
    return _figures(run_dir, every)


def _figures(run_dir: Path, every: int) -> dict[str, float]:
    """Return the means of the records after the warm-up.

    All are of equally many rows, so the mean rate is that of the mean time.
    """
    lines = map(json.loads, (run_dir / "log.jsonl").read_text().splitlines())
    records = [r for r in lines if "speed/samples_per_s" in r]
    timed = [r for r in records if r["step"] > every and r["step"] % every == 0]
    seconds = sum(1 / r["speed/samples_per_s"] for r in timed)
    return {
        "rows/s": len(timed) / seconds,
        "waiting": sum(r["speed/data_wait_share"] for r in timed) / len(timed),
        "peak GiB per process": max(r["memory/peak_gib"] for r in timed),
        "loss": timed[-1]["loss/total"],
    }
