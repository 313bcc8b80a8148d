"""Which manipulations: average precision per type, and pooled and per-class precision and recall.

Source: the published protocol (the multi-label meter of HAMMER's evaluation). AP is the mean, over the
positives, of the precision at their rank when raw logits are sorted downwards. A type is predicted when its
logit is at least 0. OP, OR and OF1 pool the counts of the four types; CP and CR average precision and recall
over the types, and CF1 is the harmonic mean of those two averages (not the average of four F1 scores).
The F1 of each type, 2 correct / (predicted + actual), is ours.

As published, a type that is never predicted enters with a prediction count of 1: its precision is 0, and the
pooled count grows by 1.

Defined values: rows with tied logits share the precision at the end of their group, so the order of rows does
not matter (the published sort leaves it open). A type without positives has AP 0.0 and F1 0.0 and takes no
part in mAP and CR; without any positives mAP, OR and CR are 0.0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.vocabulary import MANIPULATION_TYPES
from training.metrics.fractions import harmonic, ratio

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]


def type_metrics(logits: Floats, types: Bools, notes: list[str]) -> dict[str, float | list[float]]:
    """Return map, ap, op, or_, of1, cp, cr, cf1 and f1_face_swap and so on as fractions.

    Args:
        logits: (N, 4): face_swap, face_attribute, text_swap, text_attribute.
        types: (N, 4), the row's manipulations.
        notes: Receives a sentence for each value that is defined rather than measured.
    """
    ap = [average_precision(logits[:, k], types[:, k]) for k in range(types.shape[1])]
    chosen = logits >= 0
    correct = (chosen & types).sum(axis=0)
    predicted = chosen.sum(axis=0)
    actual = types.sum(axis=0)
    present = actual > 0
    for k in np.flatnonzero(~present):
        notes.append(
            f"no row has {MANIPULATION_TYPES[k]}: its ap is set to 0 and left out of map and cr; "
            "its f1 is set to 0"
        )
    for k in np.flatnonzero((predicted == 0) & present):
        notes.append(f"{MANIPULATION_TYPES[k]} is never predicted: its precision and f1 are 0")
    counted = np.maximum(predicted, 1)
    op, or_ = ratio(correct.sum(), counted.sum()), ratio(correct.sum(), actual.sum())
    cp = float(np.mean(correct / counted))
    cr = float(np.mean(correct[present] / actual[present])) if present.any() else 0.0
    return {
        "map": float(np.mean(np.asarray(ap)[present])) if present.any() else 0.0,
        "ap": ap,
        "op": op,
        "or_": or_,
        "of1": harmonic(op, or_),
        "cp": cp,
        "cr": cr,
        "cf1": harmonic(cp, cr),
        **{
            f"f1_{name}": ratio(2 * correct[k], predicted[k] + actual[k])
            for k, name in enumerate(MANIPULATION_TYPES)
        },
    }


def average_precision(scores: Floats, positive: Bools) -> float:
    """Return the mean over the positives of the precision at their rank; 0.0 without positives.

    Args:
        scores: (N,), raw logits.
        positive: (N,).
    """
    if not positive.any():
        return 0.0
    order = np.argsort(-scores, kind="stable")
    ranked, truth = scores[order], positive[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    hits = np.cumsum(truth)[last]
    precision = hits / (last + 1)
    gained = np.diff(hits, prepend=0)
    return float(np.sum(precision * gained) / hits[-1])
