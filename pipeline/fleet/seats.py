"""The places that a run has for workers, each with the devices that its worker may use."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pipeline.config import RunConfig
from pipeline.config.models import ModelConfig
from pipeline.costs.price import devices_per_worker
from pipeline.engines.choice import resolve_job
from pipeline.engines.installed import has_nvidia_driver
from pipeline.errors import UsageError

VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Seat:
    """A place for one worker.

    Attributes:
        name: ``worker-1`` and so on.
        devices: What the worker sees as ``CUDA_VISIBLE_DEVICES``; None leaves it as it is.
    """

    name: str
    devices: str | None = None


def visible_devices() -> list[str]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    if not has_nvidia_driver():
        return []
    chosen = os.environ.get(VISIBLE)
    if chosen is not None:
        names: list[str] = []
        for name in (part.strip() for part in chosen.split(",")):
            if not name or name.startswith("-"):
                break  # CUDA, too, sees nothing from the first invalid one on
            names.append(name)
        return names
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def on_gpus(model: ModelConfig) -> bool:
    """Return whether a model, its engine chosen, runs on whichever GPUs its process sees."""
    return model.engine != "echo" and model.device in ("auto", "cuda")


def seats_for(config: RunConfig, table: str) -> list[Seat]:
    """Return the seats of a run on this machine: what ``workers`` asks for, GPUs shared out among them.

    Args:
        config: The run's configuration.
        table: ``captions`` or ``explanations``.

    Raises:
        UsageError: More workers than the visible GPUs have room for, or several for one named device.
    """
    model = resolve_job(config, table).model_for(table)
    name, per_worker = config.job(table).model, devices_per_worker(model)
    devices = visible_devices() if on_gpus(model) else []
    count = max(1, len(devices) // per_worker) if config.workers == "auto" else config.workers
    if count == 1:
        return [Seat("worker-1")]
    if model.device.startswith("cuda:"):
        raise UsageError(
            f"workers is {count}, but models.{name}.device is {model.device}, one device; set it to auto "
            f"and choose GPUs with {VISIBLE}"
        )
    if devices and count * per_worker > len(devices):
        raise UsageError(
            f"workers is {count}, each with {per_worker} GPU(s) for models.{name}, but {len(devices)} are "
            f"visible ({VISIBLE}={','.join(devices)}); set workers to {len(devices) // per_worker} or to auto"
        )
    seats = []
    for number in range(count):
        mine = devices[number * per_worker : (number + 1) * per_worker]
        seats.append(Seat(f"worker-{number + 1}", ",".join(mine) or None))
    return seats
