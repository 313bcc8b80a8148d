"""Workers as tasks of a Ray cluster, through prefect-ray."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from prefect_ray import RayTaskRunner
from prefect_ray.context import remote_options
from prefect_ray.task_runners import PrefectRayFuture

from flows.fleet import Starter, end_of, task_parameters, work_in_seat
from pipeline.config import RunConfig
from pipeline.config.models import ModelConfig
from pipeline.costs.price import devices_per_worker
from pipeline.errors import UsageError
from pipeline.fleet.order import Order, WorkerEnd
from pipeline.fleet.seats import Seat, on_gpus
from pipeline.fleet.supervise import Running


class _OnRay:
    """A worker whose task runs on some node of the cluster."""

    def __init__(self, future: PrefectRayFuture[Any], seat: Seat) -> None:
        self._future, self._seat = future, seat

    def poll(self) -> WorkerEnd | None:
        ready, _ = ray.wait([self._future.wrapped_future], timeout=0)
        if not ready:
            return None
        # A node that is gone makes the state a crashed one here.
        self._future.wait()
        return end_of(self._future.state, self._seat)

    def stop(self) -> None:
        # The worker process sees that whoever started it is gone, and stops at its next row.
        ray.cancel(self._future.wrapped_future, force=True)


@contextmanager
def ray_starter(config: RunConfig, model: ModelConfig, order: Order) -> Iterator[tuple[list[Seat], Starter]]:
    """Connect to the cluster; provide its seats and what starts a worker in one.

    Args:
        config: The run's configuration: ``ray`` and ``workers``.
        model: The model, its engine chosen.
        order: What the workers are told.

    Raises:
        UsageError: The cluster cannot be reached, or has no room for a single worker.
    """
    address = config.ray.address
    options: dict[str, Any] = {"include_dashboard": False} if address is None else {}
    if address == "auto":
        options["address"] = address
    runner = RayTaskRunner(address=None if address == "auto" else address, init_kwargs=options)
    try:
        runner.__enter__()
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise UsageError(
            f"ray.address {address!r}: no Ray cluster can be used there ({error}). Start one with `ray start "
            "--head`, name its address (auto, HOST:6379 or ray://HOST:10001), or leave it out"
        ) from error
    try:
        needs = _needs(config, model)
        places = [Seat(f"worker-{number + 1}") for number in range(_count(config, needs))]

        def start(seat: Seat) -> Running:
            with remote_options(**needs, max_retries=0, scheduling_strategy="SPREAD"):
                return _OnRay(runner.submit(work_in_seat, task_parameters(order, seat)), seat)

        yield places, start
    finally:
        runner.__exit__(None, None, None)


def _needs(config: RunConfig, model: ModelConfig) -> dict[str, float]:
    gpus = config.ray.gpus_per_worker
    if gpus is None:
        gpus = devices_per_worker(model) if on_gpus(model) and _cluster("GPU") else 0
    return {"num_cpus": config.ray.cpus_per_worker, "num_gpus": gpus}


def _count(config: RunConfig, needs: dict[str, float]) -> int:
    cpus, gpus = needs["num_cpus"], needs["num_gpus"]
    room = [_cluster(name) / each for name, each in (("CPU", cpus), ("GPU", gpus)) if each]
    fit = math.floor(min(room)) if room else 1
    if fit < 1:
        raise UsageError(
            f"the Ray cluster has {_cluster('CPU'):g} cores and {_cluster('GPU'):g} GPUs, a worker needs "
            f"{cpus:g} and {gpus:g}; lower ray.cpus_per_worker or ray.gpus_per_worker, or add nodes"
        )
    return fit if config.workers == "auto" else config.workers


def _cluster(name: str) -> float:
    return float(ray.cluster_resources().get(name, 0))
