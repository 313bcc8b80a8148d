"""Reading a shard's ledger: the keys that have no text, and why."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UsageError
from schemas.marker import FileEntry
from schemas.tables import empty_table


def read_ledger(version: Path, entry: FileEntry | None) -> pa.Table:
    """Return the rows of a ledger; none for a shard that has none.

    Raises:
        UsageError: The file cannot be read.
    """
    if entry is None:
        return empty_table("failures")
    path = version / entry.name
    try:
        # Not read_table, which loads pandas for it: a second or two of a command that reads a few rows.
        with pq.ParquetFile(path) as file:
            return file.read()
    except (OSError, pa.ArrowInvalid) as error:
        raise UsageError(
            f"{path}: the ledger cannot be read ({error}). "
            f"`python -m pipeline repair --out {version.parent.parent}` has the shard made again"
        ) from error
