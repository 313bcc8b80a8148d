"""Workers on a real Ray cluster of several nodes: who writes what, and what becomes of killed nodes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.client.schemas.filters import (
    LogFilter,
    LogFilterFlowRunId,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)

from flows.explanations import explanations
from pipeline.config import load_config
from pipeline.errors import UsageError
from pipeline.run import generate_table
from tests.flows.building import make_table
from tests.flows.ray_nodes import (
    TABLE,
    Kill,
    RayNodes,
    alive,
    claims,
    figures,
    free_port,
    kill_in_a_shard,
    ray_nodes,
    until,
)
from tests.pipeline.killing import assert_whole, rows_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
# On a busy machine the second worker comes late; the first one must not have done everything by then.
ROWS, ROW_S = 60, 0.4


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayNodes]:
    with ray_nodes(num_gpus=2) as cluster:
        cluster.add(2)
        yield cluster


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The rows that one process writes without Prefect and Ray."""
    arguments = make_table(tmp_path_factory.mktemp("alone") / "t", samples=ROWS)
    generate_table(TABLE, load_config(arguments["config"]), Path(arguments["out"]))
    return rows_of(Path(arguments["out"]), TABLE)


@pytest.fixture
def slow_table(tmp_path: Path) -> dict[str, str]:
    return make_table(tmp_path, samples=ROWS, latency_s=ROW_S)


def on_ray(table: dict[str, str], address: str, *overrides: str) -> Any:
    settings = ["runner=ray", f"ray.address={address}", *overrides]
    return explanations(**table, overrides=settings, return_state=True)


class Beside(threading.Thread):
    """Does something while the flow runs in the main thread."""

    def __init__(self, does: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._does = does
        self._result: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._does()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        self.join(60)
        assert not self.is_alive()
        if self._error is not None:
            raise self._error
        return self._result


def seen_at_work(out: str, count: int) -> dict[int, dict[str, Any]]:
    """Return the figures of so many workers that were at the table at the same time."""
    until(lambda: len(set(claims(out).values())) == count and len(figures(out)) >= count)
    return figures(out)


def logs_of(api: Any, run: Any, wanted: str) -> dict[str, list[str]]:
    """Return the log lines of a flow run by task run, once a line with the wanted text is there."""
    of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]))
    names = {
        task.id: task.name
        for task in api.read_task_runs(
            task_run_filter=TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[run]))
        )
    }
    lines: dict[str, list[str]] = {}
    for _ in range(100):
        lines = {}
        for line in api.read_logs(log_filter=of_run, limit=200):
            lines.setdefault(names.get(line.task_run_id, "flow"), []).append(line.message)
        if any(wanted in message for name, found in lines.items() if name != "flow" for message in found):
            break
        time.sleep(0.1)
    return lines


def test_workers_on_two_nodes_write_the_rows_of_one_process(api, nodes, slow_table, expected):
    out = slow_table["out"]

    def look() -> set[int]:
        return {nodes.raylet_of(pid) for pid in seen_at_work(out, 2)}

    looking = Beside(look)
    state = on_ray(slow_table, nodes.address)
    assert state.is_completed(), state.message
    assert len(looking.result()) == 2, "both workers sat on one node"
    assert_whole(Path(out), TABLE, expected)
    assert state.result()["written"] == ROWS
    assert not claims(out)
    lines = logs_of(api, state.state_details.flow_run_id, "model ready")
    for name in ("worker-1", "worker-2"):
        said = "\n".join(lines[f"{TABLE} {name}"])
        assert f"[{name}]" in said and "model ready" in said, said


@pytest.mark.cluster
def test_each_worker_has_a_gpu_of_its_own_and_those_without_a_place_wait(api, nodes, slow_table, expected):
    """Ray takes the word of a node that it has GPUs; nothing here computes on them."""
    out = slow_table["out"]
    seen = Beside(lambda: seen_at_work(out, 2))
    settings = ("ray.cpus_per_worker=0", "ray.gpus_per_worker=1", "workers=3")
    state = on_ray(slow_table, nodes.address, *settings)
    assert state.is_completed(), state.message
    assert sorted(one["device"] for one in seen.result().values()) == ["0", "1"]
    assert_whole(Path(out), TABLE, expected)


@pytest.mark.cluster
def test_auto_counts_the_gpus_and_too_few_are_an_error_that_says_so(api, nodes, slow_table):
    from flows.on_ray import places, ray_starter
    from pipeline.fleet.order import Order

    def places_of(*overrides: str) -> int:
        config = load_config(slow_table["config"], [f"ray.address={nodes.address}", *overrides])
        order = Order.of(TABLE, slow_table["config"], slow_table["out"], "run")
        with ray_starter(config, config.models["chat"], order) as (seats, _):
            return len(seats)

    assert places_of("ray.cpus_per_worker=0", "ray.gpus_per_worker=1") == 2
    assert places_of("ray.cpus_per_worker=0", "ray.gpus_per_worker=0.5") == 4
    with pytest.raises(UsageError, match=r"needs 1 cores and 3 GPUs of one Ray node.*ray\.gpus_per_worker"):
        places_of("ray.gpus_per_worker=3")
    # Two nodes with one GPU each have no place for a worker with two.
    with pytest.raises(UsageError, match="1 and 1; 1 and 1"):
        places([{"CPU": 1, "GPU": 1}] * 2, {"num_cpus": 1, "num_gpus": 2})


