from __future__ import annotations

import pytest

from training.engine.retention import ranked, superfluous

NAN = float("nan")


@pytest.mark.parametrize(
    ("steps", "values", "last", "best", "deleted"),
    [
        ([], {}, 1, 1, []),
        ([3], {}, 1, 0, []),
        ([1, 2, 3], {}, 1, 1, [1, 2]),
        ([1, 2, 3], {1: 0.9, 2: 0.5, 3: 0.1}, 1, 1, [2]),
        ([1, 2, 3], {1: 0.9, 2: 0.5, 3: 0.1}, 1, 2, []),
        ([1, 2, 3], {1: 0.9, 2: 0.5, 3: 0.1}, 1, 0, [1, 2]),
        ([1, 2, 3, 4], {4: 0.9}, 2, 1, [1, 2]),
        ([4, 1, 3, 2], {2: 0.5}, 1, 5, [1, 3]),
        ([1, 2, 3], {1: NAN, 2: 0.1}, 1, 1, [1]),
        ([1, 2, 3], {1: 0.5, 2: 0.5}, 1, 1, [2]),
    ],
)
def test_the_newest_and_the_best_stay(
    steps: list[int], values: dict[int, float], last: int, best: int, deleted: list[int]
) -> None:
    assert superfluous(steps, values, last, best) == deleted


def test_smaller_can_be_better() -> None:
    assert superfluous([1, 2, 3], {1: 0.1, 2: 0.2}, 1, 1, greater_is_better=False) == [2]


def test_of_equal_ones_the_earlier_is_better_and_nan_is_none() -> None:
    assert ranked({1: NAN, 2: 0.5, 3: 0.7, 4: 0.7}) == [3, 4, 2]
    assert ranked({1: NAN, 2: 0.5, 3: 0.7, 4: 0.7}, greater_is_better=False) == [2, 3, 4]


def test_keeping_no_newest_is_refused() -> None:
    with pytest.raises(ValueError, match="keep_last"):
        superfluous([1], {}, 0, 1)
