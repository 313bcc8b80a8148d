"""What a run of several workers did, from the markers they committed: one that was killed is in it too."""

from __future__ import annotations

from typing import Any

from pipeline.costs.sums import Bill, merge_bills, read_bills
from pipeline.costs.times import Times
from pipeline.generating import ShardReport
from pipeline.run import Work
from schemas.history import Shard
from schemas.reader import committed


def reports_of(work: Work, run: str) -> list[ShardReport]:
    """Return the shards that a run committed."""
    shards, _ = committed(work.plan.version, work.plan.table)
    return [_report(shard) for shard in shards if shard.base.stats.get("run") == run]


def bill_of(work: Work, run: str, wall_seconds: float) -> Bill | None:
    """Return the sum of the bills that a run's workers left, over the time the run took; None without any.

    A worker that was killed left no bill; its time is missing, its rows are in the run's summary.
    """
    return merge_bills(
        [bill for bill in read_bills(work.plan.version) if bill.get("run") == run], wall_seconds
    )


def _report(shard: Shard) -> ShardReport:
    marker = shard.base
    stats: dict[str, Any] = marker.stats
    return ShardReport(
        marker.shard,
        marker.rows,
        marker.failures,
        marker.quarantined,
        skipped=False,
        seconds=float(stats.get("seconds", 0.0)),
        tokens_in=int(stats.get("tokens_in", 0)),
        tokens_out=int(stats.get("tokens_out", 0)),
        gates=stats.get("gates", {}),
        times=Times(**stats.get("times", {})),
        bytes=sum(entry.size for entry in marker.files()),
        carried=int(stats.get("carried", 0)),
        shared=int(stats.get("shared", 0)),
    )
