"""The flows inside this process, on a real Prefect server: what they write, record, retry and give up."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.filters import (
    ArtifactFilter,
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)

import flows.shards
from flows.captions import captions
from flows.explanations import explanations
from flows.refresh import refresh
from flows.settings import MAX_FAILED_SHARDS, SUBMITTED_AHEAD
from flows.shards import ShardsFailed
from flows.tables import TableHasTooManyFailures
from pipeline.config import load_config
from pipeline.costs.sums import read_bills
from pipeline.engines import Engine, EngineDead, Request, Result, close_engines, get_engine, load_count
from pipeline.errors import FingerprintMismatch, UsageError
from pipeline.run import generate_table
from schemas import open_table
from schemas.layout import CLAIMS_DIR
from tests.flows.building import make_dgm4, make_table
from tests.pipeline.killing import assert_whole, generated, rows_of, start


class Faulty:
    """The real engine, with something happening before each call."""

    def __init__(self, engine: Engine, before: Callable[[Sequence[Request]], None]) -> None:
        self.engine, self.before = engine, before

    def generate(self, requests: Sequence[Request]) -> Iterator[Result]:
        self.before(requests)
        yield from self.engine.generate(requests)


@pytest.fixture
def before_each_shard(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Callable[[Sequence[Request]], None]], None]:
    """Return a function that makes something happen before each shard, with retries that do not wait."""

    def install(before: Callable[[Sequence[Request]], None]) -> None:
        monkeypatch.setattr(flows.shards, "get_engine", lambda config: Faulty(get_engine(config), before))
        monkeypatch.setattr(
            flows.shards, "write_shard", flows.shards.write_shard.with_options(retry_delay_seconds=0)
        )

    return install


def shard_runs(api: Any, flow_run: Any, at_least: int = 0) -> dict[str, Any]:
    """Return the shard tasks of a flow run by name, once so many and their last states have arrived.

    Prefect sends them behind the flow's own state; without a number, a part of them would look complete.
    """
    only = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[flow_run.id]))
    for _ in range(100):
        runs = api.read_task_runs(task_run_filter=only)
        final = [run.state is not None and run.state.is_final() for run in runs]
        if len(final) >= at_least and all(final):
            break
        time.sleep(0.1)
    return {run.name: run for run in runs}


def artifacts(api: Any, flow_run: Any) -> dict[str, Any]:
    only = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))
    found = api.read_artifacts(artifact_filter=ArtifactFilter(), flow_run_filter=only)
    return {artifact.key: artifact for artifact in found}


def flow_run_of(api: Any, state: Any) -> Any:
    return api.read_flow_run(state.state_details.flow_run_id)


def rows_without_flow(folder: Path, name: str, **options: Any) -> Any:
    arguments = make_table(folder, **options)
    generate_table(name, load_config(arguments["config"]), Path(arguments["out"]))
    return rows_of(Path(arguments["out"]), name)


def test_a_flow_writes_the_rows_of_the_command_line_and_loads_the_model_once(api, tmp_path, table):
    expected = rows_without_flow(tmp_path / "plain", "captions")
    close_engines()
    before = load_count()
    state = captions(**table, return_state=True)
    assert load_count() - before == 1
    summary = state.result()
    assert (summary["planned"], summary["written"], summary["skipped_existing"]) == (24, 24, 0)
    assert_whole(Path(table["out"]), "captions", expected)

    run = flow_run_of(api, state)
    version = open_table(table["out"], "captions").version.name
    assert run.name == f"captions {version}"
    shards = shard_runs(api, run, at_least=5)
    assert sorted(shards) == [f"captions shard {n:05d}" for n in range(5)]
    assert all(shard.state.is_completed() for shard in shards.values())
    found = artifacts(api, run)
    assert float(found["captions-progress"].data) == 100
    assert "24 of 24 rows" in found["captions-progress"].description
    assert '"written": 24' in found["captions-table"].data and version in found["captions-table"].data
    (bill,) = read_bills(Path(table["out"]) / "captions" / version)
    assert summary["bill"] == bill and (bill["rows"], bill["outcome"], bill["loads"]) == (24, "done", 1)
    assert '"part": "generate"' in found["captions-bill"].data
    assert found["captions-bill"].description.startswith("bill: 0:00:")

    # The second run has nothing to do, and no task to run.
    again = captions(**table, return_state=True)
    assert again.result()["skipped_existing"] == 24
    assert shard_runs(api, flow_run_of(api, again)) == {}
    assert load_count() - before == 1


def test_a_dead_engine_is_loaded_anew_and_its_shard_tried_again(api, tmp_path, table, before_each_shard):
    expected = rows_without_flow(tmp_path / "plain", "explanations")
    deaths = []

    def die_once(_requests: Sequence[Request]) -> None:
        if len(deaths) < 1:
            deaths.append(1)
            raise EngineDead("the device stopped answering")

    close_engines()
    before = load_count()
    before_each_shard(die_once)
    state = explanations(**table, return_state=True)
    assert state.result()["written"] == 24
    assert load_count() - before == 2
    runs = shard_runs(api, flow_run_of(api, state), at_least=5)
    counts = {name: run.run_count for name, run in runs.items()}
    assert counts == {f"explanations shard {n:05d}": 2 if n == 0 else 1 for n in range(5)}
    assert_whole(Path(table["out"]), "explanations", expected)


def test_rows_of_a_failed_attempt_are_not_counted_twice(api, table, before_each_shard, monkeypatch):
    counts = []
    update = flows.shards.Progress.update

    def noted(self: Any, rows: int = 1, **more: Any) -> None:
        update(self, rows, **more)
        counts.append(self.done)

    attempts = []

    class BreaksMidway(Faulty):
        def generate(self, requests: Sequence[Request]) -> Iterator[Result]:
            attempts.append(len(requests))
            for number, result in enumerate(self.engine.generate(requests)):
                if len(attempts) == 2 and number == 3:
                    raise OSError("the disk went away for a moment")
                yield result

    before_each_shard(lambda _requests: None)
    monkeypatch.setattr(flows.shards, "get_engine", lambda config: BreaksMidway(get_engine(config), print))
    monkeypatch.setattr(flows.shards.Progress, "update", noted)
    assert explanations(**table)["written"] == 24
    assert len(attempts) == 6
    assert counts[-1] == 24 and max(counts) == 24


def test_shards_that_always_fail_leave_the_others_committed(api, table, before_each_shard):
    def refuse_two_shards(requests: Sequence[Request]) -> None:
        if requests[0].key in keys:
            raise ZeroDivisionError("a bug")

    plan_order = open_table(table["out"], "samples").to_polars()["sample_id"].to_list()
    keys = {plan_order[0], plan_order[10]}
    before_each_shard(refuse_two_shards)
    with pytest.raises(ShardsFailed, match=r"2 of 5 shards could not be written; shard 0 ended with ZeroDiv"):
        explanations.with_options(retries=0)(**table)
    assert len(keys) < MAX_FAILED_SHARDS
    assert len(rows_of(Path(table["out"]), "explanations")) == 14


def test_a_run_that_broke_is_tried_again_by_prefect(api, table, before_each_shard):
    calls = []

    def fail_at_first(_requests: Sequence[Request]) -> None:
        calls.append(1)
        if len(calls) <= 3 * MAX_FAILED_SHARDS:
            raise ZeroDivisionError("a bug that passes")

    before_each_shard(fail_at_first)
    state = explanations.with_options(retry_delay_seconds=0)(**table, return_state=True)
    assert state.is_completed() and flow_run_of(api, state).run_count == 2
    assert len(rows_of(Path(table["out"]), "explanations")) == 24


def test_a_run_stops_when_its_hours_are_over_and_the_next_one_goes_on(api, tmp_path):
    slow = make_table(tmp_path / "slow", samples=40, latency_s=0.2)
    state = explanations(**slow, hours=2 / 3600, return_state=True)
    assert state.is_cancelled() and "stopped after" in state.message
    some = len(rows_of(Path(slow["out"]), "explanations"))
    assert 0 < some < 40
    faster = ["models.chat.echo.latency_s=0"]
    assert explanations(**slow, overrides=faster)["skipped_existing"] == some


def test_wrong_usage_fails_at_once_with_its_message(api, table, tmp_path, before_each_shard):
    def no_device(_requests: Sequence[Request]) -> None:
        raise UsageError("device: cuda:9 is not there; this machine has 1")

    with pytest.raises(UsageError, match="pipeline ingest"):
        captions(config=table["config"], out=str(tmp_path / "nowhere"))
    before_each_shard(no_device)
    state = captions(**table, return_state=True)
    assert state.is_failed()
    assert state.message == "device: cuda:9 is not there; this machine has 1"
    run = flow_run_of(api, state)
    assert run.run_count == 1, "Prefect tried again what cannot change"
    runs = shard_runs(api, run, at_least=1)
    assert len(runs) <= SUBMITTED_AHEAD
    assert {run.run_count for run in runs.values()} == {1}


def test_other_settings_are_refused_and_a_new_version_is_made_when_asked_for(api, table):
    captions(**table)
    seed = ["models.captioner.generation.seed=7"]
    with pytest.raises(FingerprintMismatch, match="generation.seed"):
        captions(**table, overrides=seed)
    assert captions(**table, overrides=seed, new_version=True)["written"] == 24


def test_too_many_failures_fail_the_run_but_keep_the_summary(api, tmp_path):
    table = make_table(tmp_path / "t", failure_share=0.5)
    state = explanations(**table, return_state=True)
    assert state.is_failed() and "max_failed_share" in state.message
    error = state.result(raise_on_failure=False)
    assert isinstance(error, TableHasTooManyFailures)
    assert error.summary["written"] + error.summary["failed"] == 24


def test_a_signal_ends_the_run_between_two_rows_and_the_next_run_resumes(
    api, tmp_path, table, before_each_shard, monkeypatch
):
    expected = rows_without_flow(tmp_path / "plain", "explanations")
    seen = []

    def stop_in_the_third_shard(_requests: Sequence[Request]) -> None:
        seen.append(1)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            # The handler runs in the main thread; this one must not have finished the shard by then.
            time.sleep(0.5)

    before_each_shard(stop_in_the_third_shard)
    state = explanations(**table, return_state=True)
    assert state.is_cancelled()
    assert "SIGTERM" in state.message and "2 shards were written" in state.message
    runs = shard_runs(api, flow_run_of(api, state), at_least=3)
    assert len(runs) <= 2 + SUBMITTED_AHEAD
    assert sum(run.state.is_completed() for run in runs.values()) == 2
    assert len(rows_of(Path(table["out"]), "explanations")) == 10

    monkeypatch.undo()
    summary = explanations(**table)
    assert (summary["written"], summary["skipped_existing"]) == (14, 10)
    assert_whole(Path(table["out"]), "explanations", expected)


def test_a_flow_and_a_command_share_one_table_and_a_killed_one_holds_nothing_up(api, tmp_path):
    expected = rows_without_flow(tmp_path / "plain", "explanations")
    table = make_table(tmp_path / "shared", latency_s=0.1)
    out, notes = Path(table["out"]), tmp_path / "notes"
    notes.mkdir()
    arguments = ["explanations", "--config", table["config"], "--out", table["out"]]
    other, killed = start(arguments, notes=notes), start(arguments, notes=notes)
    while len(generated(notes)) < 4:
        time.sleep(0.02)
    killed.kill()
    killed.join()
    summary = explanations(**table)
    other.join(60)
    assert other.exitcode == 0
    assert_whole(out, "explanations", expected)
    # Only the shard in hand of the killed one was generated twice.
    assert 24 <= summary["written"] + len(generated(notes)) <= 24 + 5
    assert summary["written"] + summary["skipped_existing"] == 24
    assert not (open_table(out, "explanations").version / CLAIMS_DIR).exists()


def test_refresh_ingests_and_writes_both_tables(api, tmp_path):
    config = make_table(tmp_path / "unused", samples=2)["config"]
    data, out = make_dgm4(tmp_path / "DGM4"), tmp_path / "tables"
    state = refresh(config=config, out=str(out), data=str(data), return_state=True)
    summaries = state.result()
    assert summaries["ingest"]["rows_read"] == 36
    assert summaries["captions"]["written"] == 36
    assert summaries["explanations"]["written"] == 36
    kinds = open_table(out, "explanations").to_polars()["kind"].value_counts()
    assert dict(kinds.iter_rows()) == {"manipulation": 12, "description": 24}
    assert len(artifacts(api, flow_run_of(api, state))["refresh-table"].data) > 100


def test_refresh_follows_the_data_by_itself_and_generates_what_is_new(api, tmp_path):
    config = make_table(tmp_path / "unused", samples=2)["config"]
    data, out = make_dgm4(tmp_path / "DGM4", rows=12), tmp_path / "tables"
    metadata = data / "metadata" / "train.json"
    rows = json.loads(metadata.read_text())
    metadata.write_text(json.dumps(rows[:9]))
    assert refresh(config=config, out=str(out), data=str(data))["captions"]["planned"] == 33
    metadata.write_text(json.dumps(rows))
    state = refresh(config=config, out=str(out), data=str(data), return_state=True)
    for table in ("captions", "explanations"):
        summary = state.result()[table]
        assert (summary["planned"], summary["generated"], summary["carried"]) == (36, 3, 33)
        # The whole run's bill, shards that needed no model included.
        assert (summary["bill"]["carried"], summary["bill"]["rows"]) == (33, 3)
        assert_whole(out, table, rows_of(out, table))
    assert '"carried": 33' in artifacts(api, flow_run_of(api, state))["refresh-table"].data
    seed = ["models.captioner.generation.seed=7"]
    with pytest.raises(FingerprintMismatch, match="generation.seed"):
        refresh(config=config, out=str(out), data=str(data), overrides=seed)
    anew = refresh(config=config, out=str(out), data=str(data), overrides=seed, new_version=True)
    assert (anew["captions"]["generated"], anew["explanations"]["skipped_existing"]) == (36, 36)


def test_refresh_passes_on_what_ingest_refused(api, tmp_path):
    config = make_table(tmp_path / "unused", samples=2)["config"]
    with pytest.raises(UsageError, match="empty"):
        (tmp_path / "empty").mkdir()
        refresh(config=config, out=str(tmp_path / "out"), data=str(tmp_path / "empty"))
