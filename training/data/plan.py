"""Which committed shards the rows come from, fixed at one moment for all processes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from schemas import NoSuchTable, Table, TableError, open_table
from schemas.vocabulary import SPLITS
from training.errors import DataError, UsageError

_LAYOUT = 1  # of the joined file; part of its name, so that older code's files are not read


@dataclass(frozen=True)
class RowsPlan:
    """Which committed files are joined, and how. Small and picklable.

    Processes that look at the tables at different moments may see different shards: the first process makes
    the plan and sends it to the others.

    Attributes:
        out: Folder of the tables.
        splits: Splits whose rows are taken.
        skip_flags: Texts with one of these flags count as missing.
        limit: Most rows per split, None for all.
        image_root: Folder that image paths start at.
        files: Parquet files per table; None for a table that does not exist.
    """

    out: Path
    splits: tuple[str, ...]
    skip_flags: tuple[str, ...]
    limit: int | None
    image_root: Path
    files: dict[str, tuple[Path, ...] | None]

    @cached_property
    def stem(self) -> str:
        """Start of the file's name: the splits and a hash of the settings."""
        settings = [
            _LAYOUT,
            sorted(self.splits),
            sorted(self.skip_flags),
            self.limit,
            str(self.out.resolve()),
        ]
        digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
        return f"rows-{'+'.join(self.splits)}-{digest[:8]}"

    @cached_property
    def name(self) -> str:
        """Name of the joined file: `stem` and a hash of the input files' names and sizes."""
        inputs = [
            (table, files and [(f.parent.name, f.name, f.stat().st_size) for f in files])
            for table, files in sorted(self.files.items())
        ]
        return f"{self.stem}-{hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]}.arrow"


def plan_rows(
    out: Path,
    splits: Sequence[str],
    *,
    skip_flags: Sequence[str] = (),
    limit: int | None = None,
    image_root: Path | None = None,
) -> RowsPlan:
    """Note which shards are committed now.

    Args:
        out: Folder of the tables.
        splits: Splits whose rows are taken.
        skip_flags: Texts with one of these flags count as missing.
        limit: Most rows per split, those with the smallest ``sample_id``.
        image_root: Folder that image paths start at; the one ingest noted by default.

    Raises:
        UsageError: Unknown split.
        DataError: There are no samples, or a table is damaged.
    """
    unknown = [split for split in splits if split not in SPLITS]
    if unknown:
        raise UsageError(f"no split {unknown[0]!r}; the splits are {', '.join(SPLITS)}")
    samples = _open(out, "samples")
    if samples is None:
        raise DataError(f"{out}: no samples here; run python -m pipeline ingest --out {out} first")
    tables = {"samples": samples} | {name: _open(out, name) for name in ("captions", "explanations")}
    return RowsPlan(
        out=Path(out),
        splits=tuple(dict.fromkeys(splits)),
        skip_flags=tuple(skip_flags),
        limit=limit,
        image_root=Path(image_root or samples.info["image_root"]),
        files={name: None if table is None else table.files for name, table in tables.items()},
    )


def _open(out: Path, table: str) -> Table | None:
    try:
        return open_table(out, table)
    except NoSuchTable:
        return None
    except TableError as error:
        raise DataError(str(error)) from None
