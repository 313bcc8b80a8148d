"""Checking tables from their files alone: markers against files, and, deep, every byte and row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.errors import PipelineError
from pipeline.shards.contents import content_faults
from pipeline.shards.folder import file_names, shard_of, unnamed
from pipeline.shards.plan import Plan
from pipeline.shards.problems import Problem, Report, problem
from schemas import layout
from schemas.history import Shard, read_history
from schemas.tables import GENERATED_TABLES, TABLES, schema_at, schema_hash

__all__ = ["Problem", "Report", "verify"]


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
        except layout.NoSuchTable:
            continue
        except layout.TableError as error:
            report.tables[table] = {}
            report.problems.append(_by_hand(out, table, layout.table_dir(out, table), str(error)))
            continue
        _VersionCheck(out, table, version, report).run()
    if not report.tables:
        what = "no table here; run ingest first"
        report.problems.append(_by_hand(out, "-", out, what))
    return report


def _by_hand(out: Path, table: str, where: Path, what: str) -> Problem:
    remedy = f"Restore it from a backup, or move {where.name} away and run the command of the table again"
    return problem(table, where, what, "by hand", out=out, remedy=remedy)


class _VersionCheck:
    """The check of one version of a table; adds to a report."""

    def __init__(self, out: Path, table: str, version: Path, report: Report) -> None:
        self.out, self.table, self.version, self.report = out, table, version, report
        self.counts = {"shards": 0, "done": 0, "rows": 0, "failures": 0, "quarantined": 0}
        self.named: set[str] = set()

    def run(self) -> None:
        """Check everything."""
        counts, report = self.counts, self.report
        report.tables[self.table] = {"version": self.version.name}
        plan = Plan(self.table, self.version) if self.table in GENERATED_TABLES else None
        try:
            info = layout.read_version(self.version)
            counts["shards"] = plan.shards if plan is not None else int(info["shards"])
        except (PipelineError, layout.TableError, KeyError, ValueError) as error:
            report.problems.append(
                _by_hand(self.out, self.table, self.version, f"the plan cannot be read: {error}")
            )
            return
        names = file_names(self.version)
        attempts = layout.list_attempts(self.version)
        without_marker = {shard_of(name): name for name in names}
        for shard in range(counts["shards"]):
            mine = attempts.get(shard, {})
            if 0 not in mine:
                self._not_written(shard, without_marker.get(shard))
                continue
            self._check_shard(shard, mine, info, plan)
        if plan is not None and report.deep:
            self._check_plan(plan)
        for shard, paths in attempts.items():
            if shard >= counts["shards"]:
                for path in paths.values():
                    self._add(path, f"a marker of a shard outside the plan of {counts['shards']}", "file")
                    self.named.add(path.name)
        leftovers, strange = unnamed(names, self.named)
        for name in strange:
            self._add(self.version / name, "no marker names this file", "file")
        report.leftovers += [str(self.version / name) for name in leftovers]
        report.tables[self.table] |= counts

    def _add(self, where: Path, what: str, mend: Any, shard: int | None = None, retry: int = 0) -> None:
        self.report.problems.append(
            problem(self.table, where, what, mend, out=self.out, shard=shard, retry=retry)
        )

    def _not_written(self, shard: int, data: str | None) -> None:
        if data is None:
            self._add(layout.marker_path(self.version, shard), "the shard has not been written", "run", shard)
        else:
            what = "the shard has not been written: this file lies there without a marker"
            self._add(self.version / data, what, "run", shard)

    def _check_shard(
        self, number: int, attempts: Mapping[int, Path], info: dict[str, Any], plan: Plan | None
    ) -> None:
        shard, broken = read_history(attempts)
        self.named |= {path.name for round_, path in attempts.items() if _in_force(round_, shard, broken)}
        if shard is not None:
            self.counts["done"] += 1
            for name in ("rows", "failures", "quarantined"):
                self.counts[name] += getattr(shard, name)
            self.named |= {entry.name for marker in shard.markers for entry in marker.files()}
            faults = self._faults(number, shard, info, plan)
            for retry, where, what in faults:
                self._add(where, what, "retry" if retry else "shard", number, retry)
        if broken is not None:
            retry, error = broken
            self._add(error.path, error.what, "retry" if retry else "shard", number, retry)
        for retry in attempts:
            if retry and retry - 1 not in attempts:
                what = f"retry {retry - 1}, which it follows, has no marker"
                self._add(attempts[retry], what, "retry", number, retry)
                self.named.add(attempts[retry].name)

    def _faults(
        self, number: int, shard: Shard, info: dict[str, Any], plan: Plan | None
    ) -> Iterator[tuple[int, Path, str]]:
        base, path = shard.base, layout.marker_path(self.version, number)
        if base.table != self.table or base.shard != number:
            yield 0, path, f"belongs to {base.table} shard {base.shard}"
            return
        if base.fingerprint != info.get("fingerprint"):
            theirs = str(info.get("fingerprint"))[:12]
            yield 0, path, f"has fingerprint {base.fingerprint[:12]}, the version {theirs}"
        if base.schema_hash != schema_hash(schema_at(self.table, base.schema_version)):
            yield 0, path, f"was written with another schema of {self.table}"
            return
        if plan is not None and base.planned != plan.shard_size(number):
            yield 0, path, f"accounts for {base.planned} keys, the plan has {plan.shard_size(number)}"
            return
        for before, retry in zip(shard.markers, shard.retries, strict=False):
            if retry.planned != before.failures:
                where = layout.marker_path(self.version, number, retry.retry)
                yield retry.retry, where, f"accounts for {retry.planned} of {before.failures} failures"
                return
        if self.report.deep:
            keys = None if plan is None else plan.keys(number)
            yield from content_faults(self.version, shard, keys)

    def _check_plan(self, plan: Plan) -> None:
        path = self.version / layout.PLAN_FILE
        distinct = pl.scan_parquet(path).select(pl.col("key").n_unique())
        twice = plan.planned - distinct.collect(engine="streaming").item()
        if twice:
            self.report.problems.append(
                _by_hand(self.out, self.table, path, f"{twice} keys are planned twice")
            )


def _in_force(round_: int, shard: Shard | None, broken: tuple[int, Any] | None) -> bool:
    """Return whether a marker is read or complained about; the others are what an earlier attempt left."""
    read = 0 if shard is None else 1 + len(shard.retries)
    return round_ < read or (broken is not None and round_ == broken[0])
