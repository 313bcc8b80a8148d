from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.config import Config
from training.engine.trackers import Trackers, check_trackers
from training.errors import Interrupted, UsageError


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


class FakeWandb(ModuleType):
    """Records what is called; ``failure`` is what a start ends with."""

    failure: Exception | None = None

    def __init__(self) -> None:
        super().__init__("wandb")
        self.calls: list[tuple[Any, ...]] = []

    def init(self, **options: Any) -> Any:
        if self.failure is not None:
            raise self.failure
        self.calls.append(("init", options["id"], options["resume"]))
        return SimpleNamespace(
            id="abc",
            define_metric=lambda name, **more: self.calls.append(("define", name, more)),
            log=lambda values, **more: self.calls.append(("log", values, more)),
            finish=lambda **more: self.calls.append(("finish", more)),
        )


class FakeMlflow(ModuleType):
    """Records what is called."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.ends: list[str] = []

    def set_experiment(self, name: str) -> None:
        if name != "asap":
            raise ValueError(name)

    def start_run(self, **_: Any) -> Any:
        return SimpleNamespace(info=SimpleNamespace(run_id="abc"))

    def log_text(self, *_: str) -> None: ...

    def end_run(self, status: str = "FINISHED") -> None:
        self.ends.append(status)


def test_wandb_takes_the_step_as_a_value_so_that_earlier_steps_can_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    for resumed in (0, 2):
        with Trackers(config("wandb"), tmp_path, resumed_step=resumed) as trackers:
            trackers.log(resumed + 1, {"loss/bic": 0.5})
    defined = [
        ("define", "optimizer_step", {}),
        ("define", "*", {"step_metric": "optimizer_step"}),
    ]
    assert wandb.calls == [
        ("init", None, None),
        *defined,
        ("log", {"optimizer_step": 1, "loss/bic": 0.5}, {}),
        ("finish", {"exit_code": 0}),
        ("init", "abc", "allow"),
        *defined,
        ("log", {"optimizer_step": 3, "loss/bic": 0.5}, {}),
        ("finish", {"exit_code": 0}),
    ]


def test_a_tracker_that_does_not_start_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = FakeWandb()
    wandb.failure = RuntimeError("no API key")
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    check_trackers(config("wandb"))
    with pytest.raises(UsageError, match="wandb, which does not start: no API key; run wandb login"):
        Trackers(config("wandb"), tmp_path)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (None, "FINISHED", 0),
        (Interrupted("stopped"), "KILLED", 3),
        (KeyboardInterrupt(), "KILLED", 3),
        (ValueError("broken"), "FAILED", 1),
    ],
)
def test_trackers_are_told_how_a_run_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException | None, status: str, code: int
) -> None:
    mlflow, wandb = FakeMlflow(), FakeWandb()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    with (
        contextlib.nullcontext() if error is None else pytest.raises(type(error)),
        Trackers(config("mlflow", "wandb"), tmp_path),
    ):
        if error is not None:
            raise error
    assert mlflow.ends == [status]
    assert wandb.calls[-1] == ("finish", {"exit_code": code})


def test_what_is_not_installed_is_found_without_starting_it() -> None:
    check_trackers(config("tensorboard"))
    if importlib.util.find_spec("mlflow"):
        pytest.skip("mlflow is installed")
    with pytest.raises(UsageError, match="pip install mlflow"):
        check_trackers(config("tensorboard", "mlflow"))


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
