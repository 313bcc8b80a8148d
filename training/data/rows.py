"""The rows of a split: samples joined with captions and explanations, in one memory-mapped file.

The join runs once per state of the tables. Its result is an uncompressed Arrow file that every process and
worker maps, so that rows cost no memory of their own. The file's name follows from the committed shards: the
next call after new shards were committed makes a new file, and one that was there already is used as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from schemas import Table, schema_of
from training.data.files import placed, remove_stale
from training.data.plan import RowsPlan, plan_rows
from training.data.report import RowsReport, count_rows
from training.errors import DataError

if TYPE_CHECKING:
    import polars as pl

_SAMPLE_COLUMNS = (
    "sample_id",
    "split",
    "image_path",
    "image_key",
    "width",
    "height",
    "text",
    "words",
    "fake_cls",
    "is_fake",
    "face_swap",
    "face_attribute",
    "text_swap",
    "text_attribute",
    "fake_image_box",
    "fake_text_pos",
)

_JOINED = (("captions", "image_key", "caption"), ("explanations", "sample_id", "explanation"))
"""Generated tables, the key they are joined by, and their text."""


class Rows:
    """Joined rows, sorted by ``sample_id``; picklable by path, so that each worker maps the file itself.

    A row has the columns of ``samples`` that training reads, ``caption`` and ``explanation`` (None where
    missing or skipped), and ``caption_flags`` and ``explanation_flags`` (None where the table has no row).
    """

    def __init__(self, path: Path, plan: RowsPlan) -> None:
        self.path = path
        self.plan = plan
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            self._batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{path}: cannot be mapped ({error}); remove it, it is made again") from None
        self._names: list[str] = reader.schema.names
        self._schema = reader.schema
        self._ends = np.cumsum([batch.num_rows for batch in self._batches])

    @property
    def image_root(self) -> Path:
        """Folder that image paths start at."""
        return self.plan.image_root

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        chunk = int(np.searchsorted(self._ends, index, side="right"))
        batch = self._batches[chunk]
        local = index - (int(self._ends[chunk]) - batch.num_rows)
        return {name: column[local].as_py() for name, column in zip(self._names, batch.columns, strict=True)}

    def __reduce__(self) -> tuple[type[Rows], tuple[Path, RowsPlan]]:
        return Rows, (self.path, self.plan)

    @property
    def table(self) -> pa.Table:
        """All rows as an Arrow table over the mapped file; nothing is copied."""
        return pa.Table.from_batches(self._batches, self._schema)

    @cached_property
    def report(self) -> RowsReport:
        """What the rows hold and what they lack."""
        missing = tuple(t for t, files in self.plan.files.items() if files is None)
        return count_rows(self.table, self.plan.splits, missing)


def prepare_rows(
    out: Path,
    splits: Sequence[str],
    cache_dir: Path,
    *,
    skip_flags: Sequence[str] = (),
    limit: int | None = None,
    image_root: Path | None = None,
    write: bool = True,
    plan: RowsPlan | None = None,
    needed: Collection[str] = (),
) -> Rows:
    """Open the joined rows of the shards committed by now; join them if that has not been done.

    Args:
        out: Folder of the tables.
        splits: Splits whose rows are taken.
        cache_dir: Folder of the joined files, one per run: a newer file replaces those of the same settings
            unless they are ``needed``.
        skip_flags: Texts with one of these flags count as missing.
        limit: Most rows per split.
        image_root: Folder that image paths start at; the one ingest noted by default.
        write: Whether this process joins; the others wait until it has, then call with False.
        plan: What another process planned; the arguments above besides ``cache_dir`` are then not read.
        needed: Names of files in ``cache_dir`` that stay: a checkpoint's position refers to one of them.

    Raises:
        UsageError: Unknown split.
        DataError: No rows in the splits, a table is missing or damaged, or nothing was written yet.
    """
    plan = plan or plan_rows(out, splits, skip_flags=skip_flags, limit=limit, image_root=image_root)
    path = Path(cache_dir) / plan.name
    if not path.exists():
        if not write:
            raise DataError(f"{path}: not there; the process that writes it must come first")
        _join(plan, path)
    rows = Rows(path, plan)
    if write:
        _remove_replaced(path, plan.stem, needed)
    return rows


def _join(plan: RowsPlan, path: Path) -> None:
    import polars as pl

    samples = _scan(plan, "samples").select(_SAMPLE_COLUMNS)
    chosen = [samples.filter(pl.col("split") == split).sort("sample_id") for split in plan.splits]
    frame = pl.concat([f if plan.limit is None else f.head(plan.limit) for f in chosen])
    for table, key, text in _JOINED:
        frame = frame.join(_texts(plan, table, key, text), on=key, how="left", validate="m:1")
    try:
        with placed(path) as temporary:
            frame.sort("sample_id").sink_ipc(
                temporary, compression="uncompressed", compat_level=pl.CompatLevel.oldest()
            )
            with pa.memory_map(str(temporary)) as source:
                reader = pa.ipc.open_file(source)
                empty = all(reader.get_batch(i).num_rows == 0 for i in range(reader.num_record_batches))
            if empty:
                raise DataError(_no_rows(plan, samples))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            _repeated_key(plan)
            or f"{plan.out}: the tables cannot be joined into {path} ({error}); "
            "check the disk and run python -m pipeline verify --deep"
        ) from error


def _scan(plan: RowsPlan, table: str) -> pl.LazyFrame:
    files = plan.files[table] or ()
    return Table(table, plan.out, schema_of(table), files, num_rows=0).scan()


def _texts(plan: RowsPlan, table: str, key: str, text: str) -> pl.LazyFrame:
    """Return key, text (null where it counts as missing) and flags of a generated table."""
    import polars as pl

    skipped = pl.col("flags").list.eval(pl.element().is_in(list(plan.skip_flags))).list.any()
    blank = pl.col(text).str.strip_chars() == ""
    kept = pl.when(skipped | blank).then(None).otherwise(pl.col(text))
    return _scan(plan, table).select(key, kept.alias(text), pl.col("flags").alias(f"{text}_flags"))


def _repeated_key(plan: RowsPlan) -> str | None:
    """Return the sentence for a failed join of which a repeated key was the cause; None if it was not."""
    import polars as pl

    for table, key, _ in _JOINED:
        try:
            counts = _scan(plan, table).group_by(key).len().filter(pl.col("len") > 1).sort(key).collect()
        except (pl.exceptions.PolarsError, OSError):
            return None  # the table cannot be read, which is the fault to tell
        if len(counts):
            value, rows = counts.row(0)
            others = f" (and {len(counts) - 1:,} more keys)" if len(counts) > 1 else ""
            return (
                f"{plan.out}: table {table} has {rows} rows of {key} {value!r}{others}, one is allowed; "
                "run python -m pipeline verify --deep, which names the shard"
            )
    return None


def _no_rows(plan: RowsPlan, samples: pl.LazyFrame) -> str:
    counts = samples.group_by("split").len().sort("split").collect()
    there = ", ".join(f"{split} ({count:,} rows)" for split, count in counts.iter_rows()) or "none"
    return f"{plan.out}: no rows in {', '.join(plan.splits)}; splits here: {there}"


def _remove_replaced(path: Path, stem: str, needed: Collection[str]) -> None:
    ours = re.compile(re.escape(stem) + r"-[0-9a-f]{16}\.arrow")
    for other in path.parent.iterdir():
        if other != path and other.name not in needed and ours.fullmatch(other.name):
            other.unlink(missing_ok=True)
    remove_stale(path.parent, f"{stem}-*.arrow")
