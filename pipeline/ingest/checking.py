"""From the rows of a file to checked rows: what every kind of annotation file has in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ingest.columns import CHECKED, Defect, check_rows
from pipeline.ingest.helper import Helper
from pipeline.ingest.rows import short
from schemas.vocabulary import SPLITS

CHECKED_WITH_SPLIT = CHECKED.append(pa.field("split", pa.int8()))
"""``CHECKED`` with the index of the split in ``SPLITS``."""

_SPLIT_NAMES = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2, "testing": 2}


@dataclass(frozen=True, slots=True)
class Checked:
    """Consecutive rows of a file, checked.

    Attributes:
        rows: Number of rows.
        table: Those that passed, schema ``CHECKED_WITH_SPLIT``.
        defects: The others; their numbers and ``source_row`` count from the start of file or piece.
    """

    rows: int
    table: pa.Table
    defects: list[Defect]

    def after(self, rows: int) -> Checked:
        """Return the same with row numbers that count ``rows`` rows before the first."""
        if not rows:
            return self
        moved = self.table.set_column(0, CHECKED_WITH_SPLIT.field(0), pc.add(self.table.column(0), rows))
        return Checked(self.rows, moved, [(row + rows, code, message) for row, code, message in self.defects])


class Source(Protocol):
    """An annotation file."""

    path: Path
    has_splits: bool
    """Whether a column says the split of each row."""

    def check(self, split: int | None, helper: Helper) -> Iterator[Checked]:
        """Read and check all rows, in order, a piece at a time.

        Args:
            split: Index of the split of all rows; None when a column says it.
            helper: A second process that may take some of the work.

        Raises:
            UsageError: The file as a whole cannot be read; names the place.
        """
        ...

    def pick(self, rows: Sequence[int]) -> dict[int, Any]:
        """Return single rows as they stand in the file, by row number (ascending)."""
        ...


def check_piece(rows: Sequence[Any], split: int | None, names: Sequence[Any] | None = None) -> Checked:
    """Check consecutive rows; their numbers count from 0.

    Args:
        rows: Parsed rows in DGM4's fields.
        split: Index of the split of all rows, or None to go by ``names``.
        names: The split that each row names.
    """
    table, defects = check_rows(rows, 0)
    if split is not None:
        return Checked(len(rows), _with_split(table, np.full(len(table), split, np.int8)), defects)
    assert names is not None  # only files with a split column are read without a split
    numbers = table.column("source_row").to_pylist()
    codes = np.array([_split_code(names[row]) for row in numbers], np.int8)
    for row in (row for row, code in zip(numbers, codes.tolist(), strict=True) if code < 0):
        message = f"split is {short(names[row])}; use one of {', '.join(SPLITS)}, or pass --split"
        defects.append((row, "malformed_row", message))
    return Checked(len(rows), _with_split(table, codes).filter(pa.array(codes >= 0)), defects)


def _split_code(name: Any) -> int:
    return _SPLIT_NAMES.get(name.strip().lower(), -1) if isinstance(name, str) else -1


def _with_split(table: pa.Table, codes: np.ndarray) -> pa.Table:
    return pa.Table.from_arrays([*table.columns, pa.array(codes)], schema=CHECKED_WITH_SPLIT)
