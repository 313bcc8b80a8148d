"""How a run is started: the launcher's command, its share of the machine, and how it is asked to stop."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from training.ablation.plan import PlannedRun

ROOT = Path(__file__).resolve().parents[2]
"""The checkout; commands start here."""


@dataclass(frozen=True)
class Share:
    """The part of the machine that one of several jobs gets.

    Attributes:
        threads: Processor threads.
        devices: Numbers of the GPUs, empty for the processor.
    """

    threads: int
    devices: tuple[str, ...] = ()


def shares(jobs: int, cores: int, devices: Sequence[str]) -> list[Share]:
    """Divide the machine between jobs that run at the same time.

    Args:
        jobs: How many, at least 1.
        cores: Processor cores.
        devices: Numbers of the GPUs; jobs share one where there are fewer than jobs.
    """
    threads = max(1, cores // jobs)
    if not devices:
        return [Share(threads)] * jobs
    count = len(devices)
    if count < jobs:
        return [Share(threads, (devices[job % count],)) for job in range(jobs)]
    cuts = [job * count // jobs for job in range(jobs + 1)]
    return [Share(threads, tuple(devices[start:end])) for start, end in zip(cuts, cuts[1:], strict=False)]


def visible_devices() -> tuple[str, ...]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    given = [word.strip() for word in named.split(",") if word.strip()]
    return tuple(given[:count]) if len(given) >= count > 0 else tuple(str(number) for number in range(count))


def train_command(run: PlannedRun, config: Path, share: Share, launch: Sequence[str]) -> list[str]:
    """Return the command that trains a run, as ``scripts/train.sh`` would start it.

    Args:
        run: With its folder.
        config: The resolved configuration's file.
        share: Of the machine.
        launch: Arguments for ``accelerate launch`` instead of those that follow from the share.
    """
    count = len(share.devices)
    if launch:
        how = list(launch)
    elif count == 0:
        how = ["--cpu", "--num_processes", "1", "--num_cpu_threads_per_process", str(share.threads)]
    else:
        # Port 0: jobs at the same time must not meet at one port.
        several = ["--multi_gpu", "--main_process_port", "0"] if count > 1 else []
        how = ["--num_processes", str(count), "--num_machines", "1", *several]
    script = [str(ROOT / "training" / "train.py"), "--config", str(config), "--to", str(run.folder)]
    return [sys.executable, "-m", "accelerate.commands.launch", *how, *script]


def evaluate_command(run: PlannedRun, data: Path, split: str, to: Path) -> list[str]:
    """Return the command that evaluates a trained run."""
    words = ["--checkpoint", str(run.folder), "--data", str(data), "--split", split, "--to", str(to)]
    return [sys.executable, "-m", "training.ablation.worker", *words]


def start(command: Sequence[str], share: Share, log: IO[bytes], lock: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a command with its share of the machine.

    Args:
        command: Words.
        share: Of the machine.
        log: Receives all output.
        lock: Locked file that says "in use" for as long as the command runs, even if this process is killed.
    """
    environment = dict(os.environ) | {"OMP_NUM_THREADS": str(share.threads)}
    # Threads that spin while they wait take the cores that the other jobs need.
    environment.setdefault("OMP_WAIT_POLICY", "passive")
    if share.devices:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(share.devices)
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=(lock.fileno(),),
        # Ctrl-C reaches a whole group; the jobs are told one by one instead.
        start_new_session=True,
    )


def ask_to_stop(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM to the trainers of a launcher, or to the process itself if it has none.

    The launcher does not pass signals on, and would leave its trainer behind.
    """
    try:
        children = psutil.Process(process.pid).children()
        for child in children or [psutil.Process(process.pid)]:
            child.terminate()
    except psutil.NoSuchProcess:
        pass
