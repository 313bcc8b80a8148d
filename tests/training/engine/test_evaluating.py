from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from accelerate.state import AcceleratorState

from schemas import open_table
from schemas.validate import validate
from tests.training.report.page.evaluation import TEST_ROWS, trained
from training.engine.evaluating import evaluate_checkpoint, left_out_notes
from training.errors import DataError, UsageError
from training.evaluate import main, parser
from training.metrics import evaluate
from training.metrics.reading import load

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def world(towers: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The tables and a run over them."""
    return trained(towers, tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


@pytest.fixture(scope="module")
def done(world: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The command's folder and what it printed."""
    out, run = world
    to = tmp_path_factory.mktemp("evaluation") / "new" / "folder"
    AcceleratorState._reset_state(reset_partial_state=True)
    command = [sys.executable, "training/evaluate.py", "--checkpoint", run, "--data", out, "--to", to]
    found = subprocess.run(
        [*map(str, command), "--bootstrap", "20", "--json"],
        cwd=ROOT,
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    assert f"{TEST_ROWS}/{TEST_ROWS}" in found.stderr, "the bar reached the end"
    return to, json.loads(found.stdout)


def test_the_options_are_those_of_the_list() -> None:
    options = {option for action in parser()._actions for option in action.option_strings}
    assert options == {
        "-h", "--help", "--checkpoint", "--data", "--split", "--to", "--bootstrap", "--limit", "--image-root",
        "--json",
    }, "a new or lost option is a change for users"  # fmt: skip


def test_the_command_writes_four_files_and_prints_the_metrics(done: tuple[Path, dict[str, Any]]) -> None:
    to, printed = done
    files = {path.name for path in to.iterdir()}
    assert files == {"metrics.json", "predictions.npz", "predictions.parquet", "report.html", "rows"}
    assert json.loads((to / "metrics.json").read_text()) == printed
    for name in ("auc", "by_type", "calibration", "operating_points", "confusion", "intervals", "config"):
        assert name in printed
    assert printed["split"] == "test" and printed["intervals"]["draws"] == 20


def test_all_rows_are_evaluated_whatever_the_run_was_limited_to(
    world: tuple[Path, Path], done: tuple[Path, dict[str, Any]]
) -> None:
    to, printed = done
    assert printed["config"]["data"]["limit"] == 10 and printed["rows"] == TEST_ROWS
    samples = open_table(world[0], "samples").to_arrow(["sample_id", "words"], split="test").to_pylist()
    table = pq.read_table(to / "predictions.parquet")
    assert validate(table, "predictions").num_rows == TEST_ROWS
    assert set(table["sample_id"].to_pylist()) == {row["sample_id"] for row in samples}
    words = {row["sample_id"]: len(row["words"]) for row in samples}
    assert all(len(row["word_scores"]) == words[row["sample_id"]] for row in table.to_pylist())


def test_the_saved_predictions_score_what_was_reported(done: tuple[Path, dict[str, Any]]) -> None:
    to, printed = done
    predictions, unread = load(to / "predictions.npz")
    again = evaluate(predictions)
    assert unread == [] and all(printed[name] == value for name, value in again.items() if name != "notes")


def test_what_was_not_read_is_counted_and_the_notes_say_what_it_means(
    world: tuple[Path, Path], done: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    samples = open_table(world[0], "samples").to_arrow(["words", "fake_text_pos"], split="test").to_pylist()
    limit = done[1]["config"]["data"]["max_words"]
    dropped = sum(max(0, len(row["words"]) - limit) for row in samples)
    marked = sum(position >= limit for row in samples for position in row["fake_text_pos"])
    left_out = done[1]["left_out"]
    assert left_out["words_dropped"] >= dropped and left_out["marked_words_dropped"] >= marked
    notes = left_out_notes(dict.fromkeys(left_out, 0) | {"words_dropped": 9, "marked_words_dropped": 2})
    assert notes[0] == (
        "left out: 9 words of news texts not read (data.max_words or data.max_tokens), 2 of them manipulated"
    )
    assert "leave out 2 manipulated words" in notes[1]
    assert left_out_notes(dict.fromkeys(left_out, 0)) == []
    assert [note for note in left_out_notes(left_out) if note not in done[1]["notes"]] == []


@pytest.mark.parametrize("broken", ["write_predictions", "write_json", "write_page"])
def test_a_full_disk_is_one_clear_line(
    world: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    module = "training.report.page" if broken == "write_page" else "training.engine.evaluating"
    monkeypatch.setattr(f"{module}.{broken}", full)
    words = ["--checkpoint", world[1], "--data", world[0], "--to", tmp_path / "to", "--bootstrap", "0"]
    assert main([*map(str, words), "--limit", "5"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"--to {tmp_path / 'to'}: cannot be written (") and "No space left" in error


def test_rows_of_one_source_item_are_one_cluster(
    world: tuple[Path, Path], done: tuple[Path, dict[str, Any]]
) -> None:
    sources = open_table(world[0], "samples").to_arrow(["source_id"], split="test")["source_id"].to_pylist()
    assert done[1]["intervals"]["clusters"] == len(set(sources)) < TEST_ROWS


def test_the_best_checkpoint_a_checkpoint_and_a_limit_are_taken(
    world: tuple[Path, Path], tmp_path: Path
) -> None:
    out, run = world
    checkpoint = next((run / "checkpoints").glob("step-*"))
    found = evaluate_checkpoint(checkpoint, out, "test", tmp_path / "a", draws=0, limit=5)
    assert found["rows"] == found["limit"] == 5 and found["checkpoint"] == str(checkpoint)
    assert found["intervals"]["figures"] == {}


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--checkpoint", "nowhere"], ["nowhere: neither a checkpoint nor a run with checkpoints"]),
        (["--data", "nowhere"], ["nowhere: no samples here", "pipeline ingest"]),
        (["--split", "exam"], ["no split 'exam'", "train, val, test"]),
        (["--split", "val"], ["no rows in val", "test (27 rows)"]),
        (["--image-root", "nowhere"], ["the image root is not a folder"]),
    ],
)
def test_bad_usage_is_one_clear_message(
    world: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    parts: list[str],
) -> None:
    given = {"--checkpoint": str(world[1]), "--data": str(world[0]), "--to": str(tmp_path / "to")}
    given |= dict([words])
    assert main([word for pair in given.items() for word in pair]) == 2
    error = capsys.readouterr().err
    assert [part for part in parts if part not in error] == [], error
    assert "Traceback" not in error and not (tmp_path / "to" / "metrics.json").exists()


@pytest.mark.parametrize("word", ["-1", "many"])
def test_a_number_of_draws_that_is_none_is_refused(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--checkpoint", "a", "--data", "b", "--to", "c", f"--bootstrap={word}"])
    assert f"'{word}' is not a whole number of 0 or more" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_told(world: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--to .*cannot be made.*name another folder"):
        evaluate_checkpoint(world[1], world[0], "test", tmp_path / "file" / "to")


def test_a_damaged_checkpoint_is_told(world: tuple[Path, Path], tmp_path: Path) -> None:
    checkpoint = next((world[1] / "checkpoints").glob("step-*"))
    copy = tmp_path / checkpoint.name
    copy.mkdir()
    for file in checkpoint.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "model.safetensors").write_bytes(b"short")
    with pytest.raises(DataError, match="has 5 bytes instead of"):
        evaluate_checkpoint(copy, world[0], "test", tmp_path / "to")


@pytest.mark.slow
def test_two_processes_report_what_one_does(
    world: tuple[Path, Path], done: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    launch = [str(Path(sys.executable).with_name("accelerate")), "launch"]
    launch += ["--config_file", "configs/accelerate/cpu.yaml", "training/evaluate.py", "--bootstrap", "20"]
    paths = ["--checkpoint", world[1], "--data", world[0], "--to", tmp_path / "to"]
    subprocess.run([*launch, *map(str, paths)], cwd=ROOT, check=True, timeout=400, capture_output=True)
    found = json.loads((tmp_path / "to" / "metrics.json").read_text())
    expected = dict(done[1])
    assert (found.pop("processes"), expected.pop("processes")) == (2, 1)
    assert found.pop("evaluated_at") >= expected.pop("evaluated_at")
    mine, _ = load(tmp_path / "to" / "predictions.npz")
    theirs, _ = load(done[0] / "predictions.npz")
    assert mine.sample_id.tolist() == theirs.sample_id.tolist()
    np.testing.assert_allclose(mine.logits_binary, theirs.logits_binary, atol=1e-5)
    np.testing.assert_allclose(mine.box_pred_cxcywh, theirs.box_pred_cxcywh, atol=1e-5)
    assert found["left_out"] == expected["left_out"]
    assert found["auc"] == pytest.approx(expected["auc"]) and found["rows"] == expected["rows"]
