"""Where the tables stand, read from markers alone."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.costs.sums import read_bills, sum_bills, sum_gates
from pipeline.shards.plan import Plan
from schemas import layout
from schemas.history import Shard
from schemas.reader import committed
from schemas.tables import GENERATED_TABLES, TABLES

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableStatus:
    """The state of a table's current version.

    Attributes:
        table: Name of the table.
        version: Name of the current version.
        other_versions: Names of its other versions, all readable.
        shards_planned: Shards in the plan.
        shards_done: Shards with a valid marker.
        planned: Keys in the plan.
        rows: Rows in the committed shards.
        failures: Keys in the failures ledger.
        quarantined: Keys whose rows a gate set aside.
        damaged: Markers that do not hold; their shards count as not done.
        device_seconds: Time spent generating the committed shards and retries, over all workers.
        eta_seconds: Time left for one worker at the pace so far; None when done or not known.
        tokens_out: Tokens generated.
        carried: Rows copied from an older version, as nothing they are made from has changed.
        shared: Keys that got what was generated for another key with the same prompt.
        gates: What the gates noticed and did, per flag; see ``pipeline.gates.policy.Judged``.
        bill: Sum of the version's bills; None without any.
    """

    table: str
    version: str
    other_versions: list[str]
    shards_planned: int
    shards_done: int
    planned: int
    rows: int
    failures: int
    quarantined: int
    damaged: int
    device_seconds: float
    eta_seconds: float | None
    tokens_out: int
    carried: int
    shared: int
    gates: dict[str, dict[str, int]]
    bill: dict[str, Any] | None

    def as_dict(self) -> dict[str, Any]:
        """Return the status for ``--json``."""
        return asdict(self)


def table_status(out: Path, table: str) -> TableStatus:
    """Return the state of a table's current version.

    Raises:
        NoSuchTable: The table is not there yet.
        TableError: The version is damaged.
    """
    version = layout.current_version(out, table)
    info = layout.read_version(version)
    done, damaged = committed(version, table)
    if table in GENERATED_TABLES:
        plan = Plan(table, version)
        shards, planned = plan.shards, plan.planned
    else:
        shards, planned = int(info["shards"]), int(info["planned"])
    ended = sum(shard.planned for shard in done)
    seconds = sum(float(shard.base.stats.get("seconds", 0.0)) for shard in done)
    carried = _sum(done, "carried")
    # What was copied took no time, and those shards come first.
    known = ended > carried and seconds > 0 and planned > ended
    return TableStatus(
        table=table,
        version=version.name,
        other_versions=[v.name for v in layout.list_versions(out, table) if v != version],
        shards_planned=shards,
        shards_done=len(done),
        planned=planned,
        rows=sum(shard.rows for shard in done),
        failures=sum(shard.failures for shard in done),
        quarantined=sum(shard.quarantined for shard in done),
        damaged=len(damaged),
        device_seconds=round(sum(shard.total("seconds") for shard in done), 2),
        eta_seconds=round(seconds / (ended - carried) * (planned - ended), 1) if known else None,
        tokens_out=_sum(done, "tokens_out"),
        carried=carried,
        shared=_sum(done, "shared"),
        gates=sum_gates([marker.stats.get("gates", {}) for shard in done for marker in shard.markers]),
        bill=sum_bills(read_bills(version)),
    )


def _sum(shards: list[Shard], stat: str) -> int:
    return int(sum(shard.total(stat) for shard in shards))


def all_status(out: Path) -> list[TableStatus]:
    """Return the state of every table that is there; ``failures`` stands within the tables it belongs to."""
    found = []
    for table in TABLES:
        if table == "failures":
            continue
        try:
            found.append(table_status(out, table))
        except layout.NoSuchTable:
            continue
    return found
