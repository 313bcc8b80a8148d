"""Where the tables stand, read from markers alone."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.shards.plan import Plan
from schemas import layout
from schemas.marker import Marker
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
        damaged: Markers that do not hold; their shards count as not done.
        device_seconds: Time spent generating the committed shards, over all workers.
        eta_seconds: Time left for one worker at the pace so far; None when done or not known.
        tokens_out: Tokens generated.
        carried: Rows copied from an older version, as nothing they are made from has changed.
        shared: Keys that got what was generated for another key with the same prompt.
    """

    table: str
    version: str
    other_versions: list[str]
    shards_planned: int
    shards_done: int
    planned: int
    rows: int
    failures: int
    damaged: int
    device_seconds: float
    eta_seconds: float | None
    tokens_out: int
    carried: int
    shared: int

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
    markers, damaged = committed(version, table)
    if table in GENERATED_TABLES:
        plan = Plan(table, version)
        shards, planned = plan.shards, plan.planned
    else:
        shards, planned = int(info["shards"]), int(info["planned"])
    ended = sum(marker.planned for marker in markers)
    seconds = sum(float(marker.stats.get("seconds", 0.0)) for marker in markers)
    carried = _sum(markers, "carried")
    # What was copied took no time, and those shards come first.
    known = ended > carried and seconds > 0 and planned > ended
    return TableStatus(
        table=table,
        version=version.name,
        other_versions=[v.name for v in layout.list_versions(out, table) if v != version],
        shards_planned=shards,
        shards_done=len(markers),
        planned=planned,
        rows=sum(marker.rows for marker in markers),
        failures=sum(marker.failures for marker in markers),
        damaged=len(damaged),
        device_seconds=round(seconds, 2),
        eta_seconds=round(seconds / (ended - carried) * (planned - ended), 1) if known else None,
        tokens_out=_sum(markers, "tokens_out"),
        carried=carried,
        shared=_sum(markers, "shared"),
    )


def _sum(markers: list[Marker], name: str) -> int:
    return sum(int(marker.stats.get(name, 0)) for marker in markers)


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
