"""Processes as ``accelerate launch`` would start them."""

from __future__ import annotations

import os
from pathlib import Path

from accelerate import Accelerator, DistributedType, FullyShardedDataParallelPlugin
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env

from tests.training.engine.running import cpu_accelerator

CONFIGS = Path("configs/accelerate")


def fsdp_settings() -> dict[str, str]:
    """Return the variables that the launcher makes of fsdp.yaml's ``fsdp_config``."""
    given = ["--config_file", str(CONFIGS / "fsdp.yaml"), "training/train.py"]
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(given))
    return {name: value for name, value in prepare_multi_gpu_env(args).items() if name.startswith("FSDP_")}


def sharding_accelerator(rank: int, precision: str = "float32") -> Accelerator:
    """Return the accelerator of one of two processes launched with fsdp.yaml.

    Accelerate starts FSDP on GPUs only; what it then sets is set here.
    """
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", ACCELERATE_USE_CPU="true")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0", **fsdp_settings())
    accelerator = cpu_accelerator(precision)
    assert accelerator.num_processes == 2
    accelerator.state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin()
    assert accelerator.is_fsdp2
    return accelerator
