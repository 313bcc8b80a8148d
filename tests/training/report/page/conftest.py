from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.report.page.evaluation import evaluated
from training.report.page import write_page


@pytest.fixture(scope="module")
def folder(towers: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation with its page."""
    made = evaluated(towers, tmp_path_factory.mktemp("page"))
    write_page(made)
    return made
