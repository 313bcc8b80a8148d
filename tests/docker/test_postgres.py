"""The composed services on a real Postgres: runs, kills, secrets, backup and restore."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

from benchmarks.kills.composed import Stack, running
from benchmarks.kills.postgres import Postgres
from benchmarks.kills.scenarios import Size, postgres_killed, server_killed, start_run
from tests.flows.building import make_table
from tests.pipeline.killing import assert_whole, rows_of

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("composed") / "stack") as stack:
        yield stack


def run_to_the_end(stack: Stack, table: dict[str, str]) -> Any:
    run = start_run(stack, table)

    def over() -> bool:
        with stack.client() as client:
            return client.read_flow_run(run).state.is_final()

    stack.wait_until(over, "server", "worker")
    with stack.client() as client:
        return client.read_flow_run(run)


def test_a_deployment_runs_on_postgres_and_leaves_no_secret_anywhere(stack: Stack, tmp_path: Path) -> None:
    table = make_table(tmp_path, samples=12)
    run = run_to_the_end(stack, table)
    assert run.state.is_completed(), stack.said("worker")
    rows = rows_of(Path(table["out"]), "captions")
    assert len(rows) == 12
    assert_whole(Path(table["out"]), "captions", rows)
    # It is Postgres that holds the run.
    assert stack.database.query(f"select state_type from flow_run where id = '{run.id}'") == ["COMPLETED"]

    secrets = [stack.password, stack.auth_string, stack.auth_string.partition(":")[2]]
    with stack.client() as client:
        logs = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])))
        stored = [entry.message for entry in logs]
        artifacts = client.read_artifacts()
        stored += [json.dumps(artifact.model_dump(mode="json")) for artifact in artifacts]
    assert any("captions" in message for message in stored) and artifacts
    stored.append(json.dumps(run.model_dump(mode="json")))
    # Everything that the server keeps, whatever its kind.
    tables = stack.database.query("select tablename from pg_tables where schemaname = 'public'")
    assert "flow_run" in tables
    stored += [line for name in tables for line in stack.database.query(f'select t::text from "{name}" t')]
    for message in stored:
        assert not any(secret in message for secret in secrets), message[:300]
    kept = [path for path in stack.folder.rglob("*") if path.is_file() and path.parent.name != "secrets"]
    kept += [path for path in tmp_path.rglob("*") if path.is_file()] + [stack.database.log]
    assert {"server.log", "worker.log", "deploy.log"} <= {path.name for path in kept}
    for path in kept:
        content = path.read_bytes()
        assert not any(secret.encode() in content for secret in secrets), path


def test_no_one_is_let_in_without_the_auth_string(stack: Stack, tmp_path: Path) -> None:
    assert httpx.get(f"{stack.url}/health").status_code == 200
    assert httpx.post(f"{stack.url}/flow_runs/filter", json={}).status_code == 401
    table = make_table(tmp_path, samples=6)
    command = [sys.executable, "-m", "flows.captions", "--config", table["config"], "--out", table["out"]]
    environment = {**os.environ, "PREFECT_API_URL": stack.url}
    for given, words in (({}, "missing"), ({"PREFECT_API_AUTH_STRING": "admin:wrong"}, "not the one")):
        result = subprocess.run(command, env=environment | given, capture_output=True, text=True, check=False)
        assert result.returncode == 2, result.stderr
        assert "PREFECT_API_AUTH_STRING" in result.stderr and words in result.stderr
    assert len(rows_of(Path(table["out"]), "captions")) == 0
    given = {"PREFECT_API_AUTH_STRING": stack.auth_string}
    result = subprocess.run(command, env=environment | given, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert len(rows_of(Path(table["out"]), "captions")) == 6
    assert stack.auth_string not in result.stdout + result.stderr


@pytest.mark.cluster
def test_a_kubernetes_pool_takes_our_template_and_the_deployments(stack: Stack) -> None:
    kubernetes = {"WORK_POOL": "kubernetes", "WORK_POOL_TYPE": "kubernetes"}
    stack.start("deploy", variables=kubernetes)
    stack.finish("deploy")
    # Again: the pool is there by now and gets the template of today.
    stack.start("deploy", variables=kubernetes | {"DEPLOYMENTS": "captions"})
    stack.finish("deploy")
    with stack.client() as client:
        pool = client.read_work_pool("kubernetes")
        container = pool.base_job_template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
        assert (
            pool.type == "kubernetes" and container["terminationGracePeriodSeconds"] == "{{ grace_seconds }}"
        )
        assert client.read_deployment_by_name("captions/captions").work_pool_name == "kubernetes"
        assert client.read_deployment_by_name("refresh/refresh").work_pool_name == "kubernetes"
    # And back.
    stack.deploy()


@pytest.mark.cluster
def test_a_backup_holds_the_runs_and_comes_back(stack: Stack, tmp_path: Path) -> None:
    run = run_to_the_end(stack, make_table(tmp_path, samples=6))
    dump = tmp_path / "prefect.dump"
    stack.database.dump(dump)
    with stack.client() as client:
        client.delete_flow_run(run.id)
    stack.kill("server")
    stack.database.restore(dump)
    stack.start("server", ["prefect", "server", "database", "upgrade", "--yes"])
    stack.finish("server")
    stack.start_server()
    with stack.client() as client:
        assert client.read_flow_run(run.id).state.is_completed()


@pytest.mark.cluster
def test_no_row_is_lost_when_the_server_is_killed_in_the_middle_of_a_run(
    stack: Stack, tmp_path: Path
) -> None:
    outcome = server_killed(stack, tmp_path, Size(rows=60))
    assert outcome.rows_before < outcome.rows_planned == 60
    assert (outcome.rows_lost, outcome.rows_duplicated) == (0, 0)
    assert outcome.seconds_to_recover < 300


@pytest.mark.cluster
def test_no_row_is_lost_when_postgres_is_killed_in_the_middle_of_a_run(stack: Stack, tmp_path: Path) -> None:
    outcome = postgres_killed(stack, tmp_path, Size(rows=60))
    assert outcome.rows_before < outcome.rows_planned == 60
    assert (outcome.rows_lost, outcome.rows_duplicated) == (0, 0)
    assert outcome.seconds_to_recover < 300


def test_postgres_wants_its_password(stack: Stack) -> None:
    stranger = object.__new__(Postgres)
    stranger.__dict__ |= stack.database.__dict__ | {"_password": "guessed"}
    with pytest.raises(RuntimeError, match="password authentication failed"):
        stranger.query("select 1")
