from __future__ import annotations

import logging
from pathlib import Path

import pytest

from training.engine.checkpoint import Counters, TrainState, folder_of
from training.engine.resume import resolve_resume
from training.engine.store import CheckpointStore
from training.errors import DataError, UsageError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with checkpoints at steps 2 and 10."""
    store = CheckpointStore(tmp_path / "run", 5, 0, "score")
    for step in (2, 10):
        store.save(TrainState(Counters(step)))
    return tmp_path / "run"


def spoil(path: Path) -> None:
    (path / "state.json").write_text("{")


@pytest.mark.parametrize("resume", ["auto", "true"])
def test_the_latest_is_found(run: Path, resume: str) -> None:
    assert resolve_resume(run, resume) == folder_of(run, 10)


@pytest.mark.parametrize("resume", ["auto", "false"])
def test_a_new_run_starts_anew(tmp_path: Path, resume: str) -> None:
    assert resolve_resume(tmp_path / "new", resume) is None


def test_true_needs_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no checkpoint to resume from"):
        resolve_resume(tmp_path / "new", "true")


def test_false_never_mixes_two_runs(run: Path) -> None:
    with pytest.raises(UsageError, match="step-00000010: continue with --resume, or choose another --to"):
        resolve_resume(run, "false")


def test_a_damaged_latest_is_skipped_with_a_warning(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    spoil(folder_of(run, 10))
    with caplog.at_level(logging.WARNING):
        assert resolve_resume(run, "auto") == folder_of(run, 2)
    assert "state.json has 1 bytes" in caplog.text and "step-00000010 is skipped" in caplog.text


def test_a_run_whose_checkpoints_are_all_damaged_is_not_started_anew(run: Path) -> None:
    spoil(folder_of(run, 2))
    spoil(folder_of(run, 10))
    with pytest.raises(DataError, match="none of its 2 checkpoints is whole"):
        resolve_resume(run, "auto")


def test_a_named_checkpoint_of_another_run(run: Path, tmp_path: Path) -> None:
    assert resolve_resume(tmp_path / "new", str(folder_of(run, 2))) == folder_of(run, 2)


def test_a_named_latest_of_the_same_run(run: Path) -> None:
    assert resolve_resume(run, str(folder_of(run, 10))) == folder_of(run, 10)


def test_a_named_one_with_later_ones_beside_it_is_refused(run: Path) -> None:
    with pytest.raises(UsageError, match="do not lead to .*step-00000002, up to step-00000010"):
        resolve_resume(run, str(folder_of(run, 2)))


def test_a_named_folder_that_is_missing_or_damaged_is_refused(run: Path) -> None:
    with pytest.raises(UsageError, match="is no folder; checkpoints of .*: step-00000002, step-00000010"):
        resolve_resume(run, str(run / "checkpoints" / "step-3"))
    spoil(folder_of(run, 10))
    with pytest.raises(DataError, match="state.json has 1 bytes"):
        resolve_resume(run, str(folder_of(run, 10)))
