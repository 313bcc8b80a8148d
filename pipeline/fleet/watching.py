"""What a table's workers have done so far: what each says of itself, and the rows that are there."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import Any

from pipeline.progress import Progress
from pipeline.shards.plan import Plan
from pipeline.shards.roster import AtWork, at_work
from schemas.reader import committed

LOOK_EVERY_S = 2.0
SHARE_OF_TIME = 0.05
"""Looking at a table of very many shards takes long; it takes at most this share of the time."""

SILENT_S = 30.0
"""A worker gives a sign of life every few seconds; one that has not for so long is shown as silent."""

COLUMNS = (
    *("worker", "host", "pid", "devices", "state", "shard", "shards", "rows", "failed", "tokens_out"),
    "rows_per_second",
)


class WorkersSeen:
    """Every worker that was seen at a table, those of other runs and those that have ended included."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._last: dict[str, AtWork] = {}
        self._here: set[str] = set()

    def look(self) -> list[AtWork]:
        """Read the signs of life; return those of the workers that are there now."""
        present = at_work(self._plan.version)
        self._here = {one.worker for one in present}
        self._last |= {one.worker: one for one in present}
        return present

    def settle(self) -> None:
        """Take the workers' counts from the markers: a last sign of life is older than the last commit."""
        counts: dict[tuple[str, int], Counter[str]] = {}
        worked: dict[tuple[str, int], float] = {}
        for shard in committed(self._plan.version, self._plan.table)[0]:
            marker = shard.base
            who = str(marker.stats.get("host", "")), int(marker.stats.get("pid", 0))
            tokens = int(marker.stats.get("tokens_out", 0))
            seconds = float(marker.stats.get("seconds", 0.0))
            more = {"shards": 1, "rows": marker.planned, "failed": marker.failures, "tokens_out": tokens}
            worked[who] = worked.get(who, 0.0) + seconds
            counts.setdefault(who, Counter()).update(more)
        for worker, one in self._last.items():
            who = one.host, one.pid
            seconds = max(float(one.figures.get("seconds", 0.0)), worked.get(who, 0.0))
            figures = {**one.figures, **counts.get(who, {}), "in_hand": 0, "seconds": seconds}
            self._last[worker] = replace(one, figures=figures)

    def sum(self, name: str) -> int:
        """Return the sum of a figure over all workers seen."""
        return sum(int(one.figures.get(name, 0)) for one in self._last.values())

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each worker, keys ``COLUMNS``, for a table to look at."""
        found = []
        for one in sorted(self._last.values(), key=lambda one: (str(one.figures.get("name")), one.worker)):
            figures, here = one.figures, one.worker in self._here
            shard = figures.get("shard") if here else None
            row = {name: figures.get(name, 0) for name in ("shards", "rows", "failed", "tokens_out")}
            row |= {
                "worker": figures.get("name", one.worker),
                "host": one.host,
                "pid": one.pid,
                "devices": figures.get("device", ""),
                "state": _state(one) if here else "ended",
                "shard": "" if shard is None else shard,
                "rows_per_second": round(one.rows_per_second, 2),
            }
            found.append({name: row[name] for name in COLUMNS})
        return found


def _state(one: AtWork) -> str:
    return f"silent for {one.silent_s:.0f} s" if one.silent_s > SILENT_S else "at work"


class FleetView:
    """Keeps a progress in step with a table that other processes write; may be asked as often as one likes.

    Attributes:
        workers: The workers seen.
    """

    def __init__(self, plan: Plan, progress: Progress) -> None:
        self.workers = WorkersSeen(plan)
        self._plan, self._progress = plan, progress
        self.workers.look()
        self._before = {name: self.workers.sum(name) for name in ("failed", "tokens_out")}
        self._next = 0.0

    def look(self, *, now: bool = False) -> None:
        """Bring progress and figures up to date, at most every few seconds unless ``now``."""
        began = time.monotonic()
        if not now and began < self._next:
            return
        plan = self._plan
        in_hand = sum(int(one.figures.get("in_hand", 0)) for one in self.workers.look())
        done = plan.planned - sum(map(plan.shard_size, plan.pending())) + in_hand
        # A worker's sign of life may be older than its last commit, whose rows then count twice.
        self._progress.update(
            min(done, plan.planned) - self._progress.done,
            tokens=self._new("tokens_out") - self._progress.tokens,
            failed=self._new("failed") - self._progress.failed,
        )
        ended = time.monotonic()
        self._next = ended + max(LOOK_EVERY_S, (ended - began) / SHARE_OF_TIME)

    def _new(self, name: str) -> int:
        return self.workers.sum(name) - self._before[name]
