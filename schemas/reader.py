"""Opening a table: only committed shards, streamed, with columns and split of choice."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from schemas import layout
from schemas.history import Shard, read_history
from schemas.tables import GENERATED_TABLES, SCHEMA_VERSION, schema_at, schema_hash, schema_of
from schemas.vocabulary import SPLITS

# pyarrow.dataset, polars and datasets are imported where they are used: a command that only looks at markers
# should not wait a second or two for them.
if TYPE_CHECKING:
    import datasets
    import polars as pl
    import pyarrow.dataset as ds

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """The committed rows of one version of a table.

    Attributes:
        name: Name of the table.
        version: Folder of the version; for ``failures`` the output folder, as they stand beside each table.
        schema: Arrow schema of the table, as it was when the version was written.
        files: Parquet files of the committed shards, in shard order.
        num_rows: Rows in those files, by their markers.
        skipped: Markers that did not hold, each with the reason; those attempts count as not done.
    """

    name: str
    version: Path
    schema: pa.Schema
    files: tuple[Path, ...]
    num_rows: int
    skipped: tuple[str, ...] = ()

    @property
    def info(self) -> dict[str, Any]:
        """The version's description (``version.json``), e.g. ``image_root`` of ``samples``."""
        return layout.read_version(self.version)

    def dataset(self) -> ds.Dataset:
        """Return a ``pyarrow.dataset`` over the committed files."""
        import pyarrow.dataset as ds

        if not self.files:
            return ds.dataset(self.schema.empty_table())
        return ds.dataset([str(file) for file in self.files], schema=self.schema, format="parquet")

    def batches(
        self, columns: Sequence[str] | None = None, split: str | None = None, batch_size: int = 8192
    ) -> Iterator[pa.RecordBatch]:
        """Stream the rows.

        Args:
            columns: Columns to read, all by default.
            split: Only rows of this split; row groups of other splits are not read.
            batch_size: Most rows in a batch.

        Raises:
            TableError: Unknown column or split, or the table has no split column.
        """
        yield from self._scanner(columns, split, batch_size).to_batches()

    def to_arrow(self, columns: Sequence[str] | None = None, split: str | None = None) -> pa.Table:
        """Return all rows as an Arrow table; arguments as in ``batches``."""
        return self._scanner(columns, split, 131_072).to_table()

    def scan(self) -> pl.LazyFrame:
        """Return a lazy polars frame over the committed files."""
        import polars as pl

        if not self.files:
            return pl.DataFrame(pl.from_arrow(self.schema.empty_table())).lazy()
        return pl.scan_parquet(list(self.files))

    def to_polars(self, columns: Sequence[str] | None = None, split: str | None = None) -> pl.DataFrame:
        """Return all rows as a polars frame; arguments as in ``batches``."""
        import polars as pl

        return pl.DataFrame(pl.from_arrow(self.to_arrow(columns, split)))

    def to_datasets(self, *, streaming: bool = False) -> datasets.Dataset | datasets.IterableDataset:
        """Return a Hugging Face dataset over the committed files.

        Args:
            streaming: Return an ``IterableDataset`` that reads as it goes and copies nothing to a cache.
        """
        import datasets

        if not self.files:
            return datasets.Dataset(self.schema.empty_table())
        files = [str(file) for file in self.files]
        return datasets.load_dataset("parquet", data_files=files, split="train", streaming=streaming)

    def _scanner(self, columns: Sequence[str] | None, split: str | None, batch_size: int) -> ds.Scanner:
        for column in columns or ():
            if column not in self.schema.names:
                raise layout.TableError(
                    f"table {self.name!r} has no column {column!r}; it has {', '.join(self.schema.names)}"
                )
        import pyarrow.dataset as ds

        where = None
        if split is not None:
            if split not in SPLITS:
                raise layout.TableError(f"no split {split!r}; the splits are {', '.join(SPLITS)}")
            if "split" not in self.schema.names:
                raise layout.TableError(
                    f"table {self.name!r} has no split column: join it with 'samples' by its key instead"
                )
            where = ds.field("split") == split
        return self.dataset().scanner(
            columns=None if columns is None else list(columns), filter=where, batch_size=batch_size
        )


