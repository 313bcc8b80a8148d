from __future__ import annotations

import json
import logging
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.engine.states import Small, small, state, train
from training.engine.checkpoint import (
    PARTS,
    Counters,
    TrainState,
    checkpoints,
    load_checkpoint,
    pointed,
    rows_needed,
    step_of,
)
from training.engine.optim import unflatten_optimizer
from training.engine.resume import resolve_resume
from training.engine.seeds import set_rng_state
from training.engine.store import CheckpointStore
from training.engine.tensors import write_tensors
from training.errors import DataError, TrainingError

ROOT = Path(__file__).resolve().parents[3]


def store(run: Path, keep_last: int = 2, keep_best: int = 1) -> CheckpointStore:
    return CheckpointStore(run, keep_last, keep_best, "score")


def tiny(step: int, score: float | None = None) -> TrainState:
    metrics = {} if score is None else {"score": score}
    return TrainState(Counters(step), model={"w": torch.full((2,), float(step))}, metrics=metrics)


def steps(run: Path) -> list[int]:
    return [step_of(path) for path in checkpoints(run)]


def assert_equal(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]), name


def test_what_is_loaded_is_what_was_saved_bit_for_bit(tmp_path: Path) -> None:
    model, optimizer = small()
    train(model, optimizer, 4)
    saved = state(4, model, optimizer, {"score": 1 / 3})
    loaded = load_checkpoint(store(tmp_path).save(saved), {"model": Small().state_dict()})
    assert loaded.counters == saved.counters
    assert loaded.metrics == {"score": 1 / 3}
    for part in PARTS:
        assert getattr(saved, part), part
        assert_equal(getattr(saved, part), getattr(loaded, part))
    assert saved.rng is not None and loaded.rng is not None
    assert_equal(saved.rng, loaded.rng)


def test_a_resumed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    model, optimizer = small()
    train(model, optimizer, 3)
    path = store(tmp_path).save(state(3, model, optimizer))
    train(model, optimizer, 3)

    twin, other = small(seed=9)
    loaded = load_checkpoint(path)
    twin.load_state_dict(dict(loaded.model))
    unflatten_optimizer(other, twin, loaded.optimizer)
    assert loaded.rng is not None
    set_rng_state(loaded.rng)
    train(twin, other, 3)
    assert_equal(model.state_dict(), twin.state_dict())


