"""Publishing a file whole or not at all.

Why so much care: a process may die between any two lines. A reader must then see the old state or the new
one, and a leftover must never be taken for data. Data is therefore written to a temporary name in the *same*
folder (a rename across file systems is a copy), flushed to the disk, renamed, and the folder is flushed too,
because a rename is a change of the folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

TEMPORARY_PREFIX = ".tmp-"


def attempt_id() -> str:
    """Return 8 hex digits that no other attempt uses."""
    return uuid.uuid4().hex[:8]


def fsync_file(path: Path) -> None:
    """Flush a file's bytes to the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def fsync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk.

    Best effort: some network file systems cannot open or flush a folder. They also order renames themselves.
    """
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def temporary(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; it is removed on the way out if it still exists."""
    path = target.parent / f"{TEMPORARY_PREFIX}{attempt_id()}-{target.name}"
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def publish(temporary_path: Path, target: Path, *, durable: bool = True) -> None:
    """Flush a finished temporary file and give it its name, replacing what stood there.

    Args:
        temporary_path: The finished file.
        target: Its name.
        durable: Flush to the disk; without, the file is still whole to every reader, but may be gone after a
            power cut.
    """
    if durable:
        fsync_file(temporary_path)
    os.replace(temporary_path, target)
    if durable:
        fsync_folder(target.parent)


def write_bytes(target: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a small file atomically, replacing what stood there; ``durable`` as in ``publish``."""
    with temporary(target) as path:
        path.write_bytes(content)
        publish(path, target, durable=durable)


def create_bytes(target: Path, content: bytes, *, durable: bool = True) -> bool:
    """Write a small file atomically unless it exists already; ``durable`` as in ``publish``.

    A hard link makes "whole" and "only if absent" one step. On file systems without hard links a plain
    exclusive create is used: still at most one winner, and a torn marker counts as not done.

    Returns:
        Whether this call created the file.
    """
    with temporary(target) as path:
        path.write_bytes(content)
        if durable:
            fsync_file(path)
        try:
            os.link(path, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            try:
                with target.open("xb") as stream:
                    _write_or_remove(stream, target, content)
            except FileExistsError:
                return False
    if durable:
        fsync_folder(target.parent)
    return True


def _write_or_remove(stream: BinaryIO, target: Path, content: bytes) -> None:
    try:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    except OSError:
        target.unlink(missing_ok=True)
        raise
