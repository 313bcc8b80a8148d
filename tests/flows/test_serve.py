"""``python -m flows.serve``: server, pool, worker and deployments on this machine, used and taken down."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.serve import main
from schemas import open_table
from tests.flows.building import make_table
from tests.pipeline.killing import assert_whole, rows_of

DEADLINE_S = 300


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A serving process on a free port with a Prefect home of its own: the process, its URL, its lines."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path_factory.mktemp("prefect-home")
    environment = {**os.environ, "PREFECT_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    environment.pop("PREFECT_API_URL", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.serve", "--port", str(port)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")), daemon=True)
    reader.start()
    url = f"http://127.0.0.1:{port}/api"
    wait_until(lambda: any("deployment run 'refresh/refresh'" in line for line in lines), process, lines)
    yield process, url, lines
    if process.poll() is None:
        process.terminate()
        process.wait(60)


def wait_until(condition: Any, process: subprocess.Popen[str], lines: list[str]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert process.poll() is None, "".join(lines)
        assert time.monotonic() < deadline, "".join(lines)
        time.sleep(0.2)


def run_deployment(client: Any, name: str, parameters: dict[str, Any]) -> Any:
    deployment = client.read_deployment_by_name(name)
    return client.create_flow_run_from_deployment(deployment.id, parameters=parameters)


@pytest.mark.slow
def test_a_deployment_runs_through_the_worker_and_all_ends_with_a_signal(serving, tmp_path):
    process, url, lines = serving
    table = make_table(tmp_path, samples=12)
    family = psutil.Process(process.pid).children(recursive=True)
    with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
        pool = client.read_work_pool("local")
        assert (pool.type, pool.concurrency_limit) == ("process", 1)
        run = run_deployment(client, "captions/captions", table)

        def ended() -> bool:
            state = client.read_flow_run(run.id).state
            return state is not None and state.is_final()

        wait_until(ended, process, lines)
        run = client.read_flow_run(run.id)
        assert run.state.is_completed(), "".join(lines)
        assert run.name == f"captions {open_table(table['out'], 'captions').version.name}"
        assert {"generate", "captions"} <= set(run.tags)
    rows = rows_of(Path(table["out"]), "captions")
    assert len(rows) == 12
    assert_whole(Path(table["out"]), "captions", rows)

    # A run in hand is stopped too, between two rows.
    slow = make_table(tmp_path / "slow", samples=400, latency_s=0.2)
    with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
        run_deployment(client, "explanations/explanations", slow)
        wait_until(lambda: any("explanations shard 00000" in line for line in lines), process, lines)
    family += psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 0, "".join(lines)
    _, alive = psutil.wait_procs(family, timeout=5)
    assert not alive
    assert 0 < len(rows_of(Path(slow["out"]), "explanations")) < 400


def test_a_port_in_use_is_refused_with_the_remedy(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 2
    error = capsys.readouterr().err
    assert f"127.0.0.1:{port}" in error and "--port" in error
