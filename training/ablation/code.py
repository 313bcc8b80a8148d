"""Which code a run was trained with."""

from __future__ import annotations

import hashlib
import re
import subprocess
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_TRAINS = ("config", "data", "engine", "losses", "metrics", "model")
"""Folders of the trainer; pages, tables and plots change no figure."""


@cache
def code_version() -> dict[str, str | None]:
    """Return ``commit``, None outside a checkout, and ``code``, a hash of the files that make the figures."""
    digest = hashlib.sha256()
    files = [path for folder in _TRAINS for path in (_ROOT / "training" / folder).rglob("*.py")]
    files += [_ROOT / "training" / "train.py", *(_ROOT / "schemas").rglob("*.py")]
    for path in sorted(files):
        digest.update(f"{path.relative_to(_ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return {"commit": _commit(), "code": digest.hexdigest()[:12]}


def _commit() -> str | None:
    command = ["git", "-C", str(_ROOT), "rev-parse", "--short=12", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return found if re.fullmatch(r"[0-9a-f]{12}", found) else None
