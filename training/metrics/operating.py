"""Operating points: what a threshold on p_fake costs and finds.

A row is flagged when p_fake >= threshold. Thresholds are values that rows have, in single precision as the
predictions table holds them, so that the rates can be met again from that table. Rows of equal p_fake are
flagged together; a wanted rate between two of them is met on its safe side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.metrics.fractions import harmonic, ratio

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Bools = NDArray[np.bool_]
Point = dict[str, float | None]

FALSE_ALARM_RATES = (0.01, 0.05, 0.10)
HIT_RATE = 0.95


def operating_points(p: Floats, is_fake: Bools, called_fake: Bools, notes: list[str]) -> dict[str, Point]:
    """Return points by name: fpr_1, fpr_5, fpr_10, tpr_95, best_f1 and argmax (the model's own verdict).

    Each has ``threshold`` (None: nothing is flagged), ``fpr``, ``tpr``, ``precision``, ``f1`` and ``acc``.
    ``fpr_1`` flags as many fakes as it can while at most 1 % of the real rows are flagged; ``tpr_95`` flags
    as few real rows as it can while at least 95 % of the fakes are; ``best_f1`` has the largest F1 of the
    fake class, and the highest such threshold. ``argmax`` flags what the verdict calls fake, so its ``acc``
    is the accuracy of the protocol; its threshold is the smallest p_fake among them. All are None where a
    class is missing.

    Args:
        p: (N,) probabilities of fake.
        is_fake: (N,).
        called_fake: (N,), the larger logit is that of fake.
        notes: Receives a sentence for what is not defined.
    """
    names = [_name(rate) for rate in FALSE_ALARM_RATES] + ["tpr_95", "best_f1", "argmax"]
    if is_fake.all() or not is_fake.any():
        notes.append("operating points need real and fake rows: they are left empty")
        return {name: _point(None, 0, 0, 0, 0) | _NOTHING for name in names}
    values, hits, alarms = _ladder(p, is_fake)
    fakes, reals = int(hits[-1]), int(alarms[-1])
    chosen: dict[str, int] = {}
    for rate in FALSE_ALARM_RATES:
        # Step 0 flags nothing; alarms never fall, so the last step that keeps to the rate finds the most.
        chosen[_name(rate)] = int(np.searchsorted(alarms, np.floor(rate * reals + 1e-9), side="right")) - 1
    chosen["tpr_95"] = int(np.searchsorted(hits, np.ceil(HIT_RATE * fakes - 1e-9), side="left"))
    f1 = 2 * hits / (hits + alarms + fakes)
    chosen["best_f1"] = int(np.argmax(f1))
    found = {
        name: _point(None if step == 0 else float(values[step - 1]), hits[step], alarms[step], fakes, reals)
        for name, step in chosen.items()
    }
    for name, step in chosen.items():
        if step == 0:
            notes.append(f"{name}: the largest p_fake is too common among real rows; nothing is flagged")
    found["argmax"] = _verdict(p, is_fake, called_fake, notes)
    return found


def _verdict(p: Floats, is_fake: Bools, called_fake: Bools, notes: list[str]) -> Point:
    """Return the point of the verdict, which comes from the logits: p_fake rounds small margins to 0.5."""
    fakes, hits = int(is_fake.sum()), int((called_fake & is_fake).sum())
    alarms = int(called_fake.sum()) - hits
    lowest = float(p[called_fake].min()) if called_fake.any() else None
    if lowest is None:
        notes.append("argmax: no row is called fake; there is no threshold")
    elif below := int((~called_fake & (p >= lowest)).sum()):
        notes.append(
            f"argmax: {below} rows are called real by a margin that p_fake rounds away; "
            "its threshold flags them"
        )
    return _point(lowest, hits, alarms, fakes, len(p) - fakes)


_NOTHING: Point = dict.fromkeys(("fpr", "tpr", "precision", "f1", "acc"))


def _name(rate: float) -> str:
    return f"fpr_{round(100 * rate)}"


def _ladder(p: Floats, is_fake: Bools) -> tuple[Floats, Ints, Ints]:
    """Return the distinct values, largest first, and hits and alarms after 0, 1, 2, ... of them."""
    order = np.argsort(-p, kind="stable")
    ranked, truth = p[order], is_fake[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    hits = np.append(0, np.cumsum(truth)[last])
    return ranked[last], hits, np.append(0, last + 1) - hits


def _point(threshold: float | None, hits: int, alarms: int, fakes: int, reals: int) -> Point:
    hits, alarms = int(hits), int(alarms)
    precision, recall = ratio(hits, hits + alarms), ratio(hits, fakes)
    return {
        "threshold": threshold,
        "fpr": ratio(alarms, reals),
        "tpr": recall,
        "precision": precision,
        "f1": harmonic(precision, recall),
        "acc": ratio(hits + reals - alarms, fakes + reals),
    }
