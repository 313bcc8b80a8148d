"""Which checkpoints stay: the newest and the best."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping


def ranked(values: Mapping[int, float], greater_is_better: bool = True) -> list[int]:
    """Return steps from best to worst; of equal ones the earlier first, as it needed less training.

    Steps whose value is not a number are left out: they can be no best.
    """
    sign = -1 if greater_is_better else 1
    known = [step for step, value in values.items() if not math.isnan(value)]
    return sorted(known, key=lambda step: (sign * values[step], step))


def superfluous(
    steps: Iterable[int],
    values: Mapping[int, float],
    keep_last: int,
    keep_best: int,
    greater_is_better: bool = True,
) -> list[int]:
    """Return the steps to delete, oldest first.

    Args:
        steps: Steps of the whole checkpoints.
        values: Metric of those that were evaluated.
        keep_last: Newest ones kept, at least 1.
        keep_best: Best ones kept.
        greater_is_better: Direction of the metric.
    """
    if keep_last < 1:
        raise ValueError("keep_last must be at least 1: the newest checkpoint is what a run resumes from")
    newest = sorted(steps)
    kept = {*newest[-keep_last:], *ranked(values, greater_is_better)[:keep_best]}
    return [step for step in newest if step not in kept]
