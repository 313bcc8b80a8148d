"""From the pilot's batches to an estimate with an interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.costs.intervals import Interval, measured_once

LEVEL = 0.9
"""Share of cases in which an interval is meant to hold the truth."""

DRAWS = 4000
_QUANTILES = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


def per_row(amounts: Sequence[float], rows: Sequence[int], *, seed: int) -> Interval:
    """Return the amount per row of some batches, with its bootstrap interval.

    The batches are drawn with replacement (Efron and Tibshirani 1993, chapter 6). The interval is widened to
    what Student's t asks for at this number of batches, because the bootstrap of a few is too narrow.

    Args:
        amounts: Seconds, bytes or the like, per batch.
        rows: Rows of each batch, at least one.
        seed: Of the draws.
    """
    amount, count = np.asarray(amounts, float), np.asarray(rows, float)
    estimate = float(amount.sum() / count.sum())
    if len(amount) == 1:
        return measured_once(estimate)
    picked = np.random.default_rng(seed).integers(0, len(amount), (DRAWS, len(amount)))
    ratios = amount[picked].sum(1) / count[picked].sum(1)
    low, high = estimate + _widening(len(amount)) * (np.quantile(ratios, _QUANTILES) - estimate)
    return {
        "estimate": estimate,
        "low": float(max(0.0, min(low, estimate))),
        "high": float(max(high, estimate)),
    }


def _widening(batches: int) -> float:
    """Return how much wider than the bootstrap's the interval of this many batches is."""
    from scipy.stats import norm, t  # type: ignore[import-untyped]

    quantile = _QUANTILES[1]
    return float(t.ppf(quantile, batches - 1) / norm.ppf(quantile) * (batches / (batches - 1)) ** 0.5)
