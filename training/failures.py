"""How a failure of one process ends all processes of a run, and is told once.

Nothing here imports torch: a wrong flag is to be answered at once.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any, TypeVar

Raised = TypeVar("Raised", bound=BaseException)

_FAILED = "training/failed"


def share(error: Raised) -> Raised:
    """Mark an error that every process of the run raises at the same point, so that one of them tells it."""
    error.__dict__["shared_by_all_ranks"] = True
    return error


def is_shared(error: BaseException) -> bool:
    """Tell whether every process raises this error."""
    return bool(getattr(error, "shared_by_all_ranks", False))


def tell_failure() -> None:
    """Let the other processes know that this one ends; they may wait for it in a collective."""
    store = _store()
    if store is not None:
        # Where the store is gone, the process that kept it is gone too, and its launcher ends the others.
        with contextlib.suppress(Exception):
            store.set(_FAILED, "1")


def failed_elsewhere() -> bool:
    """Tell whether a process of this run has told that it failed."""
    store = _store()
    if store is None:
        return False
    try:
        return bool(store.check([_FAILED]))
    except Exception:
        return False


def _store() -> Any:
    """Return the key-value store that the processes met through, or None in a single process."""
    dist = sys.modules.get("torch.distributed")
    if dist is None or not dist.is_available() or not dist.is_initialized():
        return None
    # There is no public name for it; it lives with the launcher and so outlives every process.
    return dist.distributed_c10d._get_default_store()
