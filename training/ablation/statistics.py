"""Means and differences over seeds, with intervals.

Two kinds of chance are kept apart. Over *seeds*: another initialisation, order and augmentation of the same
training; Student's t over the seeds, differences paired by seed. Over *rows*: other evaluated rows for the
same trained models; the paired cluster bootstrap of the difference averaged over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from training.metrics.bootstrap import LEAST_SHARE, LEVEL

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, fractions.

    Attributes:
        mean: Over the seeds.
        sd: Standard deviation over the seeds; None with one seed.
        low: Lower end of the 95 % interval of the mean; None with one seed.
        high: Upper end.
        n: Seeds.
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """How much a variant is above another one, fractions.

    Attributes:
        mean: Mean of the differences of runs with the same seed.
        low: Lower end of the 95 % interval over seeds; None with one seed.
        high: Upper end.
        n: Seeds that both variants have.
        rows_low: Lower end of the 95 % interval over evaluated source items; None without draws.
        rows_high: Upper end.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    rows_low: float | None
    rows_high: float | None

    @property
    def over_seeds(self) -> int:
        """1 or -1 if the interval over seeds lies above or below 0, else 0."""
        return _side(self.low, self.high)

    @property
    def over_rows(self) -> int:
        """The same for the interval over evaluated rows."""
        return _side(self.rows_low, self.rows_high)

    def as_dict(self) -> dict[str, float | int | None]:
        """Return the values, and on which side of 0 each interval lies."""
        return asdict(self) | {"over_seeds": self.over_seeds, "over_rows": self.over_rows}


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean of independent values with Student's t interval.

    Args:
        values: One per seed, at least one.
    """
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return Estimate(mean, None, None, None, n)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * sd / math.sqrt(n)
    return Estimate(mean, sd, mean - half, mean + half, n)


def difference(
    one: Mapping[int, float],
    other: Mapping[int, float],
    draws_one: Mapping[int, Floats] | None = None,
    draws_other: Mapping[int, Floats] | None = None,
) -> Difference | None:
    """Return how much ``one`` is above ``other``, or None if they share no seed.

    Args:
        one: Figure by seed.
        other: Figure by seed.
        draws_one: By seed (draws,): the figure in every draw of `training.metrics.bootstrap.draw_figures`;
            NaN where a draw has no row that it is about.
        draws_other: The same draws for the other.
    """
    seeds = sorted(one.keys() & other.keys())
    if not seeds:
        return None
    seen = estimate([one[seed] - other[seed] for seed in seeds])
    low = high = None
    if draws_one is not None and draws_other is not None:
        mean = np.mean([draws_one[seed] - draws_other[seed] for seed in seeds], axis=0)
        known = mean[np.isfinite(mean)]
        if len(known) >= LEAST_SHARE * len(mean):
            low, high = (float(end) for end in np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    return Difference(seen.mean, seen.low, seen.high, seen.n, low, high)


def _side(low: float | None, high: float | None) -> int:
    if low is None or high is None:
        return 0
    return 1 if low > 0 else -1 if high < 0 else 0
