from __future__ import annotations

import importlib.util
import json
import logging
import math
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from tests.training.engine.running import run_config, write_split_world
from training.config import dump_config, load_config
from training.data.plan import plan_rows
from training.engine.checkpoint import checkpoints
from training.engine.launch import LOCK
from training.engine.lock import only_one
from training.engine.loop import Loop
from training.engine.objective import weights
from training.errors import DataError
from training.failures import share
from training.train import main, parser

ROOT = Path(__file__).resolve().parents[2]
DGM = {"mac": 0.1, "bic": 1.0, "mlc": 1.0, "box_l1": 0.1, "box_giou": 0.1, "tmg": 1.0}
FULL = DGM | {"cap": 1.0, "exp": 1.0, "mgca": 0.1, "pmm": 0.01}
RELEASED = DGM | {"cap": 0.0333, "exp": 0.0333, "ied": 0.1, "mgca": 0.1, "pmm": 0.01}
WEIGHTS = {
    "ablation-demo": FULL,
    "asap-released": RELEASED,
    "demo": FULL,
    "dgm4": FULL,
    "dgm4-baseline": DGM,
    "dgm4-single-gpu": FULL,
    "hammer": DGM,
}

Command = Callable[..., int]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("world") / "out"
    write_split_world(out)
    return out


