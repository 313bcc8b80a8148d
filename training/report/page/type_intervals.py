"""Intervals of the figures by manipulation, from resamples of whole source items.

The resamples are those of `training.metrics.bootstrap`, with its seed and number of draws. Figures that are
ratios of sums come from one matrix product for all draws; only the AUC looks at the rows of each draw.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from schemas.vocabulary import FAKE_CLS
from training.metrics import Predictions
from training.metrics.bootstrap import LEAST_SHARE, LEVEL, SEED, Ints
from training.metrics.by_type import GROUPS
from training.metrics.resample import row_sums

Floats = NDArray[np.float64]
Spans = Mapping[str, Mapping[str, tuple[float, float]]]
"""By group and figure, the ends of its interval; a figure that has none is missing."""

_CHUNK = 64
_SUMS = ("rows", "correct", "edited", "edited_iou", "tok_hits", "tok_calls", "tok_true",
         "word_hits", "word_calls", "word_true")  # fmt: skip


def intervals_by_type(predictions: Predictions, clusters: Ints, draws: int) -> dict[str, Spans]:
    """Return ``{"groups": ..., "classes": ...}`` with the intervals of each group's figures, fractions.

    Args:
        predictions: N rows.
        clusters: (N,) int from `training.metrics.bootstrap.cluster_index`.
        draws: Number of resamples; 0 gives none.
    """
    count = int(clusters.max()) + 1 if len(clusters) else 0
    if not draws or count < 2:
        return {"groups": {}, "classes": {}}
    sums, pairs = _draw(predictions, clusters, draws, count)
    real = FAKE_CLS.index("orig")
    negatives = sums[:, real, _SUMS.index("rows")]
    face = np.array(["face" in name for name in FAKE_CLS])
    text = np.array(["text" in name for name in FAKE_CLS])
    found: dict[str, dict[str, Mapping[str, tuple[float, float]]]] = {"groups": {}, "classes": {}}
    members = [
        ("groups", name, of)
        for name, of in zip(GROUPS, (text & ~face, face & ~text, face & text), strict=True)
    ]
    members += [("classes", name, np.arange(len(FAKE_CLS)) == k) for k, name in enumerate(FAKE_CLS)]
    for kind, name, classes in members:
        own = dict(zip(_SUMS, sums[:, classes].sum(axis=1).T, strict=True))
        areas = _ratio(pairs[:, classes].sum(axis=1), own["rows"] * negatives)
        figures = _figures(own, np.full(draws, np.nan) if classes[real] else areas)
        spans = {figure: _span(values) for figure, values in figures.items()}
        found[kind][name] = {figure: ends for figure, ends in spans.items() if ends is not None}
    return dict(found)


def _draw(predictions: Predictions, clusters: Ints, draws: int, count: int) -> tuple[Floats, Floats]:
    """Return of each draw and class the sums (draws, 9, sums), and the pairs won against ``orig`` (draws, 9).

    A fake row wins a pair when its score is above the real row's, half of it when they are equal: the AUC is
    the share of the pairs that are won (Mann and Whitney). Classes add up to groups in both.
    """
    kind = np.array([FAKE_CLS.index(name) for name in predictions.fake_cls.tolist()])
    every = row_sums(predictions)
    cells, classes = clusters * len(FAKE_CLS) + kind, len(FAKE_CLS)
    per_cluster = [np.bincount(cells, every[name], count * classes).reshape(count, classes) for name in _SUMS]
    # (C, 9 x sums)
    table = np.stack(per_cluster, axis=2).reshape(count, -1)
    wide = predictions.logits_binary.astype(np.float64)
    margin = wide[:, 1] - wide[:, 0]
    order = np.argsort(margin, kind="stable")
    cluster, owner, real = clusters[order], kind[order], ~predictions.is_fake[order]
    # Rows of one score are one place of the ranking.
    place = np.cumsum(np.append(0, np.diff(margin[order]) > 0))
    ties = place[-1] + 1 < len(order)
    sums = np.empty((draws, table.shape[1]))
    pairs = np.empty((draws, classes))
    random = np.random.default_rng(SEED)
    for start in range(0, draws, _CHUNK):
        chosen = range(start, min(start + _CHUNK, draws))
        counts = np.stack([np.bincount(random.integers(0, count, count), minlength=count) for _ in chosen])
        sums[chosen.start : chosen.stop] = counts.astype(np.float64) @ table
        for draw, drawn in zip(chosen, counts, strict=True):
            weight = drawn[cluster].astype(np.float64)
            negatives = weight * real
            if ties:
                negatives = np.bincount(place, negatives)
            below = np.cumsum(negatives) - negatives / 2
            won = weight * (below[place] if ties else below)
            pairs[draw] = np.bincount(owner, won, classes)
    return sums.reshape(draws, classes, len(_SUMS)), pairs


def _figures(sums: Mapping[str, Floats], areas: Floats) -> dict[str, Floats]:
    found = {
        "auc": areas,
        "acc": _ratio(sums["correct"], sums["rows"]),
        "iou_face_mean": _ratio(sums["edited_iou"], sums["edited"]),
    }
    for prefix in ("word", "tok"):
        hits, calls, true = (sums[f"{prefix}_{name}"] for name in ("hits", "calls", "true"))
        # Without a manipulated word there is no recall to speak of.
        found[f"{prefix}_f1"] = _ratio(2 * hits, np.where(true > 0, calls + true, 0))
    return found


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _span(values: Floats) -> tuple[float, float] | None:
    known = values[np.isfinite(values)]
    if len(known) < LEAST_SHARE * len(values):
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