Part = Literal["rows", "quarantined"]


def open_table(out: str | Path, table: str, version: str | None = None, *, part: Part = "rows") -> Table:
    """Open the committed shards of a table.

    Args:
        out: Output folder of a run.
        table: ``samples``, ``captions``, ``explanations``, ``failures``, ``quarantine`` or ``predictions``.
        version: Folder name of a version; the current one by default.
        part: ``rows``, or ``quarantined`` for what a gate set aside of a generated table: rows with its
            columns that are no part of it.

    Returns:
        The table; shards that are committed later are not part of it.

    Raises:
        NoSuchTable: The folder holds no such table.
        TableError: The version is damaged or of a newer schema than this code knows, or the table has no such
            part.
    """
    if part != "rows" and (part != "quarantined" or table not in GENERATED_TABLES):
        raise layout.TableError(
            f"table {table!r} has no part {part!r}; every table has 'rows', and "
            f"{' and '.join(GENERATED_TABLES)} also have 'quarantined'"
        )
    if table == "failures":
        return _open_failures(Path(out), version)
    folder = layout.table_dir(out, table) / version if version else layout.current_version(out, table)
    if not folder.is_dir():
        names = ", ".join(p.name for p in layout.list_versions(out, table)) or "none"
        raise layout.NoSuchTable(f"{folder}: no such version; versions here: {names}")
    layout.read_version(folder)
    shards, skipped = committed(folder, table)
    # The shards of a version are of one schema version: it is part of what names the version.
    written = min((shard.base.schema_version for shard in shards), default=SCHEMA_VERSION)
    entries = [
        entry
        for shard in shards
        for entry in (shard.row_files() if part == "rows" else shard.quarantine_files())
    ]
    return Table(
        name=table,
        version=folder,
        schema=schema_at(table, written),
        files=tuple(folder / entry.name for entry in entries),
        num_rows=sum(entry.rows for entry in entries),
        skipped=tuple(skipped),
    )


def committed(version: Path, table: str) -> tuple[list[Shard], list[str]]:
    """Return the committed shards of a version in order, and a reason for each marker that does not hold.

    Raises:
        TableError: A marker was written for a newer schema than this code knows.
    """
    shards: list[Shard] = []
    skipped: list[str] = []
    expected = {number: schema_hash(schema_at(table, number)) for number in range(1, SCHEMA_VERSION + 1)}
    for attempts in layout.list_attempts(version).values():
        shard, broken = read_history(attempts)
        if shard is not None and shard.base.schema_version > SCHEMA_VERSION:
            raise layout.TableError(
                f"{attempts[0]}: written with schema version {shard.base.schema_version}, "
                f"this code knows {SCHEMA_VERSION}; update the code"
            )
        if shard is not None and (
            shard.base.schema_hash != expected.get(shard.base.schema_version) or shard.base.table != table
        ):
            skipped.append(
                f"{attempts[0]}: not a shard of {table!r} as this code knows it; it counts as not done"
            )
            continue
        if broken is not None:
            what = (
                "retry counts as not done, what it recovered as failed" if broken[0] else "shard is not done"
            )
            skipped.append(f"{broken[1]}; the {what}")
        if shard is not None:
            shards.append(shard)
    for reason in skipped:
        log.warning("%s", reason)
    return shards, skipped


def _open_failures(out: Path, version: str | None) -> Table:
    files: list[Path] = []
    skipped: list[str] = []
    rows = 0
    found = False
    for stage in GENERATED_TABLES:
        try:
            folder = layout.current_version(out, stage)
        except layout.NoSuchTable:
            continue
        if version is not None and folder.name != version:
            continue
        found = True
        shards, bad = committed(folder, stage)
        skipped += bad
        ledgers = [shard.ledger for shard in shards if shard.ledger is not None]
        files += [folder / entry.name for entry in ledgers]
        rows += sum(entry.rows for entry in ledgers)
    if not found:
        raise layout.NoSuchTable(f"{out}: no captions or explanations here yet, so no failures either")
    return Table(
        name="failures",
        version=out,
        schema=schema_of("failures"),
        files=tuple(files),
        num_rows=rows,
        skipped=tuple(skipped),
    )
