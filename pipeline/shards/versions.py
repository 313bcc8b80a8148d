"""The versions of a table side by side, and the history of one shard."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.shards.fingerprint import differences
from pipeline.shards.ledger import read_ledger
from pipeline.shards.plan import Plan
from schemas import layout
from schemas.history import read_history
from schemas.marker import Marker
from schemas.reader import committed

log = logging.getLogger(__name__)

FAILED_SHOWN = 20
"""Failures of a shard that its history lists."""


@dataclass(frozen=True)
class VersionStatus:
    """One version of a table.

    Attributes:
        version: Its name.
        current: Whether it is the current one.
        created: When it was begun, where that is known.
        shards_done: Shards that are committed; None when they were not counted.
        shards_planned: Shards in its plan.
        planned: Keys in its plan.
        rows: Rows in the committed shards; None when they were not counted.
        failures: Keys that have no text; None when they were not counted.
        quarantined: Keys whose rows a gate set aside; None when they were not counted.
        differs: Field to (value of this version, value of the current one), for each that made it another.
    """

    version: str
    current: bool
    created: str | None
    shards_planned: int
    planned: int
    differs: dict[str, list[Any]]
    shards_done: int | None = None
    rows: int | None = None
    failures: int | None = None
    quarantined: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return asdict(self)


def versions_of(out: Path, table: str, *, count: bool) -> list[VersionStatus]:
    """Return the versions of a table, the current one first, then the newest.

    Args:
        out: Output folder.
        table: Name of the table.
        count: Also read their markers and count; takes as long as the status of each.

    Raises:
        NoSuchTable: The table is not there yet.
        TableError: The current version is damaged; another one that is damaged is left out with a warning.
    """
    current = layout.current_version(out, table)
    now = _made_from(layout.read_version(current))
    found = []
    for path in layout.list_versions(out, table):
        try:
            found.append(_status(path, table, now, current=path == current, count=count))
        except layout.TableError as error:
            if path == current:
                raise
            log.warning("%s; this version is left out", error)
    newest_first = sorted(found, key=lambda version: version.created or "", reverse=True)
    return sorted(newest_first, key=lambda version: not version.current)


def _status(path: Path, table: str, now: dict[str, Any], *, current: bool, count: bool) -> VersionStatus:
    info = layout.read_version(path)
    counts: dict[str, int] = {}
    if count:
        shards, _ = committed(path, table)
        counts = {name: sum(getattr(s, name) for s in shards) for name in ("rows", "failures", "quarantined")}
        counts["shards_done"] = len(shards)
    return VersionStatus(
        version=path.name,
        current=current,
        created=info.get("created"),
        shards_planned=int(info.get("shards", 0)),
        planned=int(info.get("planned", 0)),
        differs={name: list(pair) for name, pair in differences(_made_from(info), now).items()},
        **counts,
    )


def _made_from(info: dict[str, Any]) -> dict[str, Any]:
    """Return what makes a version; tables that are written whole are made by their rows alone."""
    fields: dict[str, Any] = info.get("fields") or {
        "rows": info.get("planned"),
        "content": info["fingerprint"][:12],
    }
    return fields


def shard_history(out: Path, table: str, number: int) -> dict[str, Any]:
    """Return what happened to a shard of a table's current version: each attempt, and what still fails.

    Raises:
        UsageError: The plan has no such shard.
        NoSuchTable: The table is not there yet.
    """
    plan = Plan(table, layout.current_version(out, table))
    if not 0 <= number < plan.shards:
        raise UsageError(
            f"{table} has no shard {number}; {plan.version.name} has shards 0 to {plan.shards - 1}"
        )
    shard, broken = read_history(layout.list_attempts(plan.version).get(number, {}))
    failed = [] if shard is None else read_ledger(plan.version, shard.ledger).to_pylist()
    for row in failed:
        row["last_attempt"] = row["last_attempt"].isoformat(timespec="seconds")
    return {
        "table": table,
        "version": plan.version.name,
        "shard": number,
        "planned": plan.shard_size(number),
        "done": shard is not None,
        "rows": 0 if shard is None else shard.rows,
        "failures": 0 if shard is None else shard.failures,
        "quarantined": 0 if shard is None else shard.quarantined,
        "attempts": [] if shard is None else [_attempt(plan.version, marker) for marker in shard.markers],
        "damaged": None if broken is None else str(broken[1]),
        "failed": failed[:FAILED_SHOWN],
    }


def _attempt(version: Path, marker: Marker) -> dict[str, Any]:
    classes = Counter(read_ledger(version, marker.failure_data).column("error_class").to_pylist())
    return {
        "retry": marker.retry,
        "committed": marker.stats.get("committed"),
        "host": marker.stats.get("host"),
        "seconds": marker.stats.get("seconds"),
        "tried": marker.stats.get("retried", marker.planned),
        "rows": marker.rows,
        "failures": marker.failures,
        "quarantined": marker.quarantined,
        "failures_by_class": dict(sorted(classes.items())),
        "files": [entry.name for entry in marker.files()],
    }


def field_value(value: Any) -> str:
    """Return a field's value, short enough for a line."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
