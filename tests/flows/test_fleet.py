"""A flow run with several workers: tasks, logs, artifacts; killed workers; signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.task_engine import run_task_sync

from flows.explanations import explanations
from flows.fleet import work_in_seat
from pipeline.fleet import supervise
from pipeline.fleet.order import Order, WorkerEnd
from pipeline.shards.roster import at_work
from schemas import layout
from tests.flows.building import make_table
from tests.flows.test_flows import artifacts, flow_run_of, rows_without_flow, shard_runs
from tests.pipeline.killing import assert_whole, rows_of

ROOT = Path(__file__).resolve().parents[2]


def workers_at(out: str, count: int = 2) -> list[int]:
    """Return the ids of the worker processes once so many have a shard in hand."""
    for _ in range(600):
        try:
            version = layout.current_version(Path(out), "explanations")
            found = [one.pid for one in at_work(version) if one.figures.get("shard") is not None]
        except layout.TableError:
            found = []
        if len(found) >= count:
            return found
        time.sleep(0.05)
    raise AssertionError("no workers at work")


def test_each_worker_is_a_task_with_its_log_and_a_row_to_look_at(api, tmp_path):
    expected = rows_without_flow(tmp_path / "plain", "explanations", samples=60)
    table = make_table(tmp_path / "fleet", samples=60, latency_s=0.05)
    state = explanations(**table, workers=2, return_state=True)
    summary = state.result()
    assert (summary["planned"], summary["written"]) == (60, 60)
    assert_whole(Path(table["out"]), "explanations", expected)
    run = flow_run_of(api, state)
    tasks = shard_runs(api, run, at_least=2)
    assert sorted(tasks) == ["explanations worker-1", "explanations worker-2"]
    assert all(one.state.is_completed() for one in tasks.values())
    found = artifacts(api, run)
    rows = json.loads(found["explanations-workers"].data)
    assert {row["worker"] for row in rows} == {"worker-1", "worker-2"}
    assert sum(row["rows"] for row in rows) == 60 and all(row["rows_per_second"] > 0 for row in rows)
    assert sum(row["shards"] for row in rows) == 12 and {row["state"] for row in rows} == {"ended"}
    assert float(found["explanations-progress"].data) == 100
    bill = found["explanations-bill"]
    assert '"part": "generate"' in bill.data and " on 2 devices " in bill.description

    def said() -> list[Any]:
        return api.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])), limit=200)

    wait_until(lambda: any("[worker-2] model ready" in log.message for log in said()))
    of_task = {log.task_run_id for log in said() if log.message.startswith("[worker-2]")}
    assert of_task == {tasks["explanations worker-2"].id}


def wait_until(condition: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


def test_a_killed_worker_gets_a_successor_and_the_run_completes(api, tmp_path, monkeypatch):
    monkeypatch.setattr(supervise, "RESTART_S", (0.2,))
    expected = rows_without_flow(tmp_path / "plain", "explanations", samples=80)
    table = make_table(tmp_path / "fleet", samples=80, latency_s=0.1)
    victims: list[int] = []

    def kill_one() -> None:
        victims.append(workers_at(table["out"])[0])
        os.kill(victims[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    state = explanations(**table, workers=2, return_state=True)
    killer.join()
    assert victims and state.is_completed(), state.message
    assert state.result()["written"] == 80
    assert_whole(Path(table["out"]), "explanations", expected)
    run = flow_run_of(api, state)

    def ends() -> list[Any]:
        return [one.state for one in api.read_task_runs() if one.flow_run_id == run.id and one.state]

    wait_until(lambda: len(ends()) == 3 and all(end.is_final() for end in ends()))
    assert sorted(end.type.value for end in ends()) == ["COMPLETED", "COMPLETED", "FAILED"]
    assert any("signal 9" in (end.message or "") for end in ends())


@pytest.mark.slow
def test_sigterm_to_the_command_stops_the_workers_and_the_same_command_resumes(tmp_path):
    table = make_table(tmp_path / "fleet", samples=80, latency_s=0.2)
    arguments = ["--config", table["config"], "--out", table["out"], "--workers", "2"]
    command = [sys.executable, "-m", "flows.explanations", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    workers = [psutil.Process(pid) for pid in workers_at(table["out"])]
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert time.monotonic() - asked < 30
    assert not psutil.wait_procs(workers, timeout=5)[1]
    some = len(rows_of(Path(table["out"]), "explanations"))
    assert 0 < some < 80 or "shards were" in err
    fast = ["--set", "models.chat.echo.latency_s=0", "--json"]
    done = subprocess.run([*command, *fast], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["written"] == 80 - some


def test_bad_input_found_by_a_worker_fails_its_task_with_the_end_as_data(api, tmp_path):
    order = Order.of("explanations", tmp_path / "none.yaml", tmp_path, "run-1")
    state: Any = run_task_sync(
        work_in_seat,
        parameters={"table": "explanations", "name": "worker-1", "devices": None, "order": order.as_dict()},
        return_type="state",
    )
    assert state.is_failed()
    end = WorkerEnd.from_dict(state.data if isinstance(state.data, dict) else state.result(False))
    assert end.hopeless and "none.yaml" in end.message
