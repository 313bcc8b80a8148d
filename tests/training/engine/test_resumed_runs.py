from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.training.engine.running import (
    StoppedLoop,
    assert_same_run,
    last_json,
    open_loop,
    records,
    run_config,
)
from training.config.sections import Config
from training.engine import checkpoint
from training.engine.checkpoint import PARTS, checkpoints
from training.engine.files import sha256
from training.engine.tensors import read_tensors
from training.errors import Interrupted, UsageError

Configure = Callable[..., Config]


@pytest.fixture(scope="module")
def configure(towers: str, world: Path) -> Configure:
    def make(accumulate: int = 1, workers: int = 0, **train: object) -> Config:
        return run_config(
            towers,
            world,
            data={"workers": workers, "prefetch": 2},
            model={"fusion": {"dropout": 0.1}},
            loss={"lma": {"queue": True}},
            train={"accumulate": accumulate, **train},
        )

    return make


@pytest.fixture(scope="module")
def whole(configure: Configure, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Folders of uninterrupted runs of 9 steps, by micro-batches per step."""
    made: dict[int, Path] = {}

    def folder(accumulate: int) -> Path:
        if accumulate not in made:
            made[accumulate] = tmp_path_factory.mktemp("whole")
            open_loop(configure(accumulate), made[accumulate]).train()
        return made[accumulate]

    return folder


def stop(config: Config, run_dir: Path, step: int, *, in_validation: bool = False) -> None:
    loop = open_loop(config, run_dir, StoppedLoop)
    assert isinstance(loop, StoppedLoop)
    loop.stop_at, loop.in_validation = step, in_validation
    with pytest.raises(Interrupted, match=f"step {step}.*--resume"):
        loop.train()
    assert checkpoints(run_dir)[-1].name == f"step-{step:08d}"


@pytest.mark.parametrize(
    ("step", "accumulate", "workers"),
    [
        pytest.param(4, 1, 0, id="within an epoch"),
        pytest.param(6, 1, 0, id="at the end of an epoch"),
        pytest.param(9, 1, 0, id="at the end of the run"),
        pytest.param(4, 2, 0, id="two micro-batches"),
        pytest.param(5, 1, 2, id="two workers"),
    ],
)
def test_a_stopped_run_goes_on_bit_for_bit(
    configure: Configure,
    whole: Callable[[int], Path],
    tmp_path: Path,
    step: int,
    accumulate: int,
    workers: int,
) -> None:
    config = configure(accumulate, workers)
    stop(config, tmp_path, step)
    open_loop(config, tmp_path).train()
    assert_same_run(tmp_path, whole(accumulate))


def test_a_record_over_steps_before_and_after_a_stop_is_that_of_a_whole_run(
    configure: Configure, tmp_path: Path
) -> None:
    config = configure(log_every=4, epochs=2, eval_every=100, trackers=())
    open_loop(config, tmp_path / "whole").train()
    stop(config, tmp_path / "stopped", 2)
    open_loop(config, tmp_path / "stopped").train()
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


def test_going_on_reads_and_hashes_each_file_once(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure()
    stop(config, tmp_path, 2)
    hashed: list[str] = []
    read: list[str] = []

    def counted(path: Path) -> str:
        hashed.append(path.name)
        return sha256(path)

    def noted(path: Path) -> dict[str, torch.Tensor]:
        read.append(path.name)
        return read_tensors(path)

    monkeypatch.setattr(checkpoint, "sha256", counted)
    monkeypatch.setattr(checkpoint, "read_tensors", noted)
    open_loop(config, tmp_path)
    assert sorted(read) == sorted([*(f"{part}.safetensors" for part in PARTS), "rng-rank0.safetensors"])
    assert sorted(hashed) == sorted([*read, "state.json"])


@pytest.mark.parametrize("step", [3, 9], ids=["in the middle", "at the end"])
def test_a_validation_cut_short_is_done_again(
    configure: Configure, whole: Callable[[int], Path], tmp_path: Path, step: int
) -> None:
    config = configure()
    stop(config, tmp_path, step, in_validation=True)
    assert not (checkpoints(tmp_path)[-1] / "metrics.json").exists()
    assert not any("val/score" in record for record in records(tmp_path) if record["step"] == step)
    # A stop in the second attempt loses nothing either.
    stop(config, tmp_path, step, in_validation=True)
    metrics = open_loop(config, tmp_path).train()
    assert metrics == last_json(tmp_path, "metrics")
    assert_same_run(tmp_path, whole(1))


def test_a_run_that_lost_its_newest_checkpoint_goes_on_from_the_one_before(
    configure: Configure, whole: Callable[[int], Path], tmp_path: Path
) -> None:
    config = configure()
    stop(config, tmp_path, 5)
    newest = checkpoints(tmp_path)[-1]
    (newest / "momentum.safetensors").write_bytes(b"cut short")
    open_loop(config, tmp_path).train()
    assert_same_run(tmp_path, whole(1))


def test_a_run_that_has_ended_is_left_as_it_is(configure: Configure, whole: Callable[[int], Path]) -> None:
    folder = whole(1)
    before = {path: path.stat().st_mtime_ns for path in checkpoints(folder)}
    metrics = open_loop(configure(), folder).train()
    assert metrics == last_json(folder, "metrics")
    assert {path: path.stat().st_mtime_ns for path in checkpoints(folder)} == before


def test_the_best_value_counts_a_validation_made_after_the_checkpoint(
    configure: Configure, tmp_path: Path
) -> None:
    config = configure()
    stop(config, tmp_path, 3, in_validation=True)
    folder = checkpoints(tmp_path)[-1]
    assert json.loads((folder / "state.json").read_text())["best"] == {}
    (folder / "metrics.json").write_text(json.dumps({"score": 2.0}))
    open_loop(config, tmp_path).train()
    assert last_json(tmp_path, "state")["best"] == {"score": 2.0}


def test_overfitting_one_batch_goes_on_with_the_same_batch(configure: Configure, tmp_path: Path) -> None:
    config = configure(overfit_one_batch=True, epochs=2, eval_every=100)
    open_loop(config, tmp_path / "whole").train()
    stop(config, tmp_path / "stopped", 4)
    open_loop(config, tmp_path / "stopped").train()
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


def test_changed_settings_are_named_when_a_run_goes_on(
    configure: Configure, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stop(configure(), tmp_path, 2)
    caplog.clear()
    open_loop(configure(seed=1, log_every=5), tmp_path)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert any("train.seed: 0 -> 1" in line and "log_every" not in line for line in warnings)


def test_steps_of_another_size_are_refused(configure: Configure, tmp_path: Path) -> None:
    stop(configure(), tmp_path, 2)
    with pytest.raises(UsageError, match="train.batch_size is 4, .* counts steps of 8 rows: go on with 8"):
        open_loop(configure(batch_size=4), tmp_path)


def test_a_position_behind_the_epoch_s_end_begins_the_next_epoch(
    configure: Configure, tmp_path: Path
) -> None:
    stop(configure(), tmp_path, 2)
    loop = open_loop(configure(), tmp_path)
    loop.position = 3
    loop.train()
    assert last_json(tmp_path, "state")["step"] == 9


def test_towers_with_a_rate_of_zero_stay_as_they_are(towers: str, world: Path, tmp_path: Path) -> None:
    config = run_config(towers, world, optim={"lr_towers": 0.0}, train={"epochs": 1})
    loop = open_loop(config, tmp_path)
    before = {name: value.clone() for name, value in loop.run.model.state_dict().items()}
    loop.train()
    after = loop.run.model.state_dict()
    moved = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert "towers" not in moved and "fusion" in moved
