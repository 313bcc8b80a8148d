"""The bill of a run: what its time went into, kept beside the table and set against the forecast.

One JSON file per run and process in the version's folder ``bills``; nothing reads them but ``status``, so
losing one loses no row. A process that is killed leaves none; the markers of its shards hold their parts.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline.costs.compare import against_forecast
from pipeline.costs.forecast_file import read_forecast
from pipeline.costs.price import Price, devices_per_worker
from pipeline.costs.sums import FOLDER, Bill, sum_gates
from pipeline.costs.times import Times
from pipeline.engines import Load, take_loads
from pipeline.errors import Interrupted
from pipeline.identity import identity
from pipeline.shards import atomic

if TYPE_CHECKING:
    from pipeline.generating import ShardReport
    from pipeline.run import Work

log = logging.getLogger(__name__)


class Meter:
    """Measures a run; ``metered`` makes one.

    Attributes:
        bill: The bill, once the run has ended; None where nothing was spent.
    """

    def __init__(self, work: Work, reports: Sequence[ShardReport], started: float) -> None:
        self.bill: Bill | None = None
        self._work, self._reports, self._started = work, reports, started
        self._began = datetime.now(UTC)

    def close(self, outcome: str) -> None:
        """Make the bill and write it; a disk that does not take it is only warned about."""
        loads = take_loads(self._work.job.model)
        made = [report for report in self._reports if not report.skipped]
        if not (loads or made):
            return
        now = time.monotonic()
        # A model may have been loaded before this run began, for it.
        early = sum(load.seconds for load in loads if load.started < self._started)
        wall = now - self._started + early
        self.bill = make_bill(self._work, made, loads, wall=wall, outcome=outcome)
        self.bill["started"] = self._began.isoformat(timespec="seconds")
        version = self._work.plan.version
        self.bill["forecast"] = against_forecast(self.bill, read_forecast(version))
        path = version / FOLDER / f"{self._began:%Y%m%dT%H%M%S.%fZ}-{atomic.attempt_id()}.json"
        try:
            path.parent.mkdir(exist_ok=True)
            atomic.write_bytes(path, json.dumps(self.bill, indent=1, sort_keys=True).encode())
        except OSError as error:
            log.warning("%s: the bill could not be kept (%s); the table is not touched by that", path, error)


@contextlib.contextmanager
def metered(work: Work, reports: Sequence[ShardReport], started: float) -> Iterator[Meter]:
    """Measure what happens inside and write the bill when it ends, however it ends.

    Args:
        work: The prepared table.
        reports: What becomes of its shards; filled by the caller while it works.
        started: When the run began, by ``time.monotonic``.
    """
    meter = Meter(work, reports, started)
    try:
        yield meter
    except Interrupted:
        meter.close("interrupted")
        raise
    except Exception:
        meter.close("failed")
        raise
    except BaseException:  # what ends a process or a flow from outside is no fault of the run
        meter.close("interrupted")
        raise
    meter.close("done")


def make_bill(
    work: Work, made: Sequence[ShardReport], loads: Sequence[Load], *, wall: float, outcome: str
) -> Bill:
    """Return the bill of some shards.

    Args:
        work: The prepared table.
        made: The shards that this run wrote.
        loads: The loads of the model that this run pays: more than one where it died on the way.
        wall: Seconds the run took, the load included.
        outcome: ``done``, ``interrupted`` or ``failed``.
    """
    devices = devices_per_worker(work.job.model)
    device_seconds = wall * devices
    times = Times.sum(report.times for report in made)
    load = sum(load.seconds for load in loads)
    seconds = {"load": round(load, 3), **times.as_dict()}
    # Planning, reading samples, and shards that were begun and not committed.
    seconds["other"] = round(max(0.0, wall - load - times.total), 3)
    carried, shared = sum(report.carried for report in made), sum(report.shared for report in made)
    rows, failed = sum(report.rows for report in made) - carried, sum(report.failed for report in made)
    quarantined = sum(report.quarantined for report in made)
    keys = rows + failed + quarantined
    tokens_out = sum(report.tokens_out for report in made)
    return {
        "table": work.plan.table,
        "version": work.plan.version.name,
        "outcome": outcome,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "run": identity().run,
        "worker": identity().worker,
        "engine": work.job.model.engine,
        "devices": devices,
        "loads": len(loads),
        "wall_seconds": round(wall, 3),
        "device_seconds": round(device_seconds, 3),
        "seconds": seconds,
        "shares": {name: round(value / wall, 4) if wall else 0.0 for name, value in seconds.items()},
        "shards": len(made),
        "keys": keys,
        "rows": rows,
        "failed": failed,
        "quarantined": quarantined,
        "carried": carried,
        "shared": shared,
        "generated": keys - shared,
        "tokens_in": sum(report.tokens_in for report in made),
        "tokens_out": tokens_out,
        "bytes": sum(report.bytes for report in made),
        "rows_per_device_second": round(rows / device_seconds, 3) if device_seconds else 0.0,
        "tokens_per_device_second": round(tokens_out / device_seconds, 3) if device_seconds else 0.0,
        "gates": sum_gates(report.gates for report in made),
        **_money(work.price, device_seconds),
    }


def _money(price: Price, device_seconds: float) -> dict[str, Any]:
    amount = price.amount(device_seconds / 3600)
    return {"cost": None if amount is None else round(amount, 6), "currency": price.currency}
