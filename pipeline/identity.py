"""Which run, which worker and which shard a process is at, as log lines, markers and signs of life name them.

A run is one command or one flow run; its workers share the name. Both are handed to child processes through
the environment, so that whatever a worker starts belongs to it too.
"""

from __future__ import annotations

import contextlib
import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

RUN = "DGM4_RUN"
WORKER = "DGM4_WORKER"


@dataclass(frozen=True)
class Identity:
    """What this process works at.

    Attributes:
        run: Name of the run, the id of the flow run under Prefect.
        worker: Name of the worker within the run.
        table: The table being written, None between tables.
        shard: The shard being written, None between shards.
    """

    run: str
    worker: str
    table: str | None = None
    shard: int | None = None

    def known(self) -> dict[str, str | int]:
        """Return the fields that are set, for a log line."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def _first() -> Identity:
    run = os.environ.get(RUN) or uuid.uuid4().hex[:12]
    return Identity(run, os.environ.get(WORKER) or f"{socket.gethostname()}-{os.getpid()}")


# One for the process, not one per thread: the engine's own threads log about the shard in hand as well.
_now: Identity | None = None


def identity() -> Identity:
    """Return what this process works at."""
    global _now
    if _now is None:
        _now = _first()
    return _now


@contextlib.contextmanager
def working_at(**changes: str | int | None) -> Iterator[Identity]:
    """Change fields of the identity within a block, e.g. ``shard=3``."""
    global _now
    before = identity()
    _now = replace(before, **changes)  # type: ignore[arg-type]
    try:
        yield _now
    finally:
        _now = before


def environment(run: str, worker: str) -> Mapping[str, str]:
    """Return the variables that give a child process its names."""
    return {RUN: run, WORKER: worker}
