"""Disks that do not take a file: which errors a user can do something about, and what."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import UsageError

_ELSEWHERE = "Choose another --out, or make this one writable"
_SIMPLE = "This file system cannot rename files; choose an --out on another one"
STORAGE_ERRORS = {
    errno.ENOSPC: "Free some space and run the same command again",
    errno.EDQUOT: "Free some space of your quota and run the same command again",
    errno.EACCES: _ELSEWHERE,
    errno.EPERM: _ELSEWHERE,
    errno.EROFS: _ELSEWHERE,
    errno.EEXIST: "A file stands where a folder is needed; choose another --out",
    errno.ENOTDIR: "A part of this path is a file; choose another --out",
    errno.EXDEV: _SIMPLE,
    errno.ENOSYS: _SIMPLE,
    errno.EOPNOTSUPP: _SIMPLE,
    errno.EMFILE: "This process may not open more files; raise the limit (ulimit -n)",
    errno.EIO: "The disk or the network behind it failed; run the same command again when it is back",
}
"""What a user can do about it: error number to remedy."""


class StorageError(UsageError):
    """A file could not be written; nothing that was committed is touched."""


def explain(error: OSError, where: Path | None = None) -> str | None:
    """Return a message for the user, or None when the error is none of the known ones.

    Args:
        error: What the system said.
        where: The folder that was written to, for errors that name no file.
    """
    remedy = STORAGE_ERRORS.get(error.errno or 0)
    if remedy is None:
        return None
    place = error.filename or where
    return f"{f'{place}: ' if place else ''}{_words(error)}. {remedy}; what is committed stands"


@contextmanager
def storage_errors(where: Path) -> Iterator[None]:
    """Turn the known errors of the system into ``StorageError``; a failing disk may work the next time.

    Raises:
        StorageError: The disk is full, not writable, or lacks what publishing a file needs.
    """
    try:
        yield
    except OSError as error:
        message = explain(error, where)
        if message is None or error.errno == errno.EIO:
            raise
        raise StorageError(message) from error


def _words(error: OSError) -> str:
    """Return what happened in the system's words; Arrow puts a sentence of its own there."""
    return os.strerror(error.errno or 0)
