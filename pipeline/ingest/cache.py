"""What earlier runs found out about image files, so that a second ingest need not decode them again.

One Parquet file under ``OUT/cache``; an entry counts as long as path, size and modification time stay. The
file can be removed at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import PIL
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.ingest.facts import ImageDefect, ImageFacts, Verdict
from pipeline.shards import atomic

log = logging.getLogger(__name__)

Stamp = tuple[int, int]
"""Size in bytes and modification time in nanoseconds."""

_VERSION = f"1, Pillow {PIL.__version__}"
"""Another decoder may judge the same bytes differently, so its verdicts do not count."""

_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
        pa.field("image_key", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("mode", pa.string()),
        pa.field("exif_rotated", pa.bool_()),
        pa.field("code", pa.string()),
        pa.field("message", pa.string()),
    ],
    metadata={"image_cache": _VERSION},
)


class ImageCache:
    """Verdicts by file.

    Args:
        out: Output folder.
    """

    def __init__(self, out: Path) -> None:
        self.path = out / "cache" / "images.parquet"
        self._entries: dict[str, tuple[Stamp, Verdict]] = {}
        self._changed = False
        if self.path.exists():
            self._load()

    def get(self, path: str, stamp: Stamp) -> Verdict | None:
        """Return the verdict on a file, or None when it is unknown or the file has changed since."""
        entry = self._entries.get(path)
        return entry[1] if entry is not None and entry[0] == stamp else None

    def put(self, path: str, stamp: Stamp, verdict: Verdict) -> None:
        """Remember a verdict, unless it may be another one next time (e.g. no permission to read)."""
        if isinstance(verdict, ImageFacts) or verdict.lasting:
            self._entries[path] = stamp, verdict
            self._changed = True

    def save(self) -> None:
        """Write the cache if anything is new. A disk that refuses costs a warning, not the run."""
        if not self._changed:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic.temporary(self.path) as temporary:
                pq.write_table(_to_table(self._entries), temporary, compression="zstd")
                atomic.publish(temporary, self.path)
        except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: a path that is no Unicode
            log.warning(
                "%s: the image cache cannot be written (%s); the next ingest decodes again", self.path, error
            )
        else:
            self._changed = False

    def _load(self) -> None:
        try:
            table = pq.read_table(self.path, memory_map=True)
            if (table.schema.metadata or {}).get(b"image_cache") != _VERSION.encode():
                log.info("%s: written by another version; the images are decoded again", self.path)
                return
            if not table.schema.equals(_SCHEMA):
                raise ValueError("its columns are not those of an image cache")
            self._entries = _from_table(table)
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            log.warning("%s: the image cache is damaged (%s); the images are decoded again", self.path, error)


def _to_table(entries: Mapping[str, tuple[Stamp, Verdict]]) -> pa.Table:
    rows = []
    for path, ((size, mtime_ns), verdict) in entries.items():
        row = {"path": path, "size": size, "mtime_ns": mtime_ns}
        if isinstance(verdict, ImageFacts):
            row |= {name: getattr(verdict, name) for name in ImageFacts.__slots__}
        else:
            row |= {"code": verdict.code, "message": verdict.message}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def _from_table(table: pa.Table) -> dict[str, tuple[Stamp, Verdict]]:
    entries: dict[str, tuple[Stamp, Verdict]] = {}
    columns = [table.column(name).to_pylist() for name in _SCHEMA.names]
    for path, size, mtime_ns, key, width, height, mode, rotated, code, message in zip(*columns, strict=True):
        verdict = (
            ImageFacts(key, width, height, mode, rotated)
            if code is None
            else ImageDefect(code, message, True)
        )
        entries[path] = (size, mtime_ns), verdict
    return entries