@pytest.mark.cluster
def test_the_shard_of_a_killed_node_is_taken_over_and_no_row_is_lost(api, nodes, slow_table, expected):
    out = slow_table["out"]
    killed: list[psutil.Process] = []

    def cut_the_power(worker: int) -> None:
        killed.extend(nodes.kill(nodes.raylet_of(worker)))

    killing = Beside(lambda: kill_in_a_shard(out, cut_the_power, row_s=ROW_S, rows=2))
    state = on_ray(slow_table, nodes.address)
    ended = time.monotonic()
    assert state.is_completed(), state.message
    kill: Kill = killing.result()
    assert_whole(Path(out), TABLE, expected)
    # On the same kernel at once, which is: when the other worker has done what it had claimed before.
    assert kill.taken_s < ended - kill.at < 120
    assert kill.worker in {process.pid for process in killed}
    assert not [process for process in killed if alive(process.pid)]
    assert not claims(out)
    nodes.add(1)


@pytest.mark.cluster
def test_the_worker_of_a_killed_ray_process_ends_and_is_replaced(api, nodes, slow_table, expected):
    out = slow_table["out"]

    def kill_its_task(worker: int) -> None:
        os.kill(psutil.Process(worker).ppid(), signal.SIGKILL)

    def kill() -> Kill:
        found = kill_in_a_shard(out, kill_its_task, row_s=ROW_S, rows=2)
        until(lambda: not alive(found.worker), 30)
        return found

    killing = Beside(kill)
    state = on_ray(slow_table, nodes.address)
    assert state.is_completed(), state.message
    killing.result()
    assert_whole(Path(out), TABLE, expected)
    lines = logs_of(api, state.state_details.flow_run_id, "model ready")
    assert any("the next worker takes its place" in line for line in lines["flow"]), lines["flow"]


@pytest.mark.cluster
def test_a_flow_runs_through_a_ray_client(api, nodes, slow_table, expected):
    state = on_ray(slow_table, nodes.client)
    assert state.is_completed(), state.message
    assert_whole(Path(slow_table["out"]), TABLE, expected)


def command(table: dict[str, str], *settings: str) -> list[str]:
    call = [sys.executable, "-m", f"flows.{TABLE}", "--config", table["config"], "--out", table["out"]]
    return [*call, *(word for setting in ("runner=ray", *settings) for word in ("--set", setting))]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what the cluster of the other tests needs: as a user calls it."""
    for name in list(os.environ):
        if name.startswith("RAY_"):
            monkeypatch.delenv(name)


def listening(processes: list[psutil.Process]) -> set[str]:
    found = set()
    for process in processes:
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                found.add(connection.laddr.ip.removeprefix("::ffff:"))
    return found


@pytest.mark.cluster
def test_sigterm_stops_a_run_on_a_cluster_of_its_own_and_leaves_nothing(plain, slow_table, expected):
    out = slow_table["out"]
    run = subprocess.Popen(
        command(slow_table, "workers=2"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        until(lambda: bool(claims(out)) or run.poll() is not None)
        below = psutil.Process(run.pid).children(recursive=True)
        assert any("raylet" in process.name() for process in below)
        assert listening(below) == {"127.0.0.1"}
        started = time.monotonic()
        run.terminate()
        printed, said = run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == 3, said
    assert time.monotonic() - started < 30
    assert "the same command resumes" in said
    assert not claims(out), "the workers have not given their claims back"
    _, left = psutil.wait_procs(below, timeout=10)
    assert not [process for process in left if alive(process.pid)]
    done = len(rows_of(Path(out), TABLE))
    assert done < ROWS
    # Prefect's lines and ours, no line of Ray.
    lines = [
        line
        for line in said.splitlines()
        if line and not re.match(r"\d\d:\d\d:\d\d\.\d{3} \| |error: ", line)
    ]
    assert lines == []

    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", TABLE, "--config", slow_table["config"], "--out", out, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert json.loads(ended.stdout)["written"] == ROWS - done, ended.stderr
    assert_whole(Path(out), TABLE, expected)


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "nonsense"])
def test_an_address_without_a_cluster_is_an_error_within_seconds(api, table, address):
    started = time.monotonic()
    state = on_ray(table, address.format(port=free_port()))
    assert state.is_failed()
    error = state.result(raise_on_failure=False)
    assert isinstance(error, UsageError) and error.exit_code == 2, error
    assert "ray start --head" in str(error) and "ray.address" in str(error)
    assert time.monotonic() - started < 20


@pytest.mark.cluster
def test_nodes_that_cannot_reach_the_prefect_api_are_refused(api):
    from flows.ray_cluster import check_api_reaches

    check_api_reaches(["127.0.0.1"])
    elsewhere = ".".join(["203", "0", "113", "9"])  # reserved for examples, so no machine has it
    with pytest.raises(UsageError, match=f"{elsewhere} are other machines.*PREFECT_API_URL"):
        check_api_reaches(["127.0.0.1", elsewhere])
