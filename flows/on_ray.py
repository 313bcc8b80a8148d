"""Workers as tasks of a Ray cluster, through prefect-ray."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect_ray.context import remote_options
from prefect_ray.task_runners import PrefectRayFuture

from flows.fleet import Starter, end_of, task_parameters, work_in_seat
from flows.ray_cluster import check_api_reaches, cluster
from pipeline.config import RunConfig
from pipeline.config.models import ModelConfig
from pipeline.costs.price import devices_per_worker
from pipeline.errors import UsageError
from pipeline.fleet.order import Order, WorkerEnd
from pipeline.fleet.seats import Seat, on_gpus
from pipeline.fleet.supervise import Running

log = logging.getLogger(__name__)

Node = dict[str, float]
"""What a node of the cluster has: CPU, GPU and others."""


class _OnRay:
    """A worker whose task runs on some node of the cluster."""

    def __init__(self, future: PrefectRayFuture[Any], seat: Seat) -> None:
        self._future, self._seat = future, seat

    def poll(self) -> WorkerEnd | None:
        import ray

        ready, _ = ray.wait([self._future.wrapped_future], timeout=0)
        if not ready:
            return None
        # A node that is gone makes the state a crashed one here.
        self._future.wait()
        return end_of(self._future.state, self._seat)

    def stop(self) -> None:
        import ray

        # By force Ray would kill the worker process too, whose claims nobody would give back.
        ray.cancel(self._future.wrapped_future)


@contextmanager
def ray_starter(config: RunConfig, model: ModelConfig, order: Order) -> Iterator[tuple[list[Seat], Starter]]:
    """Connect to the cluster; provide its seats and what starts a worker in one.

    Args:
        config: The run's configuration: ``ray`` and ``workers``.
        model: The model, its engine chosen.
        order: What the workers are told.

    Raises:
        UsageError: The cluster cannot be reached, has no room for a single worker, or has nodes that do not
            reach the Prefect API.
        ClusterFailed: No cluster could be started.
    """
    with cluster(config.ray) as runner:
        import ray

        alive = [node for node in ray.nodes() if node["Alive"]]
        nodes: list[Node] = [node["Resources"] for node in alive]
        needs = needs_of(config, model, nodes)
        fit = places(nodes, needs)
        check_api_reaches([one["NodeManagerAddress"] for one in alive if _fits(one["Resources"], needs)])
        count = fit if config.workers == "auto" else config.workers
        log.info(
            "Ray cluster: %d nodes, %g cores, %g GPUs; places for %d workers",
            *(len(nodes), total(nodes, "CPU"), total(nodes, "GPU"), fit),
        )
        if count > fit:
            log.warning("%d of %d workers wait until a place is free", count - fit, count)

        def start(seat: Seat) -> Running:
            with remote_options(**needs, max_retries=0, scheduling_strategy="SPREAD"):
                return _OnRay(runner.submit(work_in_seat, task_parameters(order, seat)), seat)

        yield [Seat(f"worker-{number + 1}") for number in range(count)], start


def needs_of(config: RunConfig, model: ModelConfig, nodes: list[Node]) -> dict[str, float]:
    """Return what Ray reserves for a worker: ``num_cpus`` and ``num_gpus``."""
    gpus = config.ray.gpus_per_worker
    if gpus is None:
        gpus = devices_per_worker(model) if on_gpus(model) and total(nodes, "GPU") else 0
    return {"num_cpus": config.ray.cpus_per_worker, "num_gpus": gpus}


def places(nodes: list[Node], needs: dict[str, float]) -> int:
    """Return how many workers the cluster has room for, each within one node; without needs one per node.

    Raises:
        UsageError: There is no room for a single one.
    """
    fit = sum(_fits(node, needs) for node in nodes)
    if fit < 1:
        has = "; ".join(f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes)
        raise UsageError(
            f"a worker needs {needs['num_cpus']:g} cores and {needs['num_gpus']:g} GPUs of one Ray node, the "
            f"nodes have {has or 'nothing'}; lower ray.cpus_per_worker or ray.gpus_per_worker, or add nodes"
        )
    return fit


def _fits(node: Node, needs: dict[str, float]) -> int:
    wanted = [(name, each) for name, each in (("CPU", needs["num_cpus"]), ("GPU", needs["num_gpus"])) if each]
    # Ray counts in steps of 0.0001.
    return math.floor(min((node.get(name, 0) / each for name, each in wanted), default=1) + 1e-6)


def total(nodes: list[Node], name: str) -> float:
    """Return the sum of a resource over the nodes."""
    return sum(node.get(name, 0) for node in nodes)
