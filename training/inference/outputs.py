"""Verdicts as rows of a JSON Lines, Parquet or CSV file, whole or absent."""

from __future__ import annotations

import csv
import json
import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.vocabulary import MANIPULATION_TYPES
from training.engine.files import TEMPORARY_PREFIX, fsync_file
from training.errors import TrainingError, UsageError
from training.inference.inputs import Item
from training.inference.verdict import Verdict

Row = dict[str, Any]

_ROWS_PER_GROUP = 1000
_TYPES = {f"p_{name}": pa.float32() for name in MANIPULATION_TYPES}
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "image": pa.string(),
        "text": pa.string(),
        "p_fake": pa.float32(),
        "is_fake": pa.bool_(),
        **_TYPES,
        "box": pa.list_(pa.float32()),
        "width": pa.int32(),
        "height": pa.int32(),
        "words": pa.list_(pa.string()),
        "word_scores": pa.list_(pa.float32()),
        "flagged_words": pa.list_(pa.int32()),
        "words_not_read": pa.int32(),
        "error": pa.string(),
    }
)
"""Columns of Parquet and CSV: probabilities 0 to 1, ``box`` xyxy in pixels, ``flagged_words`` positions in
``words``. A row that failed has ``error`` and nulls. CSV holds lists as JSON."""


def json_row(item: Item, verdict: Verdict | str) -> Row:
    """Return the row of JSON Lines: the pair, and the verdict's own keys or ``error``."""
    pair = {"id": item.id, "image": str(item.image), "text": item.text}
    return pair | ({"error": verdict} if isinstance(verdict, str) else verdict.to_dict())


def flat_row(item: Item, verdict: Verdict | str) -> Row:
    """Return the row of a table with `SCHEMA`."""
    row: Row = dict.fromkeys(SCHEMA.names)
    row |= {"id": item.id, "image": str(item.image), "text": item.text}
    if isinstance(verdict, str):
        return row | {"error": verdict}
    return row | {
        "p_fake": verdict.p_fake,
        "is_fake": verdict.is_fake,
        **{f"p_{name}": p for name, p in verdict.types.items()},
        "box": None if verdict.box is None else list(verdict.box),
        "width": verdict.image_size[0],
        "height": verdict.image_size[1],
        "words": [word for word, _ in verdict.words],
        "word_scores": [p for _, p in verdict.words],
        "flagged_words": list(verdict.flagged),
        "words_not_read": verdict.words_not_read,
    }


class Writer(ABC):
    """Takes one pair and its verdict, or why there is none, at a time."""

    @abstractmethod
    def add(self, item: Item, verdict: Verdict | str) -> None:
        """Write one row."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file."""


class _JsonLines(Writer):
    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def add(self, item: Item, verdict: Verdict | str) -> None:
        self._file.write(json.dumps(json_row(item, verdict), ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._file.close()


class _Csv(Writer):
    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._file, SCHEMA.names)
        self._writer.writeheader()

    def add(self, item: Item, verdict: Verdict | str) -> None:
        row = flat_row(item, verdict)
        for name, value in row.items():
            if isinstance(value, list):
                row[name] = json.dumps(value, ensure_ascii=False)
        self._writer.writerow(row)

    def close(self) -> None:
        self._file.close()


class _Parquet(Writer):
    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd")
        self._rows: list[Row] = []

    def add(self, item: Item, verdict: Verdict | str) -> None:
        self._rows.append(flat_row(item, verdict))
        if len(self._rows) == _ROWS_PER_GROUP:
            self._flush()

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=SCHEMA))
        self._rows = []


_WRITERS: dict[str, type[_JsonLines] | type[_Csv] | type[_Parquet]] = {
    ".jsonl": _JsonLines,
    ".csv": _Csv,
    ".parquet": _Parquet,
}


def check_output(path: Path) -> None:
    """Check a file's name before the work begins.

    Raises:
        UsageError: Its ending names no known kind, or it is a folder.
    """
    if path.suffix.lower() not in _WRITERS:
        raise UsageError(f"--to {path}: the name must end in {', '.join(_WRITERS)}")
    if path.is_dir():
        raise UsageError(f"--to {path}: is a folder; give a file")


@contextmanager
def open_output(path: Path) -> Iterator[Writer]:
    """Open a file that appears under its name when the block ends well, and not otherwise.

    Raises:
        TrainingError: The disk refuses.
    """
    temporary = path.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:8]}-{path.name}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            writer = _WRITERS[path.suffix.lower()](temporary)
            try:
                yield writer
            finally:
                writer.close()
            fsync_file(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except BrokenPipeError:
        raise  # of standard output, not of the file
    except OSError as error:
        raise TrainingError(f"{path} could not be written: {error}") from error
