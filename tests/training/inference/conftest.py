from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from tests.training.engine.running import run_config, write_split_world
from tests.training.inference.building import write_run


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of tables with 21 training and 8 validation rows; pictures in ``images``."""
    out: Path = tmp_path_factory.mktemp("world") / "out"
    write_split_world(out, texts=False)
    return out


@pytest.fixture(scope="session")
def run_dir(towers: str, small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on that world with one checkpoint."""
    return write_run(tmp_path_factory.mktemp("run") / "run", run_config(towers, small_world))


@pytest.fixture(autouse=True)
def fresh_accelerator(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Evaluations on the CPU, each with a precision of its own."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
