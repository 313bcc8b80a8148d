"""A real Ray cluster of several nodes on this machine, of which single nodes can be killed."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from schemas.layout import CLAIMS_DIR

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback only
    "RAY_AUTH_MODE": "token",
    "RAY_worker_niceness": "0",
}
_LITTLE = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
TABLE = "explanations"


class RayNodes:
    """A head without cores and as many nodes as are started.

    Attributes:
        address: ``HOST:PORT`` for drivers.
        client: ``ray://HOST:PORT``.
    """

    def __init__(self, **head: Any) -> None:
        from ray.cluster_utils import Cluster

        port = free_port()
        options = {"num_cpus": 0, "ray_client_server_port": port, **_LITTLE, **head}
        self._cluster = Cluster()
        _again(lambda: self._cluster.add_node(**options))
        self.address: str = self._cluster.address
        self.client = f"ray://127.0.0.1:{port}"
        self._nodes: list[Any] = []

    def add(self, count: int = 1, **resources: Any) -> None:
        """Start nodes, one core each unless ``resources`` say something else."""
        for _ in range(count):
            self._nodes.append(_again(lambda: self._cluster.add_node(wait=False, **resources)))

    def raylet_of(self, pid: int) -> int:
        """Return the process of the node that a process runs on."""
        above = {parent.pid for parent in psutil.Process(pid).parents()}
        return next(raylet for raylet in map(_raylet, self._nodes) if raylet in above)

    def kill(self, raylet: int) -> list[psutil.Process]:
        """End a node as a power cut does: its raylet and all below at once; return what was killed."""
        node = next(node for node in self._nodes if _raylet(node) == raylet)
        top = psutil.Process(raylet)
        top.suspend()  # so that it starts nothing meanwhile
        everything = [*top.children(recursive=True), top]
        for process in everything:
            process.send_signal(signal.SIGKILL)
        psutil.wait_procs(everything, timeout=10)
        self._nodes.remove(node)
        return everything

    def stop(self) -> None:
        """End all nodes."""
        self._cluster.shutdown()


@contextmanager
def ray_nodes(**head: Any) -> Iterator[RayNodes]:
    """Start a head, in an environment that Ray's drivers in this process and below it get in with."""
    # Ray's own folder names the cluster that `auto` finds, and the path of a socket has at most 107 bytes.
    folder = tempfile.mkdtemp(prefix="ray-")
    its_own = {"RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_TMPDIR": folder}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**ENVIRONMENT, **its_own}.items():
            patch.setenv(name, value)
        try:
            nodes = RayNodes(**head)
            try:
                yield nodes
            finally:
                nodes.stop()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Kill:
    """What was killed in the middle of a shard, and when another worker had it.

    Attributes:
        worker: Id of the process that wrote the shard.
        shard: Name of its claim.
        at: When it was killed, by the monotonic clock.
        taken_s: Seconds until another worker had claimed the shard.
    """

    worker: int
    shard: str
    at: float
    taken_s: float


def kill_in_a_shard(
    out: Path | str,
    kill: Callable[[int], Any],
    *,
    workers: int = 2,
    row_s: float,
    rows: float,
    which: int = 0,
) -> Kill:
    """Wait until workers are at work, kill one in the middle of a shard, and see another one take it over.

    Args:
        out: Output folder.
        kill: Kills a worker, given its process id.
        workers: How many are at work before.
        row_s: Seconds that a row takes.
        rows: Rows of its shard after which it is killed, about.
        which: Of the workers, in the order of their ids.
    """
    until(lambda: len(set(claims(out).values())) == workers)
    victim = sorted(set(claims(out).values()))[which]
    for _ in range(20):
        before = _held_by(out, victim)
        until(lambda before=before: _held_by(out, victim) not in (None, before))
        shard = _held_by(out, victim)
        time.sleep(rows * row_s)
        # Held still, it cannot finish the shard before it is killed.
        os.kill(victim, signal.SIGSTOP)
        if shard is not None and _held_by(out, victim) == shard:
            break
        os.kill(victim, signal.SIGCONT)
    else:
        raise RuntimeError("a shard was never seen in the middle: make it larger or its rows slower")
    at = time.monotonic()
    kill(victim)
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, signal.SIGCONT)
    until(lambda: claims(out).get(shard, victim) != victim)
    return Kill(victim, shard, at, time.monotonic() - at)


def claims(out: Path | str) -> dict[str, int]:
    """Return which process holds which shard."""
    held = {}
    for path in Path(out).glob(f"{TABLE}/*/{CLAIMS_DIR}/shard-*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            held[path.stem] = int(json.loads(path.read_bytes())["pid"])
    return held


def figures(out: Path | str) -> dict[int, dict[str, Any]]:
    """Return what the workers say of themselves, by process id."""
    found = {}
    for path in Path(out).glob(f"{TABLE}/*/{CLAIMS_DIR}/worker-*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            raw = json.loads(path.read_bytes())
            found[int(raw["pid"])] = raw["figures"]
    return found


def alive(pid: int) -> bool:
    """Return whether a process runs, one that waits to be reaped not counted."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _held_by(out: Path | str, pid: int) -> str | None:
    return next((shard for shard, holder in claims(out).items() if holder == pid), None)


def until(condition: Callable[[], bool], seconds: float = 300) -> None:
    """Wait for a condition; raise ``TimeoutError`` when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not happen in time")
        time.sleep(0.02)


def _again(start: Callable[[], Any]) -> Any:
    # Ray gives a node 30 s to start, which a busy machine may need longer for.
    for _ in range(4):
        try:
            return start()
        except Exception as error:
            failure = error
    raise failure


def _raylet(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def free_port() -> int:
    """Return a port that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