@pytest.fixture
def config(towers: str, world: Path, tmp_path: Path) -> Path:
    """A configuration file without ``data.out``."""
    path = tmp_path / "run.yaml"
    tiny = run_config(towers, world, train={"max_steps": 2, "eval_every": 100})
    text = dump_config(tiny.model_copy(update={"data": tiny.data.model_copy(update={"out": None})}))
    path.write_text(text)
    return path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """The command, in this process; logging and accelerate are put back afterwards."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    AcceleratorState._reset_state(reset_partial_state=True)
    yield lambda *words: main([str(word) for word in words])
    AcceleratorState._reset_state(reset_partial_state=True)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("training").setLevel(logging.NOTSET)


def test_the_options_are_those_of_the_list() -> None:
    options = {option for action in parser()._actions for option in action.option_strings}
    assert options == {
        "-h", "--help", "--config", "--data", "--to", "--resume", "--set", "--dry-run",
    }, "a new or lost option is a change for users"  # fmt: skip


def test_every_preset_is_checked() -> None:
    assert {path.stem for path in (ROOT / "configs" / "training").glob("*.yaml")} == set(WEIGHTS)


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_preset_has_the_weights_it_says(name: str) -> None:
    found = load_config(ROOT / "configs" / "training" / f"{name}.yaml")
    assert found.name == name
    assert weights(found) == WEIGHTS[name]


def test_the_released_objective_differs_where_it_says() -> None:
    loss = load_config(ROOT / "configs" / "training" / "asap-released.yaml").loss
    assert (loss.mgca.mode, loss.pmm.mode, loss.lma.explanation_anchor) == (
        "supervise",
        "border_bce",
        "image",
    )
    assert loss.dgm.box_on_negatives and loss.lma.queue


def test_a_run_leaves_its_results_and_says_what_it_does(
    command: Command, config: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    assert command("--config", config, "--data", world, "--to", run_dir) == 0
    error = capsys.readouterr().err
    left = {path.name for path in run_dir.iterdir()}
    shown = {"checkpoints", "config.yaml", "curves.png", "log.jsonl", "metrics.json", "rows"}
    assert left == {*shown, LOCK}
    assert load_config(run_dir / "config.yaml").data.out == world
    assert "training rows: train: 21 rows; 21 with and 0 without caption" in error
    assert "step 2/2: loss" in error and "validation at step 2: auc" in error
    assert "open_clip" not in error and "model identifier" not in error, "only the trainer informs"


def test_a_dry_run_tells_what_a_run_would_be(
    command: Command, config: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    assert command("--config", config, "--data", world, "--to", run_dir, "--dry-run") == 0
    out = capsys.readouterr().out
    for part in ("name: tiny", "queue_size: 16", f"out: {world}", "parameters: ", "towers ", "trained"):
        assert part in out, part
    assert "rows: 21; 3 optimizer steps per epoch, 2 in all" in out
    assert "micro-batch: at most 8 rows" in out and "memory per process: " in out
    assert not run_dir.exists()


def test_a_dry_run_leaves_what_a_stopped_run_needs(
    command: Command, config: Path, world: Path, tmp_path: Path
) -> None:
    name = plan_rows(world, ["train"], skip_flags=["empty"]).name
    older = tmp_path / "run" / "rows" / name.replace(name[-22:-6], "0" * 16)
    older.parent.mkdir(parents=True)
    older.write_bytes(b"joined before more shards came")
    assert command("--config", config, "--data", world, "--to", tmp_path / "run", "--dry-run") == 0
    assert list(older.parent.iterdir()) == [older]


def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_built(
    command: Command, config: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if importlib.util.find_spec("mlflow"):
        pytest.skip("mlflow is installed")
    words = ["--config", config, "--data", world, "--to", tmp_path / "run", "--set"]
    words += ["train.trackers=[mlflow]", "model.towers=local-dir:/nowhere"]
    for more in ([], ["--dry-run"]):
        assert command(*words, *more) == 2
        assert "pip install mlflow" in capsys.readouterr().err


def test_a_second_training_in_the_same_folder_is_refused(
    command: Command, config: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", config, "--data", world, "--to", tmp_path / "run"]
    with only_one(tmp_path / "run", LOCK, "busy"):
        assert command(*words) == 2
    assert "run: another training is at work here; wait for it" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK]
    assert command(*words) == 0, "the end of the first one gives the folder free"


def test_a_figure_that_is_not_a_number_is_null_in_the_results(
    command: Command, config: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Loop, "train", lambda self: {"auc": math.nan, "acc": 0.5})
    monkeypatch.setattr("training.engine.launch.draw_curves", lambda *_: None)
    assert command("--config", config, "--data", world, "--to", tmp_path / "run") == 0
    assert "NaN" not in (text := (tmp_path / "run" / "metrics.json").read_text())
    assert json.loads(text) == {"auc": None, "acc": 0.5}


@pytest.mark.parametrize(
    ("rank", "shared", "said"),
    [
        ("0", True, "no such file\n"),
        ("0", False, "no such file\n"),
        ("3", True, ""),
        ("3", False, "rank 3: no such file\n"),
    ],
)
def test_an_error_is_told_by_the_process_that_knows_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: str, shared: bool, said: str
) -> None:
    def fail(_: object) -> int:
        error = DataError("no such file")
        raise share(error) if shared else error

    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr("training.train.run", fail)
    assert main(["--config", "any.yaml"]) == 2
    assert capsys.readouterr().err == said


def test_a_wrong_key_is_told_once_by_all_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], config: Path
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert main(["--config", str(config), "--set", "optim.lr_nw=1"]) == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("visible", "started"),
    [
        ("0", "training/train.py --config c"),
        ("2,5", "launch --config_file configs/accelerate/ddp.yaml --num_processes 2 training/train.py"),
    ],
)
def test_the_script_starts_a_process_per_visible_gpu(tmp_path: Path, visible: str, started: str) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "train.sh", tmp_path / "scripts")
    # Eight cards are in the machine; the environment shows some of them to torch.
    count = (
        'case "$*" in *device_count*) tr , "\\n" <<<"$CUDA_VISIBLE_DEVICES" | wc -l ;; *) echo "$@" ;; esac'
    )
    listing = "for n in 0 1 2 3 4 5 6 7; do echo GPU $n: a card; done"
    for place, body in (
        (".venv/bin/python", count),
        (".venv/bin/accelerate", 'echo "$@"'),
        ("bin/nvidia-smi", listing),
    ):
        file = tmp_path / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/usr/bin/env bash\n{body}\n")
        file.chmod(0o755)
    done = subprocess.run(
        ["bash", "scripts/train.sh", "--config", "c"],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": visible},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(started)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--set", "optim.lr_nw=1"], ["optim.lr_nw", "did you mean 'lr_new'?"]),
        (["--set", "train.batch_size=0"], ["train.batch_size", "(got 0)"]),
        ([], ["give --data OUT", "data.out"]),
        (["--data", "nowhere"], ["nowhere: no samples here", "pipeline ingest"]),
        (["--data", "WORLD", "--resume", "true"], ["has no checkpoint to resume from"]),
        (["--data", "WORLD", "--set", "train.best_metric=f1"], ["no metric 'f1'"]),
        (["--data", "WORLD", "--set", "data.val_split=test"], ["no rows in test", "train (21 rows)"]),
    ],
)
def test_bad_usage_is_one_clear_message(
    command: Command,
    config: Path,
    world: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    parts: list[str],
) -> None:
    given = [str(world) if word == "WORLD" else word for word in words]
    assert command("--config", config, "--to", tmp_path / "run", *given) == 2
    error = capsys.readouterr().err
    assert [part for part in parts if part not in error] == [], error
    assert "Traceback" not in error
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_rate_beyond_reason_ends_with_code_1_and_names_the_terms(
    command: Command, config: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    words = ["--config", config, "--data", world, "--to", run_dir, "--set", "train.save_every=1"]
    assert command(*words, "train.max_steps=4", "optim.lr_new=1e30") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "became NaN or infinite before optimizer step 1; the weights were not changed" in error
    assert "bic" in error.partition(" became")[0]
    assert (run_dir / "nonfinite.json").is_file()
    assert [path.name for path in checkpoints(run_dir)] == ["step-00000001"]


def test_a_refused_run_does_not_touch_the_one_that_is_there(
    command: Command, config: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    words = ["--config", config, "--data", world, "--to", run_dir]
    assert command(*words) == 0
    before = (run_dir / "config.yaml").read_text()
    assert command(*words, "--resume", "false", "--set", "train.seed=5") == 2
    assert "already has checkpoints, up to step-00000002" in capsys.readouterr().err
    assert (run_dir / "config.yaml").read_text() == before
