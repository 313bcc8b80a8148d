"""Flow runs of a deployment that share a table, on real Prefect workers: killed runs, killed machines."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.flows import load_flow_from_entrypoint

from flows import remote_runs
from flows.fan_out import fan_out
from flows.remote_runs import Watch
from pipeline.errors import UsageError
from pipeline.fleet import supervise
from pipeline.shards.claims import Claims
from pipeline.shards.roster import Figures, at_work
from schemas import layout
from schemas.layout import CLAIMS_DIR
from tests.flows.building import make_table
from tests.flows.test_flows import artifacts, flow_run_of, rows_without_flow
from tests.flows.workers import PrefectWorker, make_pools, prefect, prefect_worker, wait_until
from tests.pipeline.killing import assert_whole

ROWS = 240
CLUSTER = Path(__file__).resolve().parents[2] / "deployments" / "cluster.yaml"


def test_the_clusters_deployments_name_real_flows_with_valid_parameters(root):
    entries = yaml.safe_load(CLUSTER.read_text())["deployments"]
    names = [f"{entry['entrypoint'].rpartition(':')[2]}/{entry['name']}" for entry in entries]
    assert names == [
        *("captions/gpus", "explanations/gpus", "fan_out/captions", "fan_out/explanations"),
        "refresh/cluster",
    ]
    for entry in entries:
        load_flow_from_entrypoint(str(root / entry["entrypoint"])).validate_parameters(entry["parameters"])
        assert entry["tags"] and entry["description"] and entry["work_pool"]["name"] in ("gpus", "control")
        assert not any(schedule["active"] for schedule in entry.get("schedules", []))


def test_a_run_is_taken_for_dead_when_its_signs_of_life_stop_changing(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(remote_runs.time, "monotonic", lambda: clock[0])
    table = make_table(tmp_path, samples=10)
    from pipeline.config import load_config
    from pipeline.run import prepare

    plan = prepare("captions", load_config(table["config"]), Path(table["out"])).plan
    watch = Watch("captions", Path(table["out"]), lease_s=60)
    figures = Figures("run-a", "worker-1")
    with Claims(plan.version / CLAIMS_DIR, figures=figures.as_dict) as claims:
        claims.take("shard-00000")
        watch.look()
        assert watch.silent_s("run-a") is None and watch.silent_s("never seen") is None
        clock[0] += 80
        figures.add(5, 0, 0)
        claims.beat()
        watch.look()
        clock[0] += 80
        watch.look()
        assert watch.silent_s("run-a") is None, "a lease and a half have not passed"
        clock[0] += 20
        watch.look()
        assert watch.silent_s("run-a") == 100
    assert watch.left() == 2


def test_an_unknown_deployment_is_bad_usage(api, table):
    with pytest.raises(UsageError, match=r"no deployment 'captions/nowhere'.*cluster.yaml"):
        fan_out("captions", **table, runs=1, deployment="nowhere")
    with pytest.raises(UsageError, match="runs is 0"):
        fan_out("captions", **table, runs=0)


@pytest.mark.cluster
@pytest.mark.slow
def test_a_killed_run_and_a_machine_that_goes_away_cost_no_row(api, api_url, tmp_path, monkeypatch):
    monkeypatch.setattr(supervise, "RESTART_S", (0.2,))
    monkeypatch.setattr(remote_runs, "ASK_EVERY_S", 0.5)
    expected = rows_without_flow(tmp_path / "plain", "explanations", samples=ROWS)
    table = make_table(tmp_path / "shared", samples=ROWS, latency_s=0.2)
    config = Path(table["config"])
    config.write_text(config.read_text().replace("shard_size: 5}", "shard_size: 5, lease_s: 4}"))
    make_pools(api, "gpus", "control")
    variables = {"DGM4_CONFIG": table["config"], "DGM4_OUT": table["out"], "DGM4_DATA": str(tmp_path)}
    prefect(api_url, "deploy", "--all", "--prefect-file", str(CLUSTER), **variables)
    deployed = api.read_deployment_by_name("explanations/gpus")
    assert deployed.parameters == {"config": table["config"], "out": table["out"]}
    version = Path(table["out"]) / "explanations"

    def at_shards() -> list[Any]:
        if not (version / layout.CURRENT).exists():
            return []
        found = at_work(layout.current_version(Path(table["out"]), "explanations"))
        return [one for one in found if one.figures.get("shard") is not None]

    with ExitStack() as stack:
        first = stack.enter_context(prefect_worker(api_url, "gpus", tmp_path, limit=1))
        second = stack.enter_context(prefect_worker(api_url, "gpus", tmp_path, limit=1))
        killed: list[str] = []

        def at_work_on(worker: PrefectWorker) -> list[int]:
            return [one.pid for one in worker.family() if one.pid in {each.pid for each in at_shards()}]

        def kill() -> None:
            wait_until(lambda: at_work_on(first) and at_work_on(second), "a run at work on each worker")
            (run,) = at_work_on(second)
            os.kill(run, signal.SIGKILL)
            killed.append("run")
            wait_until(lambda: set(at_work_on(second)) - {run}, "the killed run's successor at work")
            first.kill()
            killed.append("machine")
            stack.enter_context(prefect_worker(api_url, "gpus", tmp_path, limit=1))

        killer = threading.Thread(target=kill)
        killer.start()
        state = fan_out("explanations", **table, runs=2, return_state=True)
        killer.join()
    assert state.is_completed(), state.message
    assert killed == ["run", "machine"]
    summary = state.result()
    assert (summary["rows"], summary["planned"]) == (ROWS, ROWS) and summary["died"] >= 2
    assert_whole(Path(table["out"]), "explanations", expected)
    run = flow_run_of(api, state)
    assert '"worker"' in artifacts(api, run)["explanations-workers"].data
    names = FlowRunFilter(name=FlowRunFilterName(like_="explanations"))
    ends = [
        one.state.type.value
        for one in api.read_flow_runs(flow_run_filter=names)
        if one.deployment_id == deployed.id
    ]
    assert ends.count("CRASHED") >= 2 and "COMPLETED" in ends
