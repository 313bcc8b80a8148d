"""Checking tables from their files alone: markers against files, and, deep, every byte and row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import PipelineError
from pipeline.shards.atomic import TEMPORARY_PREFIX
from pipeline.shards.plan import Plan
from pipeline.shards.writer import AccountingError, check_accounts
from schemas import layout
from schemas.marker import FileEntry, Marker, MarkerError, file_sha256, read_marker
from schemas.tables import GENERATED_TABLES, TABLES, empty_table, key_of, schema_hash, schema_of
from schemas.validate import SchemaError, validate


@dataclass(frozen=True)
class Problem:
    """Something that does not hold.

    Attributes:
        table: Name of the table.
        where: The file.
        what: What is wrong with it.
    """

    table: str
    where: str
    what: str


@dataclass
class Report:
    """What verification found.

    Attributes:
        tables: Name of each table that was checked, to its version and counts.
        problems: What does not hold.
        leftovers: Files of attempts that were killed or lost a race; harmless, no reader opens them.
        deep: Whether every file was hashed and read again.
    """

    deep: bool
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there was something to check and all of it holds."""
        return bool(self.tables) and not self.problems

    def as_dict(self) -> dict[str, Any]:
        """Return the report for ``--json``."""
        return {**asdict(self), "ok": self.ok}


def verify(out: Path, *, deep: bool = False) -> Report:
    """Check the current version of every table in an output folder.

    Args:
        out: Output folder.
        deep: Also hash every file, read every row and hold the keys against the plan.
    """
    report = Report(deep)
    for table in TABLES:
        if table == "failures":
            continue
        try:
            version = layout.current_version(out, table)
            layout.read_version(version)
        except layout.NoSuchTable:
            continue
        except layout.TableError as error:
            report.tables[table] = {}
            report.problems.append(Problem(table, str(layout.table_dir(out, table)), str(error)))
            continue
        _verify_version(report, table, version)
    if not report.tables:
        report.problems.append(Problem("-", str(out), "no table here; run ingest first"))
    return report


def _verify_version(report: Report, table: str, version: Path) -> None:
    info = layout.read_version(version)
    plan = Plan(table, version) if table in GENERATED_TABLES else None
    try:
        shards = plan.shards if plan is not None else int(info["shards"])
    except (PipelineError, KeyError, ValueError) as error:
        report.tables[table] = {"version": version.name}
        report.problems.append(Problem(table, str(version), f"the plan cannot be read: {error}"))
        return
    counts = {"shards": shards, "done": 0, "rows": 0, "failures": 0, "quarantined": 0}
    named: set[str] = set()
    for shard in range(shards):
        path = layout.marker_path(version, shard)
        if not path.exists():
            report.problems.append(
                Problem(table, str(path), "the shard has not been written; run the command again")
            )
            continue
        try:
            marker = read_marker(path)
        except MarkerError as error:
            report.problems.append(Problem(table, str(path), str(error)))
            continue
        counts["done"] += 1
        counts["rows"] += marker.rows
        counts["failures"] += marker.failures
        counts["quarantined"] += marker.quarantined
        named |= {entry.name for entry in marker.files()}
        for what in _shard_faults(version, table, shard, marker, info, plan, report.deep):
            report.problems.append(Problem(table, str(path), what))
    if plan is not None and report.deep:
        twice = (
            plan.planned
            - pl.scan_parquet(version / layout.PLAN_FILE)
            .select(pl.col("key").n_unique())
            .collect(engine="streaming")
            .item()
        )
        if twice:
            report.problems.append(
                Problem(table, str(version / layout.PLAN_FILE), f"{twice} keys are planned twice")
            )
    for path in layout.list_markers(version):
        if layout.shard_number(path) >= shards:
            report.problems.append(
                Problem(table, str(path), f"a marker of a shard outside the plan of {shards}")
            )
    report.tables[table] = {"version": version.name, **counts}
    report.leftovers += _leftovers(version, named)


def _shard_faults(
    version: Path, table: str, shard: int, marker: Marker, info: dict[str, Any], plan: Plan | None, deep: bool
) -> Iterator[str]:
    if marker.table != table or marker.shard != shard:
        yield f"belongs to {marker.table} shard {marker.shard}"
        return
    if marker.fingerprint != info.get("fingerprint"):
        yield f"has fingerprint {marker.fingerprint[:12]}, the version {str(info.get('fingerprint'))[:12]}"
    if marker.schema_hash != schema_hash(schema_of(table)):
        yield f"was written with another schema of {table}"
        return
    if plan is not None and marker.planned != plan.shard_size(shard):
        yield f"accounts for {marker.planned} keys, the plan has {plan.shard_size(shard)}"
    if deep:
        yield from _file_faults(version, table, shard, marker, plan)


def _file_faults(version: Path, table: str, shard: int, marker: Marker, plan: Plan | None) -> Iterator[str]:
    read: list[pa.Table] = []
    parts = ((marker.data, table), (marker.failure_data, "failures"), (marker.quarantine_data, table))
    for entry, name in parts:
        if entry is None:
            read.append(empty_table(name))
            continue
        if file_sha256(version / entry.name) != entry.sha256:
            yield f"{entry.name}: its bytes are not those that were written (sha256 differs)"
            return
        try:
            read.append(_read(version / entry.name, entry, name))
        except (OSError, pa.ArrowInvalid, SchemaError, ValueError) as error:
            yield f"{entry.name}: {error}"
            return
    if plan is not None:
        try:
            check_accounts(table, shard, plan.keys(shard), *read)
        except AccountingError as error:
            yield str(error)
    elif marker.rows != len(read[0].group_by(list(key_of(table))).aggregate([])):
        yield "a key stands twice"


def _read(path: Path, entry: FileEntry, table: str) -> pa.Table:
    data = pq.read_table(path)
    if len(data) != entry.rows:
        raise ValueError(f"has {len(data)} rows, its marker says {entry.rows}")
    if schema_hash(data.schema) != schema_hash(schema_of(table)):
        raise ValueError(f"does not have the schema of {table}")
    return validate(data, table)


def _leftovers(version: Path, named: set[str]) -> list[str]:
    return sorted(
        str(path)
        for path in version.iterdir()
        if path.name.startswith(TEMPORARY_PREFIX)
        or ".invalid-" in path.name
        or (path.suffix == ".parquet" and path.name != layout.PLAN_FILE and path.name not in named)
    )
