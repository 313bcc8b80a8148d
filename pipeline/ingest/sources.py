"""DGM4's annotation files: one JSON list of objects per split, read piece by piece."""

from __future__ import annotations

import json
import mmap
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from pipeline.errors import UsageError
from pipeline.ingest.checking import Checked, check_piece
from pipeline.ingest.helper import Helper
from pipeline.ingest.records import lenient_json, translate

PIECE_BYTES = 2_000_000
"""Bytes parsed at once: about 6,000 rows, which stay in the processor's cache while they are checked."""

_BETWEEN_ROWS = re.compile(rb"\}\s*,\s*\{")
_WHITE = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_PIECES_AT_ONCE = 3

Span = tuple[int, int]
"""First byte of a piece, and the byte after its last."""


class Dgm4Json:
    """A JSON file that holds one list of objects.

    The list is cut between two rows every ``PIECE_BYTES`` and parsed piece by piece, which takes a sixth of
    the memory of parsing it whole, is faster, and can be shared between processes. A cut can land inside a
    string or a nested list; then a piece is not valid JSON, as a string or a bracket stays open, and the file
    is parsed whole instead.

    Args:
        path: The file.
        columns: Field to the name it has in the file, where they differ.
    """

    def __init__(self, path: Path, columns: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.has_splits = "split" in (columns or {})
        self._columns = dict(columns or {})
        self._spans: list[Span] = []
        self._first_rows: list[int] = []
        self._whole = False

    def check(self, split: int | None, helper: Helper) -> Iterator[Checked]:
        """Read and check all rows; see ``checking.Source``."""
        spans = _cut(self.path)
        groups = [spans[i : i + _PIECES_AT_ONCE] for i in range(0, len(spans), _PIECES_AT_ONCE)]
        calls = [(self.path, group, self._columns, split) for group in groups]
        done, sound = 0, bool(spans)
        self._spans, self._first_rows, self._whole = spans, [], False
        for results in helper.map_in_order(_check_spans, calls):
            for checked in results:
                sound = sound and checked is not None
                if checked is not None and sound:
                    self._first_rows.append(done)
                    yield checked.after(done)
                    done += checked.rows
            if not sound:
                break
        if not sound:
            self._whole = True
            rows = _parse_whole(self.path)[done:]
            yield _check(rows, self._columns, split).after(done)

    def pick(self, rows: Sequence[int]) -> dict[int, Any]:
        """Return single rows; only the pieces that hold them are parsed again."""
        try:
            if self._whole:
                parsed = _parse_whole(self.path) if rows else []
                return {row: parsed[row] for row in rows}
            picked: dict[int, Any] = {}
            number, piece = -1, []
            for row in rows:
                wanted = bisect_right(self._first_rows, row) - 1
                if wanted != number:
                    number, piece = wanted, _parse_span(self.path, self._spans[wanted]) or []
                picked[row] = piece[row - self._first_rows[number]]
        except IndexError as error:
            raise UsageError(f"{self.path}: changed while it was read; run ingest again") from error
        return picked


def _check_spans(
    path: Path, spans: Sequence[Span], columns: Mapping[str, str], split: int | None
) -> list[Checked | None]:
    """Check pieces of a file; None stands for the first that is not valid JSON, and nothing follows it."""
    results: list[Checked | None] = []
    for span in spans:
        rows = _parse_span(path, span)
        results.append(None if rows is None else _check(rows, columns, split))
        if rows is None:
            break
    return results


def _check(rows: list[Any], columns: Mapping[str, str], split: int | None) -> Checked:
    if not columns:
        return check_piece(rows, split)
    name = columns.get("split")
    names = [row.get(name) if isinstance(row, dict) else None for row in rows] if split is None else None
    return check_piece([translate(row, columns) for row in rows], split, names)


def _cut(path: Path) -> list[Span]:
    """Return the pieces of a file's list; none when it does not look like a list."""
    try:
        with path.open("rb") as stream:
            if not stream.seek(0, 2):
                return []
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                spans = []
                start, end = _list_span(data) or (0, 0)
                while start < end:
                    cut = _BETWEEN_ROWS.search(data, min(start + PIECE_BYTES, end), end)
                    stop = cut.start() + 1 if cut else end
                    spans.append((start, stop))
                    start = cut.end() - 1 if cut else end
                return spans
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error})") from error


def _parse_span(path: Path, span: Span) -> list[Any] | None:
    with path.open("rb") as stream:
        stream.seek(span[0])
        return _parse_piece(stream.read(span[1] - span[0]))


def _list_span(data: mmap.mmap) -> Span | None:
    """Return where the inside of the list starts and ends, or None when the file looks like no list."""
    start = len(_BOM) if data[: len(_BOM)] == _BOM else 0
    while start < len(data) and data[start] in _WHITE:
        start += 1
    end = len(data)
    while end > start and data[end - 1] in _WHITE:
        end -= 1
    if end - start < 2 or data[start : start + 1] != b"[" or data[end - 1 : end] != b"]":
        return None
    return start + 1, end - 1


def _parse_piece(piece: bytes) -> list[Any] | None:
    """Parse the inside of a list; None when it is not one."""
    try:
        rows = orjson.loads(b"[" + piece + b"]")
    except orjson.JSONDecodeError:
        try:
            # Python's parser also takes NaN, Infinity, endless integers and half surrogate pairs, which are
            # the fault of single rows.
            rows = lenient_json(b"[" + piece + b"]")
        except (ValueError, RecursionError):
            return None
    return rows if isinstance(rows, list) else None


def _parse_whole(path: Path) -> list[Any]:
    try:
        data = path.read_bytes().removeprefix(_BOM)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error})") from error
    if not data.strip():
        raise UsageError(f"{path}: the file is empty; expected a JSON list of rows")
    try:
        rows = lenient_json(data)
    except json.JSONDecodeError as error:
        end = error.doc.rstrip()
        cut = error.pos >= len(end) or not end.endswith("]")
        remedy = "the file looks cut off; fetch it again" if cut else "mend it there or export it again"
        raise UsageError(
            f"{path}: not valid JSON at line {error.lineno}, column {error.colno} (character {error.pos:,} "
            f"of {len(error.doc):,}): {error.msg}; {remedy}"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: not {error.encoding} at byte {error.start:,}: {error.reason}; convert the file to UTF-8"
        ) from error
    except RecursionError as error:
        raise UsageError(f"{path}: nested too deeply to be a list of rows") from error
    if not isinstance(rows, list):
        hint = ", or --format jsonl for one object per line" if isinstance(rows, dict) else ""
        raise UsageError(
            f"{path}: holds a JSON {type(rows).__name__}; expected a list of rows as DGM4 has{hint}"
        )
    return rows
