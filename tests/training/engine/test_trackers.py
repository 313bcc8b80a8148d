from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.config import Config
from training.engine.trackers import Trackers
from training.errors import UsageError


def config(*trackers: str) -> Config:
    return Config.model_validate({"train": {"trackers": trackers}})


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_every_record_is_a_line_at_once(tmp_path: Path) -> None:
    with Trackers(config(), tmp_path / "run") as trackers:
        trackers.log(1, {"loss/bic": 0.5, "weighted/bic": 0.25})
        (record,) = records(tmp_path / "run")
        trackers.log(2, {"val/auc": float("nan")})
    assert record.pop("time") > 1.7e9
    assert record == {"step": 1, "loss/bic": 0.5, "weighted/bic": 0.25}
    assert records(tmp_path / "run")[1]["val/auc"] is None


def test_records_after_the_resumed_step_and_torn_lines_are_dropped(tmp_path: Path) -> None:
    with Trackers(config(), tmp_path) as trackers:
        for step in range(5):
            trackers.log(step, {"loss/bic": 1.0 / (step + 1)})
    with (tmp_path / "log.jsonl").open("a") as stream:
        stream.write('[1]\n{"step": "x"}\n{"step": 2, "lo')
    with Trackers(config(), tmp_path, resumed_step=2) as trackers:
        trackers.log(3, {"loss/bic": 9.0})
    assert [(r["step"], r["loss/bic"]) for r in records(tmp_path)] == [(0, 1), (1, 0.5), (2, 1 / 3), (3, 9)]


def test_a_run_that_starts_anew_drops_the_records_of_a_failed_attempt(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 0}\n{"step": 7}\n')
    with Trackers(config(), tmp_path) as trackers:
        trackers.log(1, {})
    assert [record["step"] for record in records(tmp_path)] == [1]


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    with Trackers(config("tensorboard"), tmp_path / "run", is_main=False) as trackers:
        trackers.log(1, {"loss/bic": 0.5})
    assert not (tmp_path / "run").exists()


def test_tensorboard_shows_each_step_once_after_a_resume(tmp_path: Path) -> None:
    for resumed, steps, value in ((0, (1, 2, 3), 1.0), (2, (3, 4), 2.0)):
        with Trackers(config("tensorboard"), tmp_path, resumed_step=resumed) as trackers:
            for step in steps:
                trackers.log(step, {"lr/towers": value})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    points = [(event.step, event.value) for event in events.Scalars("lr/towers")]
    assert points == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_that_is_not_installed_is_a_usage_error(tmp_path: Path, name: str) -> None:
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed")
    with pytest.raises(UsageError, match=f"train.trackers names {name}, .* pip install {name}"):
        Trackers(config(name), tmp_path)


def test_mlflow_keeps_one_run_over_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    for resumed in (0, 2):
        with Trackers(config("mlflow"), tmp_path / "run", resumed_step=resumed) as trackers:
            trackers.log(resumed + 1, {"loss/bic": 0.5})
    run_id = json.loads((tmp_path / "run" / "mlflow.json").read_text())["id"]
    history = mlflow.MlflowClient().get_metric_history(run_id, "loss/bic")
    assert [metric.step for metric in history] == [1, 3]


def test_wandb_keeps_one_run_over_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    ids = set()
    for resumed in (0, 2):
        with Trackers(config("wandb"), tmp_path / "run", resumed_step=resumed) as trackers:
            trackers.log(resumed + 1, {"loss/bic": 0.5})
        ids.add(json.loads((tmp_path / "run" / "wandb.json").read_text())["id"])
    assert len(ids) == 1
    assert len(list((tmp_path / "run" / "wandb").glob("offline-run-*"))) == 2
