"""Shards that need no model, because all of their texts stand in older versions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.generating import ShardReport, begin_shard, generate_shard
from pipeline.progress import Progress
from pipeline.shards.claims import Claims
from pipeline.shards.writer import committed_marker
from pipeline.stopping import StopRequest
from schemas.layout import CLAIMS_DIR, shard_name

if TYPE_CHECKING:
    from pipeline.run import Work

log = logging.getLogger(__name__)


def carry_shards(work: Work, pending: Sequence[int], stop: StopRequest) -> list[ShardReport]:
    """Write the shards whose rows all stand in older versions, so that no model is loaded for them.

    Shards that another worker holds are passed over: it looks at them itself.

    Args:
        work: The prepared table.
        pending: Shards to look at.
        stop: Ends the search when a signal came.

    Returns:
        The shards written; the others need the model for at least one row.

    Raises:
        Interrupted: A signal came; what is committed stands.
    """
    reports: list[ShardReport] = []
    if not pending or work.carrier is None or not work.carrier.sources:
        return reports
    table = work.plan.table
    log.info("%s: looking for texts of older versions that still hold", table)
    with (
        Claims(work.plan.version / CLAIMS_DIR, work.job.config.lease_s) as claims,
        Progress(sum(map(work.plan.shard_size, pending)), f"{table} looked through") as progress,
    ):
        stop.before_exit.append(claims.close)
        for shard in pending:
            stop.check(f"{table}: {len(reports)} shards were carried over; the same command resumes")
            name = shard_name(shard)
            if committed_marker(work.plan.version, shard) is None and claims.take(name):
                begun = begin_shard(work, shard, None)
                if not begun.division.first:
                    reports.append(generate_shard(work, shard, None, begun=begun))
                claims.release(name)
            progress.update(work.plan.shard_size(shard))
    return reports
