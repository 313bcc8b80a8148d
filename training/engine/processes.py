"""The Accelerator of a run, however its processes were started."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs

from training.config import Config
from training.engine.sharding import follow_launcher
from training.errors import UsageError

# The others wait in a collective while one joins the tables or writes a checkpoint to a slow disk, for longer
# than the ten minutes that NCCL waits by default.
TIMEOUT = timedelta(hours=1)


def make_accelerator(config: Config) -> Accelerator:
    """Return the run's Accelerator: device, processes, precision.

    Several processes on a machine without GPUs meet over gloo. Accelerate's launcher does not tell them so,
    and each would take itself for a whole run.

    Raises:
        UsageError: The launcher started several processes and they do not find each other.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    on_cpu = started > 1 and not torch.accelerator.is_available()
    made = Accelerator(
        cpu=on_cpu,
        mixed_precision="bf16" if config.train.precision == "bfloat16" else "no",
        step_scheduler_with_optimizer=False,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=TIMEOUT)],
    )
    if made.num_processes != started:
        raise UsageError(
            f"the launcher started {started} processes, but this one sees {made.num_processes}; "
            "start them with configs/accelerate/cpu.yaml, ddp.yaml or fsdp.yaml"
        )
    follow_launcher(made)
    return made
