from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.engine.running import assert_same_run, open_loop, run_config, write_split_world
from training.ablate import main, parser
from training.ablation.runner import Runner, only_one
from training.config import dump_config, load_config

ROOT = Path(__file__).resolve().parents[3]
AXIS = "optim.lr_new=0.001,0.002"


@pytest.fixture
def world(tmp_path: Path) -> Path:
    write_split_world(tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def config(towers: str, world: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    train = {"epochs": 5, "batch_size": 2, "eval_every": 1000, "save_every": 10}
    path.write_text(dump_config(run_config(towers, world, train=train, optim={"lr_new": 0.003})))
    return path


@pytest.fixture(autouse=True)
def quiet_again():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("training").setLevel(logging.NOTSET)


def words(config, world, to, *more):
    return ["--config", config, "--data", world, "--split", "val", "--to", to, *more]


def test_the_options_are_those_of_the_list():
    options = {option for action in parser()._actions for option in action.option_strings}
    assert options == {
        "-h", "--help", "--config", "--axis", "--seeds", "--data", "--to", "--split", "--set", "--jobs",
        "--bootstrap", "--launch", "--dry-run",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (["--axis", "module"], "no such axis"),
        (["--axis", "hnp", "--seeds", "0"], "--seeds 0: at least 1 is needed"),
        (["--axis", "hnp", "--jobs", "-1"], "--jobs -1: at least 1"),
        (["--axis", "hnp", "--set", "optim.lr_nw=1"], "did you mean 'lr_new'?"),
        (["--axis", "hnp", "--data", "nowhere"], "no samples here"),
        (["--axis", "hnp", "--split", "tset"], "no split 'tset'; the splits are train, val, test"),
        (["--axis", "hnp", "--config", "none.yaml"], "none.yaml does not exist"),
    ],
)
def test_bad_usage_is_one_clear_message(config, world, tmp_path, capsys, more, part):
    assert main([str(word) for word in words(config, world, tmp_path / "abl", *more)]) == 2
    error = capsys.readouterr().err
    assert part in error and "Traceback" not in error
    assert not (tmp_path / "abl").exists()


def test_a_dry_run_lists_the_runs(config, world, tmp_path, capsys):
    given = words(config, world, tmp_path / "abl", "--axis", AXIS, "--seeds", "2", "--dry-run")
    assert main([str(word) for word in given]) == 0
    names = [f"optim.lr_new={rate}-seed{seed}" for seed in (0, 1) for rate in (0.001, 0.002)]
    assert capsys.readouterr().out.splitlines() == [f"to do  {name}" for name in names]
    assert not (tmp_path / "abl").exists()


def test_without_data_the_tables_are_those_of_the_configuration(config, tmp_path, capsys):
    given = ["--config", config, "--axis", AXIS, "--seeds", "1", "--split", "val", "--to", tmp_path / "abl"]
    assert main([str(word) for word in [*given, "--dry-run"]]) == 0
    assert capsys.readouterr().out.count("to do") == 2
    assert main([str(word) for word in [*given, "--dry-run", "--set", "data.out=null"]]) == 2
    assert "add --data OUT" in capsys.readouterr().err


def test_when_all_runs_fail_the_code_is_1_as_documented(config, world, tmp_path, capsys, monkeypatch):
    def fail(self):
        self.failures = {run.name: "no room" for run in self._plan.runs}

    monkeypatch.setattr(Runner, "run", fail)
    given = words(config, world, tmp_path / "abl", "--axis", AXIS, "--seeds", "1")
    assert main([str(word) for word in given]) == 1
    assert not (tmp_path / "abl" / "ablation.json").exists()


def test_a_second_ablation_in_the_same_folder_is_refused(config, world, tmp_path, capsys):
    with only_one(tmp_path / "abl"):
        assert main([str(word) for word in words(config, world, tmp_path / "abl", "--axis", AXIS)]) == 2
    assert "another ablation is at work here" in capsys.readouterr().err


def launch(given, log):
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "training/ablate.py", *map(str, given)],
            cwd=ROOT,
            stdout=stream,
            stderr=stream,
            env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )


def until(reached, process):
    deadline = time.monotonic() + 300
    while not reached():
        assert process.poll() is None, "the ablation ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def signal_in(process, run, number, step=6):
    """Send a signal once the training of a run has recorded a step."""
    log = run / "log.jsonl"
    until(lambda: log.exists() and f'"step": {step},' in log.read_text(), process)
    process.send_signal(number)


@pytest.mark.slow
def test_an_ablation_that_is_stopped_and_killed_ends_like_a_whole_one(config, world, tmp_path):
    to, log = tmp_path / "abl", tmp_path / "log.txt"
    given = words(config, world, to, "--axis", AXIS, "--seeds", "1", "--bootstrap", "50")
    # As many threads as this process has: sums in another order would differ in the last bit.
    given += ["--launch", "--cpu --num_processes 1 --num_cpu_threads_per_process 1"]
    first, second = (to / "runs" / f"optim.lr_new={rate}-seed0" for rate in (0.001, 0.002))

    stopped = launch(given, log)
    signal_in(stopped, first, signal.SIGTERM)
    assert stopped.wait(120) == 3
    assert "stopped: 0 of 2 runs are done; the same command goes on" in log.read_text()
    assert "go on with --resume" in (first / "train.log").read_text()
    assert not (first / "metrics.json").exists() and not (to / "ablation.json").exists()

    killed = launch(given, log)
    signal_in(killed, second, signal.SIGKILL)
    assert killed.wait(60) == -signal.SIGKILL
    done = (first / "metrics.json").stat().st_mtime_ns

    # The trainer of the killed one lives on, and holds the lock until it is done.
    with (second / ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert (second / "metrics.json").exists(), "the lock came free with the end of the training"
        third = launch(given, log)
        until(lambda: f"{second.name}: still being trained, left behind" in log.read_text(), third)
    assert third.wait(300) == 0
    said = log.read_text()
    assert f"{first.name}: training goes on" in said and "1 of 2 runs are there already" in said
    assert (first / "metrics.json").stat().st_mtime_ns == done, "what is done is not done again"

    for rate, run in ((0.001, first), (0.002, second)):
        whole = tmp_path / f"whole-{rate}"
        open_loop(load_config(config, [f"optim.lr_new={rate}"]), whole).train()
        assert_same_run(run, whole)
    result = json.loads((to / "ablation.json").read_text())
    assert [found["variant"] for found in result["runs"]] == [first.name[:-6], second.name[:-6]]
    for found, run in zip(result["runs"], (first, second), strict=True):
        assert found["auc"] == json.loads((run / "val" / "metrics.json").read_text())["auc"]
    left = {path.name for path in to.iterdir()}
    assert left >= {"ablation.html", "ablation.md", "ablation-optim.lr_new.png"}


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_the_others_are_compared(config, world, tmp_path):
    to, log = tmp_path / "abl", tmp_path / "log.txt"
    axis = "optim.lr_new=0.001,1e+30"
    given = words(config, world, to, "--axis", axis, "--seeds", "1", "--jobs", "2", "--bootstrap", "0")
    assert launch([*given, "--set", "train.epochs=1"], log).wait(300) == 1
    said = log.read_text()
    assert "optim.lr_new=1e+30-seed0 failed: " in said and "became NaN or infinite" in said
    assert "became NaN or infinite" in (to / "ablation.html").read_text()
    result = json.loads((to / "ablation.json").read_text())
    assert len(result["runs"]) == 1 and list(result["failures"]) == ["optim.lr_new=1e+30-seed0"]
