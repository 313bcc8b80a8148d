from __future__ import annotations

import pytest

from demo.newsroom import Item, generate_items


@pytest.fixture(scope="session")
def items() -> list[Item]:
    return list(generate_items(1200, seed=5))
