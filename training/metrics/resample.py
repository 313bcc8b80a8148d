"""Figures of weighted rows: what a resample of the rows would score, without copying them.

Every figure is either a ratio of sums over rows or follows from the rows' order by one score. Sums are kept
per cluster, orders once; a resample then costs a few products and cumulative sums. With every weight 1 the
figures are those of `training.metrics.evaluate`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.metrics.boxes import clamped_iou, published_iou
from training.metrics.predictions import Predictions
from training.metrics.score import PARTS
from training.metrics.words import words_of

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Bools = NDArray[np.bool_]

FIGURES = ("auc", "acc", "map", "word_f1", "tok_f1", "iou_mean", "iou_face_mean", "score")
"""Figures that can be resampled, as `training.metrics.evaluate` names them."""

_SUMS = ("rows", "correct", "iou", "edited", "edited_iou", "tok_hits", "tok_calls", "tok_true",
         "word_hits", "word_calls", "word_true")  # fmt: skip


class Resampler:
    """The figures of predictions when each cluster of rows counts as often as it was drawn.

    Args:
        predictions: N rows, checked.
        clusters: (N,) int, 0 to C - 1, the cluster of each row.
    """

    def __init__(self, predictions: Predictions, clusters: Ints) -> None:
        self.clusters = int(clusters.max()) + 1 if len(clusters) else 0
        fake, types = predictions.is_fake, predictions.types
        wide = predictions.logits_binary.astype(np.float64)
        margin = wide[:, 1] - wide[:, 0]
        self._binary = Ranking(margin, fake, clusters)
        logits = predictions.logits_multilabel
        self._types = [Ranking(logits[:, k], types[:, k], clusters) for k in range(types.shape[1])]
        sums = row_sums(predictions)
        self._sums = np.stack([np.bincount(clusters, sums[name], self.clusters) for name in _SUMS], axis=1)

    def figures(self, counts: Ints) -> dict[str, float]:
        """Return every figure of `FIGURES` as a fraction; NaN where the draw has no row that it is about.

        Args:
            counts: (C,) how often each cluster was drawn.
        """
        sums = dict(zip(_SUMS, (counts @ self._sums).tolist(), strict=True))
        precisions = [ranking.average_precision(counts) for ranking in self._types]
        found = {
            "auc": self._binary.auc(counts),
            "acc": _ratio(sums["correct"], sums["rows"]),
            # A type without positives takes no part in the mean, as in `type_metrics`.
            "map": _ratio(np.nansum(precisions), np.isfinite(precisions).sum()),
            "word_f1": _f1(sums["word_hits"], sums["word_calls"], sums["word_true"]),
            "tok_f1": _f1(sums["tok_hits"], sums["tok_calls"], sums["tok_true"]),
            "iou_mean": _ratio(sums["iou"], sums["rows"]),
            "iou_face_mean": _ratio(sums["edited_iou"], sums["edited"]),
        }
        return found | {"score": sum(found[name] for name in PARTS) / len(PARTS)}


class Ranking:
    """Rows in ascending order of one score, in groups of equal scores.

    Args:
        scores: (N,), larger means more likely positive.
        positive: (N,).
        clusters: (N,) int, the cluster of each row.
    """

    def __init__(self, scores: Floats, positive: Bools, clusters: Ints) -> None:
        order = np.argsort(scores, kind="stable")
        ranked = scores[order]
        self._cluster = clusters[order]
        self._positive = positive[order].astype(np.float64)
        starts = np.append(0, np.flatnonzero(np.diff(ranked)) + 1)
        self._starts = starts if len(starts) < len(ranked) else None

    def auc(self, counts: Ints) -> float:
        """Return the area under the ROC curve, ties counting half; NaN where a class is missing."""
        positives, everything = self._groups(counts)
        negatives = everything - positives
        below = np.cumsum(negatives) - negatives / 2
        pairs = positives.sum() * negatives.sum()
        return float(positives @ below / pairs) if pairs else float("nan")

    def average_precision(self, counts: Ints) -> float:
        """Return the average precision, ties sharing the precision of their group; NaN without positives."""
        positives, everything = self._groups(counts)
        hits, seen = np.cumsum(positives[::-1]), np.cumsum(everything[::-1])
        if not len(hits) or not hits[-1]:
            return float("nan")
        precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
        return float(precision @ positives[::-1] / hits[-1])

    def _groups(self, counts: Ints) -> tuple[Floats, Floats]:
        """Return how often positives and all rows of each group of equal scores were drawn."""
        everything = counts[self._cluster].astype(np.float64)
        positives = everything * self._positive
        if self._starts is None or not len(everything):
            return positives, everything
        return np.add.reduceat(positives, self._starts), np.add.reduceat(everything, self._starts)


def row_sums(predictions: Predictions) -> dict[str, NDArray[Any]]:
    """Return (N,) of what each row adds to each figure that is a ratio of sums.

    rows (1 each), correct, iou (published), edited (a face-edited row with a true box), edited_iou, and hits,
    calls and true of the row's tokens (tok_) and words (word_).
    """
    fake = predictions.is_fake
    wide = predictions.logits_binary.astype(np.float64)
    margin = wide[:, 1] - wide[:, 0]
    guess, truth = predictions.box_pred_cxcywh, predictions.box_true_cxcywh
    edited = predictions.face_edited & (truth[:, 2:] > 0).all(axis=1)
    label, word, logits = predictions.token_label, predictions.token_word, predictions.logits_token
    used = label >= 0
    called, true = used & (logits[..., 1] > logits[..., 0]), label == 1
    found: dict[str, NDArray[Any]] = {
        "rows": np.ones(len(fake)),
        "correct": ((margin > 0) == fake).astype(np.float64),
        "iou": published_iou(guess, truth).astype(np.float64),
        "edited": edited.astype(np.float64),
        "edited_iou": clamped_iou(guess, truth) * edited,
        "tok_hits": (called & true).sum(axis=1),
        "tok_calls": called.sum(axis=1),
        "tok_true": true.sum(axis=1),
    }
    if word is None:
        return found | {f"word_{name}": found[f"tok_{name}"] for name in ("hits", "calls", "true")}
    words = words_of(logits, label, word)
    rows = len(fake)
    called = words.margin > 0
    return found | {
        "word_hits": np.bincount(words.row, called & words.true, rows),
        "word_calls": np.bincount(words.row, called, rows),
        "word_true": np.bincount(words.row, words.true, rows),
    }


def _ratio(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else float("nan")


def _f1(hits: float, calls: float, true: float) -> float:
    # 2 P R / (P + R) in counts; without a manipulated word there is no recall to speak of.
    return 2 * hits / (calls + true) if true else float("nan")
