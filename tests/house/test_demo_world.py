"""scripts/demo_world.sh: draws once, whole or not at all, and never over somebody's folder."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def draw(root: Path):
    def run(world: Path, samples: int = 9, seed: int = 7) -> str:
        environment = {**os.environ, "WORLD_SAMPLES": str(samples), "WORLD_SEED": str(seed)}
        command = [str(root / "scripts" / "demo_world.sh"), str(world)]
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=300
        )
        return result.stdout + result.stderr

    return run


def files(world: Path) -> dict[str, int]:
    return {str(p.relative_to(world)): p.stat().st_mtime_ns for p in sorted(world.rglob("*")) if p.is_file()}


def test_a_world_is_drawn_once_and_again_only_for_another_recipe(draw, tmp_path: Path) -> None:
    world = tmp_path / "a world"
    draw(world)
    first = files(world)
    assert {"metadata/train.json", "metadata/val.json", "metadata/test.json"} <= set(first)
    assert draw(world) == ""
    assert files(world) == first
    draw(world, seed=8)
    assert set(files(world)) != set(first)
    assert not world.with_name("a world.partial").exists()


def test_what_an_interrupted_drawing_left_is_not_taken_for_a_world(draw, tmp_path: Path) -> None:
    partial = tmp_path / "world.partial"
    (partial / "metadata").mkdir(parents=True)
    (partial / "metadata" / "train.json").write_text("[\n")
    draw(tmp_path / "world")
    assert not partial.exists()
    assert (tmp_path / "world" / "metadata" / "train.json").read_text() != "[\n"


def test_a_folder_of_somebody_else_is_used_as_it_is(draw, tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "mine.txt").write_text("keep")
    assert "used as it is" in draw(tmp_path / "world")
    assert [path.name for path in (tmp_path / "world").iterdir()] == ["mine.txt"]
