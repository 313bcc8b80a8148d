"""Flow runs on other machines, seen from the one that started them: what Prefect says, and signs of life."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelled, Cancelling, Crashed

from flows.runs import STATES
from pipeline.errors import EXIT_BROKEN, EXIT_INTERRUPTED, EXIT_OK
from pipeline.fleet.order import WorkerEnd
from pipeline.fleet.seats import Seat
from pipeline.fleet.watching import WorkersSeen
from pipeline.shards.plan import Plan
from schemas import NoSuchTable
from schemas.layout import current_version

log = logging.getLogger(__name__)

ASK_EVERY_S = 3.0
"""Seconds between two questions to the API about a flow run."""

STOPPED_AFTER_S = 120.0
"""A flow run that was told to stop and has not said that it did is taken for gone."""

API_PAUSE_S = 15.0
"""Seconds before the API is asked again that did not answer."""

BY_TYPE = {"COMPLETED": EXIT_OK, "CANCELLED": EXIT_INTERRUPTED}
"""What the types of final states mean for a worker; any other one means that it died."""


class RemoteRun:
    """A flow run of the deployment, as one worker of the fleet."""

    def __init__(self, run: FlowRun, seat: Seat, watch: Watch) -> None:
        self._run, self._seat, self._watch = run, seat, watch
        self._next = 0.0
        self._told: float | None = None
        self.state = "Scheduled"

    def poll(self) -> WorkerEnd | None:
        """Return how it ended, None while it works or nobody can say."""
        now = time.monotonic()
        if now < self._next:
            return None
        self._next = now + ASK_EVERY_S
        try:
            return self._ask(now)
        except httpx.HTTPError as error:
            # A server that is started again finds its runs as they are; nothing is concluded meanwhile.
            log.warning("%s: the Prefect API does not answer (%s)", self._run.name, error)
            self._next = now + API_PAUSE_S
            gone = self._told is not None and now - self._told > STOPPED_AFTER_S
            return self._end(EXIT_INTERRUPTED, "told to stop while the API was away") if gone else None

    def _ask(self, now: float) -> WorkerEnd | None:
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(self._run.id)
            state = run.state
            assert state is not None
            self.state = state.name or state.type.value
            if state.is_final():
                by_type = BY_TYPE.get(state.type.value, EXIT_BROKEN)
                return self._end(STATES.get(self.state, by_type), state.message)
            if self._told is not None and now - self._told > STOPPED_AFTER_S:
                message = "told to stop, it did not say that it has"
                client.set_flow_run_state(run.id, Cancelled(message=message), force=True)
                return self._end(EXIT_INTERRUPTED, message)
            if state.is_running() and (silent := self._watch.silent_s(str(run.id))) is not None:
                message = f"no sign of life for {silent:.0f} s: its machine is gone"
                client.set_flow_run_state(run.id, Crashed(message=message), force=True)
                return self._end(EXIT_BROKEN, message)
        return None

    def stop(self) -> None:
        """Have its worker end it, as a cancelled run: it stops at its next row."""
        self._told, self._next = time.monotonic(), 0.0
        try:
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(self._run.id, Cancelling(message="its fan-out is stopped"))
        except httpx.HTTPError as error:
            log.warning("%s could not be told to stop (%s)", self._run.name, error)

    def _end(self, code: int, message: str | None) -> WorkerEnd:
        return WorkerEnd(self._seat.name, code, message or "", str(self._run.name))


class Watch:
    """Which flow runs give signs of life at the table, measured by this machine's own clock."""

    def __init__(self, table: str, out: Path, lease_s: float) -> None:
        self.seen: WorkersSeen | None = None
        self._table, self._out, self._lease_s = table, out, lease_s
        self._plan: Plan | None = None
        self._signs: dict[str, tuple[Any, float]] = {}
        self._next = 0.0

    def plan(self) -> Plan | None:
        """Return the plan of the current version, None before there is one."""
        try:
            version = current_version(self._out, self._table)
        except NoSuchTable:
            return None
        if self._plan is None or self._plan.version != version:
            self._plan = Plan(self._table, version)
            self.seen = WorkersSeen(self._plan)
        return self._plan

    def left(self) -> int:
        """Return how many shards are missing; 1 before there is a plan."""
        plan = self.plan()
        return 1 if plan is None else len(plan.pending())

    def look(self) -> None:
        """Note the signs of life, now and then."""
        now = time.monotonic()
        if now < self._next or self.plan() is None or self.seen is None:
            return
        self._next = now + ASK_EVERY_S
        for one in self.seen.look():
            run, sign = str(one.figures.get("run")), (one.worker, one.figures)
            if self._signs.get(run, (None, 0.0))[0] != sign:
                self._signs[run] = (sign, now)

    def silent_s(self, run: str) -> float | None:
        """Return how long a run that once gave signs of life has given none, None within its lease."""
        if run not in self._signs:
            return None
        silent = time.monotonic() - self._signs[run][1]
        return silent if silent > 1.5 * self._lease_s else None
