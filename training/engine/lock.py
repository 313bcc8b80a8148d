"""A folder that one command at a time may work in."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from training.errors import UsageError

log = logging.getLogger(__name__)


@contextlib.contextmanager
def only_one(folder: Path, name: str, busy: str, wait: float = 0.0) -> Iterator[None]:
    """Keep a second one out of a folder, which is made where it is missing; death gives it free.

    Args:
        folder: What is guarded.
        name: Of the lock's file in it. It stays: removing it could hand two processes two locks.
        busy: What the second one is told.
        wait: Seconds in which it may still become free: a machine that died gives its locks on a network
            file system free only when the server has missed it for a while.

    Raises:
        UsageError: One is at work in it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / name).open("ab")
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}; choose another --to") from None
    with stream:
        until = time.monotonic() + wait
        while not (free := locked(stream)) and time.monotonic() < until:
            time.sleep(0.5)
        if not free:
            raise UsageError(f"{folder}: {busy}")
        yield


def locked(stream: IO[bytes]) -> bool:
    """Take the lock of an open file; return False where another process, or another opening, has it."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        log.warning(
            "%s: no locks on this file system (%s); nothing keeps a second run out", stream.name, error
        )
    return True
