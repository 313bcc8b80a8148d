"""The rows of older versions, looked up by what they were made from."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from pipeline.carrying.index import Index, build
from pipeline.carrying.inputs import settings_of
from pipeline.jobs.base import Row, rows_at
from schemas import layout
from schemas.marker import FileEntry, file_sha256
from schemas.reader import committed

log = logging.getLogger(__name__)

TEXT_COLUMN = {"captions": "caption", "explanations": "explanation"}
_COPIED = ("finish_reason", "tokens_in", "tokens_out", "flags")


@dataclass(frozen=True)
class Source:
    """An older version whose texts may still hold.

    Attributes:
        version: Its folder.
        entries: Its data files that hold rows.
        index: Where its rows stand.
    """

    version: Path
    entries: Sequence[FileEntry]
    index: Index


class Carrier:
    """Finds texts of older versions of a table, made from the same inputs.

    Nothing is read before the first look. Afterwards memory holds the names of the old data files and
    whatever pages of the indexes the system keeps.

    Args:
        out: Output folder.
        table: ``captions`` or ``explanations``.
        version: Folder of the version that is written; not a source.
        fields: Its fingerprint fields; a version made with another model or other parameters has no text of
            use.
    """

    def __init__(self, out: Path, table: str, version: Path, fields: Mapping[str, Any]) -> None:
        self._out, self._table, self._version = out, table, version
        self._settings = settings_of(fields)
        self._columns = [TEXT_COLUMN[table], *_COPIED, "input_hash"]
        self._sources: list[Source] | None = None
        self._sound: dict[Path, bool] = {}
        self._lock = threading.Lock()

    @property
    def sources(self) -> list[Source]:
        """Older versions that may hold texts of use, the newest first."""
        with self._lock:
            if self._sources is None:
                self._sources = list(self._open_sources())
            return self._sources

    def find(self, hashes: Iterable[str]) -> dict[str, Row]:
        """Return the old row for each input hash that has one.

        A row holds the columns ``text``, ``finish_reason``, ``tokens_in``, ``tokens_out`` and ``flags``. A
        data file whose bytes are not those its marker vouches for gives no rows.
        """
        missing = list(dict.fromkeys(hashes))
        found: dict[str, Row] = {}
        for source in self.sources:
            if not missing:
                break
            found |= self._find_in(source, missing)
            missing = [wanted for wanted in missing if wanted not in found]
        return found

    def _open_sources(self) -> Iterable[Source]:
        self._forget_removed_versions()
        versions = [
            (str(info.get("created", "")), version)
            for version in layout.list_versions(self._out, self._table)
            if version != self._version and (info := self._usable(version)) is not None
        ]
        for _, version in sorted(versions, reverse=True):
            shards, _ = committed(version, self._table)
            entries = [
                file for shard in shards if shard.base.schema_version >= 2 for file in shard.row_files()
            ]
            if entries:
                yield Source(version, entries, self._index(version, entries))

    def _forget_removed_versions(self) -> None:
        kept = {version.name for version in layout.list_versions(self._out, self._table)}
        for path in (self._out / "cache" / "inputs").glob(f"{self._table}-*.arrow"):
            if path.stem.removeprefix(f"{self._table}-").rpartition("-")[0] not in kept:
                path.unlink(missing_ok=True)

    def _usable(self, version: Path) -> dict[str, Any] | None:
        try:
            info = layout.read_version(version)
        except layout.CorruptVersion as error:
            log.warning("%s; nothing is carried over from it", error)
            return None
        fields = info.get("fields")
        same = isinstance(fields, dict) and settings_of(fields) == self._settings
        return info if same else None

    def _index(self, version: Path, entries: Sequence[FileEntry]) -> Index:
        """Open a version's index, built anew unless there is one of exactly these files."""
        digest = hashlib.sha256("\n".join(entry.sha256 for entry in entries).encode()).hexdigest()[:16]
        path = self._out / "cache" / "inputs" / f"{self._table}-{version.name}-{digest}.arrow"
        if path.exists():
            try:
                return Index(path)
            except (OSError, pa.ArrowInvalid) as error:
                log.warning("%s: damaged (%s); built anew", path, error)
        rows = [entry.rows for entry in entries]
        log.info(
            "%s: finding out what the %d rows of %s were made from", self._table, sum(rows), version.name
        )
        build([version / entry.name for entry in entries], rows, path)
        for stale in path.parent.glob(f"{self._table}-{version.name}-*.arrow"):
            if stale != path:
                stale.unlink(missing_ok=True)
        return Index(path)

    def _find_in(self, source: Source, wanted: Sequence[str]) -> dict[str, Row]:
        places: dict[int, dict[int, str]] = defaultdict(dict)
        for position, file, row in source.index.find(pl.Series(wanted, dtype=pl.String)):
            places[file][row] = wanted[position]
        found: dict[str, Row] = {}
        for number, rows in sorted(places.items()):
            path = source.version / source.entries[number].name
            if not self._is_sound(path, source.entries[number]):
                continue
            try:
                olds = list(rows_at(path, sorted(rows), self._columns))
            except (OSError, pa.ArrowInvalid) as error:  # e.g. removed meanwhile, by gc
                self._give_up(path, str(error))
                continue
            for index, old in olds:
                if old["input_hash"] == rows[index]:
                    copied = {name: old[name] for name in _COPIED}
                    found[rows[index]] = {"text": old[TEXT_COLUMN[self._table]], **copied}
        return found

    def _is_sound(self, path: Path, entry: FileEntry) -> bool:
        """Return whether a file still holds what was committed: a damaged text must not look new again."""
        if path not in self._sound:
            try:
                self._sound[path] = file_sha256(path) == entry.sha256
            except OSError:
                self._sound[path] = False
            if not self._sound[path]:
                self._give_up(path, "not what its marker says")
        return self._sound[path]

    def _give_up(self, path: Path, why: str) -> None:
        self._sound[path] = False
        log.warning("%s: %s; its rows are made anew", path, why)
