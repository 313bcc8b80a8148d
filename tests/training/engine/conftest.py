from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.engine.running import write_split_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of tables with 21 training and 8 validation rows, all with caption and explanation."""
    out: Path = tmp_path_factory.mktemp("world") / "out"
    write_split_world(out)
    return out
