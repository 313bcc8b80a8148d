"""How a failure of one process ends all processes of a run, and is told once.

Nothing here imports torch: a wrong flag is to be answered at once.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any, TypeVar

Raised = TypeVar("Raised", bound=BaseException)

_FAILED = "training/failed"
_GONE = (
    "closed by peer",
    "reset by peer",
    "remote process exited",
    "ncclRemoteError",
    "Broken pipe",
)
"""What gloo and NCCL say of a connection whose other side is gone."""


def share(error: Raised) -> Raised:
    """Mark an error that every process of the run raises at the same point, so that one of them tells it."""
    error.__dict__["shared_by_all_ranks"] = True
    return error


def is_shared(error: BaseException) -> bool:
    """Tell whether every process raises this error."""
    return bool(getattr(error, "shared_by_all_ranks", False))


def tell_failure(code: int = 2) -> None:
    """Let the other processes know that this one ends; they may wait for it in a collective.

    Args:
        code: This process's exit code, which becomes theirs: a scheduler is to read the same from all.
    """
    store = default_store()
    if store is not None:
        # Where the store is gone, the process that kept it is gone too, and its launcher ends the others.
        with contextlib.suppress(Exception):
            store.set(_FAILED, str(code))


def failed_elsewhere(wait: float = 0.0) -> int | None:
    """Return the exit code of a process of this run that has told that it failed, or None.

    Args:
        wait: Seconds in which it may still tell so.
    """
    store = default_store()
    if store is None:
        return None
    until = time.monotonic() + wait
    while True:
        try:
            if store.check([_FAILED]):
                return int(store.get(_FAILED))
        except Exception:
            return None
        if time.monotonic() >= until:
            return None
        time.sleep(0.2)


def is_lost_connection(error: RuntimeError) -> bool:
    """Tell whether a collective failed because a process on its other side is gone, killed for instance."""
    dist = sys.modules.get("torch.distributed")
    if dist is None or not dist.is_available():
        return False
    return isinstance(error, dist.DistNetworkError | dist.DistStoreError) or any(
        words in str(error) for words in _GONE
    )


def default_store() -> Any:
    """Return the key-value store that the processes met through, or None in a single process."""
    dist = sys.modules.get("torch.distributed")
    if dist is None or not dist.is_available() or not dist.is_initialized():
        return None
    # There is no public name for it; it lives with the launcher and so outlives every process.
    return dist.distributed_c10d._get_default_store()
