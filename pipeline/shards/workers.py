"""Who a worker is, so that another one can tell whether it still runs."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

_STATE, _START_TICKS = 0, 19
"""Places in /proc/PID/stat behind the command's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A process that writes shards.

    Attributes:
        worker: 12 hex digits that no other worker uses.
        host: Name of its machine, for people.
        pid: Its process id.
        started: When the process began, in the kernel's ticks since boot; tells it from a later process with
            the same id. None where the system does not say.
        kernel: Names the running kernel and the space of process ids: ids are only compared where they
            mean the same; containers may share a host name. Empty where the system does not say.
        lease_s: Seconds without a sign of life after which others take its shards over.
    """

    worker: str
    host: str
    pid: int
    started: int | None
    kernel: str
    lease_s: float

    @classmethod
    def this(cls, lease_s: float) -> Self:
        """Return a worker that stands for the running process."""
        pid = os.getpid()
        return cls(
            worker=uuid.uuid4().hex[:12],
            host=socket.gethostname(),
            pid=pid,
            started=_started(pid),
            kernel=_kernel(),
            lease_s=lease_s,
        )

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self:
        """Return the worker that a claim names.

        Raises:
            ValueError: A field is missing or of the wrong type.
        """
        try:
            return cls(
                worker=str(raw["worker"]),
                host=str(raw["host"]),
                pid=int(raw["pid"]),
                started=None if raw["started"] is None else int(raw["started"]),
                kernel=str(raw["kernel"]),
                lease_s=float(raw["lease_s"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a worker: {error!r}") from error

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)

    def gone(self) -> bool:
        """Return whether its process is known to have ended; False where that cannot be seen from here."""
        if not self.kernel or self.kernel != _kernel():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # it runs, as another user
        started = _started(self.pid)
        return started is not None and started != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@cache
def _kernel() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """Return when a process began, -1 for one that ended and waits to be reaped, None when not known."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command's name stands in brackets and may itself hold spaces and brackets.
    fields = stat.rpartition(")")[2].split()
    return -1 if fields[_STATE] in "ZX" else int(fields[_START_TICKS])
