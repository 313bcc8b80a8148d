"""Each scenario kills one part in the middle of a run and sees the table to its end.

A scenario is a function in ``SCENARIOS``: it gets the running services, an empty folder and a size, and
returns an ``Outcome``.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.kills.composed import Stack
from pipeline.shards.roster import at_work
from schemas.layout import current_version
from schemas.tables import key_of
from tests.flows.building import make_table
from tests.pipeline.killing import assert_whole, rows_of

TABLE = "captions"
_TIMEOUT_S = 600.0


@dataclass(kw_only=True)
class Size:
    """How much a scenario has to do."""

    rows: int = 200
    """Rows of the table."""
    latency_s: float = 0.1
    """Seconds that a row takes."""


@dataclass(kw_only=True)
class Outcome:
    """What a kill did to a table."""

    killed: str
    """What was killed, and what was done then."""
    rows_planned: int
    rows_before: int
    """Rows committed when it was killed."""
    rows_lost: int
    """Planned rows that the finished table lacks, or that differ from an undisturbed run's."""
    rows_duplicated: int
    runs: int
    """Flow runs that it took, the disturbed one included."""
    seconds_to_recover: float
    """From the kill to the finished table."""
    seconds_without_rows: float
    """From the kill to the next committed rows."""


def server_killed(stack: Stack, folder: Path, size: Size) -> Outcome:
    """SIGKILL to the Prefect server in the middle of a run; it is started again at once, as compose does."""

    def kill() -> None:
        stack.kill("server")
        stack.start_server()

    return _killed("Prefect server, started again at once", kill, stack, folder, size)


def server_killed_and_left(stack: Stack, folder: Path, size: Size) -> Outcome:
    """SIGKILL to the Prefect server in the middle of a run; it stays away for half a minute."""

    def kill() -> None:
        stack.kill("server")
        time.sleep(30)
        stack.start_server()

    return _killed("Prefect server, started again after 30 s", kill, stack, folder, size)


def postgres_killed(stack: Stack, folder: Path, size: Size) -> Outcome:
    """SIGKILL to all processes of Postgres in the middle of a run; it is started again at once."""

    def kill() -> None:
        stack.database.kill()
        stack.database.start()

    return _killed("Postgres, started again at once", kill, stack, folder, size)


def worker_process_killed(stack: Stack, folder: Path, size: Size) -> Outcome:
    """SIGKILL to one of the two worker processes of a run; the run starts another one by itself."""

    def kill() -> None:
        os.kill(_worker_of(folder), signal.SIGKILL)

    return _killed("one of two worker processes of a run", kill, stack, folder, size, workers=2)


def flow_run_killed(stack: Stack, folder: Path, size: Size) -> Outcome:
    """SIGKILL to a flow run's process; it is started again when Prefect calls it crashed."""

    def kill() -> None:
        os.kill(_worker_of(folder), signal.SIGKILL)

    return _killed("the flow run, started again", kill, stack, folder, size)


def _worker_of(folder: Path) -> int:
    """Return the process id of a worker that is at the table."""
    version = current_version(folder / "disturbed" / "out", TABLE)
    deadline = time.monotonic() + 60
    while not (found := at_work(version)):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{version}: no worker gives a sign of life")
        time.sleep(0.05)
    return found[0].pid


SCENARIOS: dict[str, Callable[[Stack, Path, Size], Outcome]] = {
    "worker": worker_process_killed,
    "flow-run": flow_run_killed,
    "server": server_killed,
    "server-away": server_killed_and_left,
    "postgres": postgres_killed,
}


def _killed(
    name: str, kill: Callable[[], None], stack: Stack, folder: Path, size: Size, **parameters: Any
) -> Outcome:
    """Run the captions deployment, kill in its middle, and run it again until the table is whole."""
    table = make_table(folder / "disturbed", samples=size.rows)
    parameters["overrides"] = [f"models.captioner.echo.latency_s={size.latency_s}"]
    out = Path(table["out"])
    expected = undisturbed_rows(folder, size.rows)
    run = start_run(stack, table, **parameters)
    stack.wait_until(lambda: len(rows_of(out, TABLE)) >= size.rows // 4, "server", "worker")
    before = len(rows_of(out, TABLE))
    killed = time.monotonic()
    kill()
    runs, still = 1, None
    while not has_ended(stack, run, out, size.rows):
        time.sleep(0.2)
        if still is None and len(rows_of(out, TABLE)) > before:
            still = time.monotonic() - killed
        if time.monotonic() > killed + _TIMEOUT_S:
            raise RuntimeError(f"the table is not whole after {_TIMEOUT_S:.0f} s:\n{stack.said('worker')}")
        if len(rows_of(out, TABLE)) < size.rows and _is_over(stack, run):
            run, runs = start_run(stack, table, **parameters), runs + 1
    seconds = time.monotonic() - killed
    return outcome(
        name,
        out,
        expected,
        before=before,
        runs=runs,
        seconds=seconds,
        still=seconds if still is None else still,
    )


def outcome(
    name: str, out: Path, expected: Any, *, before: int, runs: int, seconds: float, still: float
) -> Outcome:
    """Compare a finished table with the rows of an undisturbed run.

    Raises:
        AssertionError: A file, a marker or a row is not what it should be.
    """
    found = rows_of(out, TABLE)
    keys = list(key_of(TABLE))
    result = Outcome(
        killed=name,
        rows_planned=len(expected),
        rows_before=before,
        rows_lost=len(expected)
        - len(found.join(expected, on=found.columns, how="semi", nulls_equal=True).unique(keys)),
        rows_duplicated=len(found) - found.select(keys).n_unique(),
        runs=runs,
        seconds_to_recover=round(seconds, 1),
        seconds_without_rows=round(still, 1),
    )
    if not result.rows_lost and not result.rows_duplicated:
        assert_whole(out, TABLE, expected)
    return result


def undisturbed_rows(folder: Path, rows: int) -> Any:
    """Return the rows that the same input gives when nothing is killed; the command writes them."""
    from pipeline.__main__ import main

    table = make_table(folder / "undisturbed", samples=rows)
    with contextlib.redirect_stdout(io.StringIO()):
        code = main(["captions", "--config", table["config"], "--out", table["out"]])
    if code != 0:
        raise RuntimeError(f"the undisturbed run ended with exit code {code}")
    return rows_of(Path(table["out"]), TABLE)


def start_run(stack: Stack, table: dict[str, str], **parameters: Any) -> Any:
    """Ask the server for a run of the captions deployment and return its id."""
    with stack.client() as client:
        deployment = client.read_deployment_by_name(f"{TABLE}/{TABLE}")
        return client.create_flow_run_from_deployment(deployment.id, parameters={**table, **parameters}).id


def has_ended(stack: Stack, run: Any, out: Path, rows: int) -> bool:
    """Return whether the table has all its rows and the server knows that the run is over."""
    return len(rows_of(out, TABLE)) == rows and _is_over(stack, run)


def _is_over(stack: Stack, run: Any) -> bool:
    with stack.client() as client:
        state = client.read_flow_run(run).state
    return state is not None and state.is_final()
