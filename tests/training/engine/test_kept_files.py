"""What a run keeps on the disk: the best checkpoints, and the joined rows that a checkpoint refers to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.inspection.tables import caption
from tests.training.data.building import commit_texts, plan_texts
from tests.training.engine.running import cpu_accelerator, open_loop, run_config, write_split_world
from training.config import Config
from training.data.rows import Rows
from training.engine import loop as loop_module
from training.engine.assembly import open_rows
from training.engine.checkpoint import checkpoints, pointed, step_of
from training.engine.loop import Loop


def kept(run_dir: Path) -> list[int]:
    return [step_of(path) for path in checkpoints(run_dir)]


def test_the_best_validation_has_a_checkpoint_whenever_others_are_due(
    towers: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.0, 0.424, 0.342, 0.343, 0.359])
    real = loop_module.figures
    monkeypatch.setattr(loop_module, "figures", lambda found: real(found) | {"score": next(scores)})
    config = run_config(
        towers,
        world,
        train={"eval_every": 2, "save_every": 3, "keep_last": 1, "keep_best": 1, "max_steps": 8, "epochs": 3},
    )
    open_loop(config, tmp_path).train()
    assert kept(tmp_path) == [2, 8]
    best = pointed(tmp_path, "best")
    assert best is not None and step_of(best) == 2


def test_a_validation_that_is_not_among_the_best_costs_no_checkpoint(
    towers: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.0, 0.4, 0.3, 0.2, 0.1])
    real = loop_module.figures
    monkeypatch.setattr(loop_module, "figures", lambda found: real(found) | {"score": next(scores)})
    train = {"eval_every": 1, "save_every": 100, "keep_last": 9, "keep_best": 2, "max_steps": 4, "epochs": 3}
    open_loop(run_config(towers, world, train=train), tmp_path).train()
    assert kept(tmp_path) == [1, 2, 4]


@pytest.fixture
def growing(tmp_path: Path) -> tuple[Path, Callable[[], None]]:
    """A world of whose captions only a part is committed, and what commits the others."""
    out = tmp_path / "out"
    rows = write_split_world(out, texts=False)
    texts = [caption(row["image_key"], f"gate {n}") for n, row in enumerate(rows)]
    plan = plan_texts(out, "captions", [texts[:10], texts[10:]])
    commit_texts(plan, 0, texts[:10])
    return out, lambda: commit_texts(plan, 1, texts[10:])


class Crashing(Loop):
    """Dies after it has opened newer rows at the start of the second epoch."""

    commit: Callable[[], None]

    def _newer_rows(self) -> Rows:
        type(self).commit()
        super()._newer_rows()
        raise MemoryError("killed")


def crash(config: Config, run_dir: Path, commit: Callable[[], None]) -> Loop:
    Crashing.commit = staticmethod(commit)
    loop = Crashing(config, run_dir, cpu_accelerator())
    with pytest.raises(MemoryError):
        loop.train()
    return loop


def test_rows_that_the_newest_checkpoint_stopped_within_outlive_newer_ones(
    towers: str, growing: tuple[Path, Callable[[], None]], tmp_path: Path
) -> None:
    out, commit = growing
    config = run_config(towers, out, train={"save_every": 2, "eval_every": 100})
    before = crash(config, tmp_path / "run", commit).rows
    assert kept(tmp_path / "run") == [2]
    again = open_loop(config, tmp_path / "run")
    assert again.rows.path == before.path and again.rows.report.captions == 10
    again.train()
    names = {path.name for path in (tmp_path / "run" / "rows").iterdir()}
    assert again.rows.path.name in names and again.rows.path != before.path


def test_the_validation_s_rows_stay_while_newer_training_rows_of_the_same_split_come(
    towers: str, growing: tuple[Path, Callable[[], None]], tmp_path: Path
) -> None:
    out, commit = growing
    config = run_config(
        towers, out, data={"val_split": "train"}, train={"save_every": 100, "eval_every": 100}
    )
    loop = crash(config, tmp_path / "run", commit)
    assert kept(tmp_path / "run") == []
    assert loop.val.path.is_file()


def test_runs_that_share_a_folder_of_rows_do_not_remove_each_other_s(
    towers: str, growing: tuple[Path, Callable[[], None]], tmp_path: Path
) -> None:
    out, commit = growing
    data: dict[str, Any] = {"rows_cache": tmp_path / "cache"}
    config = run_config(towers, out, data=data)
    first = open_rows(config, ("train",), tmp_path / "one", cpu_accelerator())
    commit()
    second = open_rows(config, ("train",), tmp_path / "two", cpu_accelerator())
    assert first.path.is_file() and second.path.name != first.path.name
    assert not (tmp_path / "one").exists()
