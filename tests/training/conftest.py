from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.towers import tiny_towers


@pytest.fixture(scope="session")
def towers(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of tiny towers with random weights, 32 px and a grid of 4 x 4 patches."""
    folder: Path = tmp_path_factory.mktemp("towers") / "tiny"
    return tiny_towers(folder)
