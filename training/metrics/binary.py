"""Real or fake: AUC, accuracy and equal error rate.

Source: the published protocol (HAMMER, section 5; its evaluation script): label 0 only for ``orig``, accuracy
by argmax, EER where 1 - x meets the linearly interpolated ROC curve.

Defined values: AUC and EER are 0.5 when a class is missing (no threshold tells anything apart), accuracy is 0
without rows. Tied scores count half (AUC) and share one point of the curve.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.metrics.fractions import ratio

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]

UNDEFINED = 0.5


def binary_metrics(logits: Floats, is_fake: Bools, notes: list[str]) -> dict[str, float]:
    """Return auc, acc and eer as fractions.

    Args:
        logits: (N, 2), real and fake.
        is_fake: (N,).
        notes: Receives a sentence for each value that is defined rather than measured.
    """
    wide = logits.astype(np.float64)
    # The margin orders rows as the fake class's softmax does, but never saturates into ties.
    margin = wide[:, 1] - wide[:, 0]
    accuracy = ratio(int(((margin > 0) == is_fake).sum()), len(is_fake))
    if is_fake.all() or not is_fake.any():
        only = "no rows" if not len(is_fake) else "fake rows only" if is_fake.all() else "real rows only"
        notes.append(f"{only}: auc and eer are set to {UNDEFINED}")
        return {"auc": UNDEFINED, "acc": accuracy, "eer": UNDEFINED}
    false_alarms, hits = roc(margin, is_fake)
    return {"auc": area(false_alarms, hits), "acc": accuracy, "eer": equal_error(false_alarms, hits)}


def roc(scores: Floats, positive: Bools) -> tuple[Floats, Floats]:
    """Return the ROC curve: false and true positive rates from (0, 0) to (1, 1), one point per score.

    Args:
        scores: (N,), larger means more likely positive.
        positive: (N,), with at least one row of each kind.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, truth = scores[order], positive[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    hits = np.cumsum(truth)[last]
    alarms = last + 1 - hits
    start = np.zeros(1)
    return np.concatenate([start, alarms / alarms[-1]]), np.concatenate([start, hits / hits[-1]])


def area(false_alarms: Floats, hits: Floats) -> float:
    """Return the area under the curve by the trapezoidal rule."""
    return float(np.sum(np.diff(false_alarms) * (hits[1:] + hits[:-1]) / 2))


def equal_error(false_alarms: Floats, hits: Floats) -> float:
    """Return the x at which 1 - x meets the curve: false alarms and misses are equally frequent.

    The root is taken in closed form on the segment that holds it, so a perfect model's vertical first segment
    needs no special case.
    """
    excess = hits + false_alarms - 1.0
    after = int(np.argmax(excess >= 0))
    before = after - 1
    share = -excess[before] / (excess[after] - excess[before])
    return float(false_alarms[before] + share * (false_alarms[after] - false_alarms[before]))
