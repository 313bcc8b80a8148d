"""Is p_fake a probability: reliability bins, expected calibration error and Brier score.

Sources: the expected calibration error of Naeini, Cooper and Hauskrecht, AAAI 2015, over bins of equal width,
for the probability of the fake class; the Brier score of Brier, Monthly Weather Review, 1950.

p_fake is taken in single precision, as the predictions table holds it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.metrics.predictions import Predictions

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]

BINS = 10


def p_fake(predictions: Predictions) -> NDArray[np.float32]:
    """Return (N,) float32, the softmax of the two logits for fake."""
    return sigmoid(margin(predictions)).astype(np.float32)


def margin(predictions: Predictions) -> NDArray[np.float64]:
    """Return (N,) float64, the logit of fake less that of real; above 0 the verdict is fake."""
    wide = predictions.logits_binary.astype(np.float64)
    return np.asarray(wide[:, 1] - wide[:, 0])


def sigmoid(logit: Floats) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-logit)) without overflow."""
    small = np.exp(-np.abs(logit.astype(np.float64)))
    return np.where(logit >= 0, 1.0, small) / (1.0 + small)


def calibration(p: Floats, is_fake: Bools, notes: list[str], bins: int = BINS) -> dict[str, Any]:
    """Return ece, brier, brier_base and the bins.

    ``brier_base`` is the Brier score of always saying the share of fakes, which a useful model is below.
    Bins: ``low``, ``high``, ``rows``, and ``p`` (mean of p_fake) and ``fake`` (share of fakes), None where
    there are no rows. A bin holds low <= p < high, the last one also 1.

    Args:
        p: (N,), 0 to 1.
        is_fake: (N,).
        notes: Receives a sentence when there are no rows; ece and the Brier scores are then 0.
        bins: Number of bins of equal width.
    """
    edges = np.linspace(0, 1, bins + 1)
    wide = p.astype(np.float64)
    place = np.clip(np.searchsorted(edges, wide, side="right") - 1, 0, bins - 1)
    rows = np.bincount(place, minlength=bins)
    means = np.bincount(place, wide, bins)
    fakes = np.bincount(place, is_fake, bins)
    count = len(p)
    if not count:
        notes.append("no rows: ece and the Brier scores are set to 0")
    share = float(is_fake.mean()) if count else 0.0
    return {
        "ece": float(np.abs(means - fakes).sum() / count) if count else 0.0,
        "brier": float(np.mean((wide - is_fake) ** 2)) if count else 0.0,
        "brier_base": share * (1 - share),
        "bins": [
            {
                "low": float(edges[k]),
                "high": float(edges[k + 1]),
                "rows": int(rows[k]),
                "p": float(means[k] / rows[k]) if rows[k] else None,
                "fake": float(fakes[k] / rows[k]) if rows[k] else None,
            }
            for k in range(bins)
        ],
    }
