"""The identity of a local checkpoint: one hash over every file that can change a text.

Hashing a 15 GB folder takes minutes, so each file's hash is kept in a cache by (path, size, mtime); the cache
is rebuildable and never trusted across a change of any of the three.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.engines.checkpoint import not_found
from pipeline.errors import UsageError

log = logging.getLogger(__name__)

# Weights, every config, tokenizers in all their formats, chat templates, code that trust_remote_code would
# run.
_SUFFIXES = {".safetensors", ".json", ".model", ".txt", ".jinja", ".py", ".tiktoken"}
_THREADS = 8


def weights_hash(folder: Path, cache: Path | None = None) -> str:
    """Return a sha256 (hex) over the names and contents of the files that decide what a checkpoint says.

    Moving or renaming the folder does not change it; a README, images or leftover ``.bin`` files do not
    either.

    Args:
        folder: A checkpoint folder, subfolders such as ``qformer_tokenizer`` included.
        cache: JSON file of file hashes, created when absent; None hashes everything.

    Raises:
        UsageError: the folder does not exist or holds none of these files.
    """
    paths = _files(folder)
    known = _read_cache(cache)
    stats = {path: path.stat() for path in paths}
    keys = {path: f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}" for path, stat in stats.items()}
    todo = [path for path in paths if keys[path] not in known]
    if todo:
        size = sum(stats[path].st_size for path in todo)
        if size > 1 << 30:
            log.info("hashing %.1f GB of weights in %s (kept for the next run) ...", size / 1e9, folder)
        with ThreadPoolExecutor(_THREADS) as pool:
            known |= dict(zip((keys[path] for path in todo), pool.map(_sha256, todo), strict=True))
        _write_cache(cache, known)
    total = hashlib.sha256()
    for path in paths:
        total.update(f"{path.relative_to(folder).as_posix()}\0{known[keys[path]]}\n".encode())
    return total.hexdigest()


def file_hash(path: Path) -> str | None:
    """Return a file's sha256 (hex), or None when there is no such file."""
    return _sha256(path) if path.is_file() else None


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UsageError(not_found(folder))
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in _SUFFIXES
        and path.is_file()
        # Hidden folders hold download bookkeeping that differs from machine to machine.
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise UsageError(f"model folder {folder} holds no checkpoint (no .safetensors, no config.json)")
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_cache(cache: Path | None) -> dict[str, str]:
    if cache is None or not cache.exists():
        return {}
    try:
        known = json.loads(cache.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write_cache(cache: Path | None, known: dict[str, str]) -> None:
    if cache is None:
        return
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=cache.parent, prefix=".weights-")
        with os.fdopen(handle, "w") as file:
            json.dump(known, file, indent=1)
        os.replace(name, cache)
    except OSError as error:
        log.warning("could not keep weight hashes in %s: %s", cache, error)
