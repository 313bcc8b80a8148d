"""Small real file systems for tests, where this machine lets us mount one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[Path]:
    """Mount a memory file system of a size; skips the test where that is not allowed."""
    folder.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def without_hard_links(folder: Path) -> Iterator[Path]:
    """Mount a FAT file system from an image; skips the test where the kernel knows none."""
    kinds = Path("/proc/filesystems").read_text().split() if Path("/proc/filesystems").exists() else []
    kind = next((kind for kind in ("vfat", "exfat") if kind in kinds and shutil.which(f"mkfs.{kind}")), None)
    if kind is None:
        pytest.skip("needs a kernel with vfat or exfat, and mkfs for it")
    image = folder.with_suffix(".img")
    with image.open("wb") as stream:
        stream.truncate(64 * 2**20)
    subprocess.run([f"mkfs.{kind}", str(image)], check=True, capture_output=True)
    folder.mkdir()
    _run("mount", "-o", "loop", str(image), str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount_read_only(folder: Path) -> None:
    """Make a mounted file system read-only."""
    _run("mount", "-o", "remount,ro", str(folder))


def _run(*command: str) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        pytest.skip(f"this machine does not let us mount: {result.stderr.strip()}")
