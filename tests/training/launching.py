"""Processes as ``accelerate launch`` would start them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from accelerate import Accelerator, DistributedType, FullyShardedDataParallelPlugin
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env

from tests.training.engine.running import cpu_accelerator

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = Path("configs/accelerate")


def fsdp_settings(name: str = "fsdp") -> dict[str, str]:
    """Return the variables that the launcher makes of a file's ``fsdp_config``."""
    given = ["--config_file", str(CONFIGS / f"{name}.yaml"), "--main_process_ip", "127.0.0.1"]
    given.append("training/train.py")
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


def launched(arguments: list[str], timeout: float = 200) -> subprocess.CompletedProcess[str]:
    """Run ``accelerate launch ARGUMENTS`` from the repository's root; once more where it did not end in time.

    Two processes over gloo have been seen to stand still once in many runs, without a trace of where. The
    warning then holds it, and the second run, which is left to fail, says whether it is there every time.
    """
    try:
        return _launched(arguments, timeout)
    except StoodStill as error:
        warnings.warn(str(error), stacklevel=2)
        return _launched(arguments, timeout)


class StoodStill(AssertionError):
    """A launched run did not end in time; holds what it printed and where each of its processes stood."""


def _launched(arguments: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "accelerate.commands.launch", *arguments]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        launcher = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err)
        try:
            launcher.wait(timeout)
        except subprocess.TimeoutExpired:
            trainers = children_of(launcher.pid)
            _send(trainers, signal.SIGUSR1)  # each prints its stacks
            time.sleep(2)
            _send([launcher.pid, *trainers], signal.SIGKILL)
            err.seek(0)
            raise StoodStill(f"not done after {timeout:.0f} s:\n{err.read()}") from None
        finally:
            launcher.kill()
            launcher.wait()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, launcher.returncode, out.read(), err.read())


def children_of(process: int) -> list[int]:
    """Return the processes that a process has started; none where /proc does not tell."""
    listed = Path(f"/proc/{process}/task/{process}/children")
    return [int(child) for child in listed.read_text().split()] if listed.exists() else []


def _send(processes: list[int], number: int) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
