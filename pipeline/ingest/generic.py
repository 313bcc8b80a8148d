"""Other people's data sets: JSONL, CSV and Parquet with a column mapping, read as a stream.

Required columns are ``image``, ``text`` and ``fake_cls``. Without ``id`` the image path stands in for it, so
that rows about one picture belong together; a text id becomes a stable 63-bit number. Without box or
positions columns the lists are empty, which fits rows that are labelled as having none.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from pipeline.errors import UsageError
from pipeline.ingest.checking import Checked, check_piece
from pipeline.ingest.helper import Helper
from pipeline.ingest.records import lenient_json, translate

PIECE_ROWS = 5000
_REQUIRED = ("image", "text", "fake_cls")


class _Stream:
    """A file of records that is read as a stream."""

    def __init__(self, path: Path, columns: Mapping[str, str], *, use_split: bool) -> None:
        """Prepare to read.

        Args:
            path: The file.
            columns: Field to column name, where they differ.
            use_split: Whether a split column, if there is one, decides about each row.
        """
        self.path = path
        self.columns = columns
        self.split_column = columns.get("split", "split") if use_split else None
        names = self.names()
        if names is not None:
            self._check_names(names)
        self.has_splits = names is not None and self.split_column in names

    def names(self) -> list[str] | None:
        """Return the column names; None when not even a first record tells them."""
        raise NotImplementedError

    def records(self) -> Iterator[Any]:
        """Yield the records as they stand."""
        raise NotImplementedError

    def check(self, split: int | None, helper: Helper) -> Iterator[Checked]:
        """Read and check all rows; see ``checking.Source``."""
        records = self.records()
        done = 0
        while chunk := list(islice(records, PIECE_ROWS)):
            names = None
            if split is None:
                names = [
                    record.get(self.split_column) if isinstance(record, dict) else None for record in chunk
                ]
            rows = [translate(record, self.columns) for record in chunk]
            yield check_piece(rows, split, names).after(done)
            done += len(chunk)

    def pick(self, rows: Sequence[int]) -> dict[int, Any]:
        """Return single records by number; see ``checking.Source``."""
        wanted = set(rows)
        picked: dict[int, Any] = {}
        for number, record in enumerate(self.records() if wanted else ()):
            if number in wanted:
                picked[number] = record
                if len(picked) == len(wanted):
                    break
        if len(picked) < len(wanted):
            raise UsageError(f"{self.path}: changed while it was read; run ingest again")
        return picked

    def _check_names(self, names: list[str]) -> None:
        for field, name in self.columns.items():
            if name not in names:
                raise UsageError(
                    f"{self.path}: no column {name!r} (which --columns names for {field}); it has "
                    f"{', '.join(names)}"
                )
        missing = [field for field in _REQUIRED if self.columns.get(field, field) not in names]
        if missing:
            raise UsageError(
                f"{self.path}: no column {', '.join(missing)}; it has {', '.join(names) or 'none'}. Name "
                f"them, e.g. --columns {','.join(f'{field}=NAME' for field in missing)}"
            )


class JsonLines(_Stream):
    """One JSON object per line; blank lines do not count. A line that is not JSON is a row to be rejected."""

    def names(self) -> list[str] | None:
        """Return the fields of the first record."""
        first = next(self.records(), None)
        return list(first) if isinstance(first, dict) else None

    def records(self) -> Iterator[Any]:
        """Yield one parsed record per line, or the line itself when it is not JSON."""
        with _open(self.path, binary=True) as stream:
            for number, line in enumerate(stream):
                line = line.strip().removeprefix(b"\xef\xbb\xbf") if number == 0 else line.strip()
                if line:
                    yield _parse_line(line)

    def _check_names(self, names: list[str]) -> None:
        # Fields may come and go from line to line, so only the mapping is worth a check.
        if self.columns and not any(name in names for name in self.columns.values()):
            super()._check_names(names)


def _parse_line(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        text = line.decode("utf-8", "surrogateescape")
        try:
            return lenient_json(text)
        except (ValueError, RecursionError):
            return text


class Csv(_Stream):
    """Comma- or tab-separated values with a header line; lists are JSON in a cell.

    Bytes that are not UTF-8 reject their row, not the file.
    """

    def names(self) -> list[str] | None:
        """Return the header."""
        with self._reader() as rows:
            header = next(rows, None)
        if not header:
            raise UsageError(f"{self.path}: no header line with column names")
        return header

    def records(self) -> Iterator[Any]:
        """Yield one object of texts per line; a line with more cells than the header is yielded as a list."""
        with self._reader() as rows:
            header = next(rows, [])
            for cells in rows:
                if cells:
                    yield dict(zip(header, cells, strict=False)) if len(cells) <= len(header) else cells

    def _reader(self) -> _CsvRows:
        return _CsvRows(self.path)


class _CsvRows:
    """The lines of a CSV file as lists of texts, with errors that name the line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stream = _open(path, binary=False)
        csv.field_size_limit(sys.maxsize)
        self.reader = csv.reader(self.stream, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")

    def __enter__(self) -> _CsvRows:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def __iter__(self) -> _CsvRows:
        return self

    def __next__(self) -> list[str]:
        try:
            return next(self.reader)
        except csv.Error as error:
            raise UsageError(
                f"{self.path}: line {self.reader.line_num}: {error}; export the file again"
            ) from error


class Parquet(_Stream):
    """A Parquet file; nested columns stay lists and objects."""

    def names(self) -> list[str] | None:
        """Return the column names."""
        with self._file() as file:
            return list(file.schema_arrow.names)

    def records(self) -> Iterator[Any]:
        """Yield one object per row."""
        import pyarrow as pa

        with self._file() as file:
            try:
                for batch in file.iter_batches(PIECE_ROWS):
                    yield from batch.to_pylist()
            except (OSError, pa.ArrowInvalid, UnicodeDecodeError) as error:
                raise UsageError(f"{self.path}: cannot be read ({error}); export the file again") from error

    def _file(self) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.ParquetFile(self.path)
        except (OSError, pa.ArrowInvalid) as error:
            raise UsageError(f"{self.path}: not a Parquet file ({error})") from error


STREAMS: dict[str, type[_Stream]] = {"jsonl": JsonLines, "csv": Csv, "parquet": Parquet}
"""Format name to reader."""


def _open(path: Path, *, binary: bool) -> Any:
    try:
        if binary:
            return path.open("rb")
        return path.open("r", encoding="utf-8-sig", errors="surrogateescape", newline="")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error})") from error
