"""Run one function in two processes that form a Gloo group."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.multiprocessing as mp


def _enter(rank: int, function: Callable[..., None], folder: Path, arguments: tuple[Any, ...]) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    try:
        function(rank, folder, *arguments)
    finally:
        dist.destroy_process_group()


def run_twice(function: Callable[..., None], folder: Path, *arguments: Any) -> None:
    """Call ``function(rank, folder, ...)`` on ranks 0 and 1; an error of either is raised here."""
    mp.spawn(_enter, args=(function, folder, arguments), nprocs=2)