def test_tied_strided_and_no_tensors_are_stored(tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    tensors = {"a": weight, "tied": weight, "turned": weight.T, "row": weight[1], "none": torch.zeros(0, 3)}
    loaded = load_checkpoint(store(tmp_path).save(TrainState(Counters(1), model=tensors)))
    assert_equal(tensors, loaded.model)
    assert loaded.queues == {}


def test_no_file_of_a_checkpoint_is_a_pickle(tmp_path: Path) -> None:
    model, optimizer = small()
    train(model, optimizer, 1)
    path = store(tmp_path).save(state(1, model, optimizer, {"score": 1.0}))
    assert {file.name for file in path.iterdir()} == {
        *(f"{part}.safetensors" for part in PARTS),
        "rng-rank0.safetensors",
        "state.json",
        "files.json",
        "metrics.json",
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tower.0.bias": None}, "tower.0.bias is missing"),
        ({"extra": torch.zeros(1)}, "extra is not in the model"),
        ({"tower.0.bias": torch.zeros(7)}, r"tower.0.bias has shape \(7,\), the model's has \(6,\)"),
        (
            {"tower.0.bias": torch.zeros(6).half()},
            "tower.0.bias is torch.float16, the model's is torch.float",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named_with_their_file(
    tmp_path: Path, change: dict[str, Tensor | None], message: str
) -> None:
    tensors = {name: v for name, v in (Small().state_dict() | change).items() if v is not None}
    path = store(tmp_path).save(TrainState(Counters(1), model=tensors))
    with pytest.raises(DataError, match=rf"model\.safetensors does not fit the model: {message}"):
        load_checkpoint(path, {"model": Small().state_dict()})


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("model.safetensors", truncate, r"model.safetensors has [\d,]+ bytes instead of"),
        ("queues.safetensors", flip_a_bit, "queues.safetensors has changed since it was written"),
        ("state.json", Path.unlink, "state.json is missing"),
        ("files.json", lambda file: file.write_text("[1]"), "cannot be read"),
        ("files.json", Path.unlink, "files.json is missing"),
    ],
)
def test_damaged_files_are_named(
    tmp_path: Path, name: str, spoil: Callable[[Path], object], message: str
) -> None:
    model, optimizer = small()
    path = store(tmp_path).save(state(1, model, optimizer))
    spoil(path / name)
    with pytest.raises(DataError, match=f"{message}.*resume from another"):
        load_checkpoint(path)


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    checkpoint_store = store(tmp_path, keep_last=2, keep_best=1)
    for step, score in ((1, 0.5), (2, 0.9), (3, 0.7), (4, None), (5, 0.9)):
        checkpoint_store.save(tiny(step, score))
    assert steps(tmp_path) == [2, 4, 5]
    best, last = pointed(tmp_path, "best"), pointed(tmp_path, "last")
    assert best and last and (step_of(best), step_of(last)) == (2, 5)
    assert json.loads((tmp_path / "checkpoints" / "best.json").read_text())["score"] == 0.9


def test_no_best_is_named_that_is_not_kept(tmp_path: Path) -> None:
    store(tmp_path, keep_last=1).save(tiny(1, 0.9))
    assert pointed(tmp_path, "best") is not None
    going_on = store(tmp_path, keep_last=1, keep_best=0)
    going_on.save(tiny(2))
    assert steps(tmp_path) == [2] and not (tmp_path / "checkpoints" / "best.json").exists()


def test_a_pointer_to_a_folder_that_was_removed_is_none(tmp_path: Path) -> None:
    shutil.rmtree(store(tmp_path).save(tiny(1, 0.9)))
    assert pointed(tmp_path, "best") is None and pointed(tmp_path, "last") is None


def test_rows_are_needed_by_checkpoints_within_an_epoch(tmp_path: Path) -> None:
    checkpoint_store = store(tmp_path, keep_last=3)
    checkpoint_store.save(TrainState(Counters(1, position=1, rows="a.arrow")))
    checkpoint_store.save(TrainState(Counters(2, position=0, rows="b.arrow")))
    (checkpoint_store.save(TrainState(Counters(3, position=1, rows="c.arrow"))) / "state.json").write_text(
        "{"
    )
    assert rows_needed(tmp_path) == {"a.arrow"}


def test_without_metrics_there_is_no_best(tmp_path: Path) -> None:
    store(tmp_path).save(tiny(1))
    assert pointed(tmp_path, "best") is None


def test_a_disk_that_takes_no_more_costs_no_earlier_checkpoint(tmp_path: Path) -> None:
    checkpoint_store = store(tmp_path, keep_last=1, keep_best=0)
    checkpoint_store.save(tiny(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(TrainingError, match="step-00000002 could not be written: .*too large"):
            checkpoint_store.save(TrainState(Counters(2), model={"w": torch.zeros(10_000)}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert steps(tmp_path) == [1]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["last.json", "step-00000001"]


def test_saving_a_step_again_keeps_the_first_and_sets_metrics(tmp_path: Path) -> None:
    checkpoint_store = store(tmp_path)
    path = checkpoint_store.save(tiny(1))
    before = (path / "model.safetensors").stat().st_ino
    checkpoint_store.save(tiny(1, 0.5))
    assert (path / "model.safetensors").stat().st_ino == before
    assert load_checkpoint(path).metrics == {"score": 0.5}
    assert pointed(tmp_path, "best") == path


def test_a_damaged_later_checkpoint_does_not_cost_the_good_one(tmp_path: Path) -> None:
    checkpoint_store = store(tmp_path, keep_last=1, keep_best=0)
    flip_a_bit(checkpoint_store.save(tiny(9)) / "model.safetensors")
    checkpoint_store.save(tiny(5))
    assert resolve_resume(tmp_path, "auto") == tmp_path / "checkpoints" / "step-00000005"
    replaced = checkpoint_store.save(tiny(9))
    assert load_checkpoint(replaced).model["w"].tolist() == [9.0, 9.0]
    assert steps(tmp_path) == [9]


def test_leftovers_are_removed_at_the_start(tmp_path: Path) -> None:
    leftover = tmp_path / "checkpoints" / ".tmp-step-00000003"
    leftover.mkdir(parents=True)
    (leftover / "model.safetensors").write_bytes(b"half")
    assert steps(tmp_path) == []
    store(tmp_path)
    assert not leftover.exists()


def test_a_rank_that_did_not_exist_gets_no_generators_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, optimizer = small()
    path = store(tmp_path).save(state(1, model, optimizer))
    with caplog.at_level(logging.WARNING):
        assert load_checkpoint(path, rank=3).rng is None
    assert "written by 1 processes: rank 3" in caplog.text


def test_death_at_any_moment_of_a_save_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.training.engine.dying", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    runs = sorted(tmp_path.glob("died-*"))
    assert len(runs) > 20
    outcomes = set()
    for run in runs:
        path = resolve_resume(run, "auto")
        assert path, run
        loaded = load_checkpoint(path)
        assert loaded.model["w"].tolist() == [float(loaded.counters.step)] * 2, run
        outcomes.add(loaded.counters.step)
        store(run, keep_last=1, keep_best=0).save(tiny(3))
        assert steps(run) == [3], run
        assert not list((run / "checkpoints").glob(".tmp-*")), run
    assert outcomes == {1, 2}


def test_an_unreadable_tensor_file_is_a_clear_error(tmp_path: Path) -> None:
    path = store(tmp_path).save(tiny(1))
    write_tensors(path / "model.safetensors", {})
    (path / "model.safetensors").write_bytes(b"x" * 9)
    listed = json.loads((path / "files.json").read_text())
    del listed["model.safetensors"]
    (path / "files.json").write_text(json.dumps(listed))
    with pytest.raises(DataError, match=r"model\.safetensors cannot be read"):
        load_checkpoint(path)
