"""Which rows the gallery shows: the best, the worst and the most surprising, chosen by figures alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.vocabulary import FAKE_CLS
from training.metrics import Predictions
from training.metrics.boxes import clamped_iou
from training.metrics.calibration import p_fake, sigmoid
from training.metrics.confusion import predicted_classes
from training.metrics.words import words_of

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MOST = 6
"""Rows of a group; the best have one per class instead."""

PER_CLASS = 2
"""Rows of one class in a group, so that the easiest or hardest class does not fill it."""


HALF = 0.5
"""A row whose box or words are worse is misplaced, and never a best one."""


@dataclass(frozen=True)
class Marks:
    """How each row was answered.

    Attributes:
        p: (N,) p_fake.
        types: (N, 4) probabilities of the types.
        right: (N,) the verdict is right.
        guess: (N,) predicted class.
        iou: (N,) IoU, NaN on rows without an edited face.
        word_f1: (N,) F1 of the row's words, NaN on rows without a manipulated word.
        grounding: (N,) the worse of the two, NaN where there is neither: a good box does not make up for
            wrong words.
    """

    p: Floats
    types: Floats
    right: Bools
    guess: NDArray[np.str_]
    iou: Floats
    word_f1: Floats
    grounding: Floats


@dataclass(frozen=True)
class Group:
    """A part of the gallery: its rows are positions in the predictions."""

    name: str
    title: str
    about: str
    rows: tuple[int, ...]


def marks_of(predictions: Predictions) -> Marks:
    """Return how each row was answered."""
    p = p_fake(predictions).astype(np.float64)
    wide = predictions.logits_binary.astype(np.float64)
    true = predictions.box_true_cxcywh
    boxed = predictions.face_edited & (true[:, 2:] > 0).all(axis=1)
    iou = np.where(boxed, clamped_iou(predictions.box_pred_cxcywh, true), np.nan)
    word_f1 = _word_f1(predictions)
    return Marks(
        p=p,
        types=sigmoid(predictions.logits_multilabel),
        right=(wide[:, 1] > wide[:, 0]) == predictions.is_fake,
        guess=np.array(predicted_classes(predictions), dtype=str),
        iou=iou,
        word_f1=word_f1,
        grounding=np.fmin(iou, word_f1),
    )


def choose(predictions: Predictions, marks: Marks) -> list[Group]:
    """Return the groups that have rows; no row stands in two. Ties go to the smaller position."""
    fake, classes = predictions.is_fake, predictions.fake_cls
    taken: set[int] = set()
    sure = np.where(fake, marks.p, 1 - marks.p)
    grounded = np.where(np.isfinite(marks.grounding), marks.grounding, 1.0)
    solved = marks.right & (marks.guess == classes) & (grounded >= HALF)
    groups = [
        _group(
            "best", "Best", "For each class the row with the surest right verdict, the right types and "
            "the closest box and words.",
            sure * grounded, solved, classes, taken, per_class=1, most=len(FAKE_CLS),
        ),
        _group(
            "missed", "Worst: missed fakes", "Fakes that the model is surest are real.",
            1 - marks.p, fake & ~marks.right, classes, taken,
        ),
        _group(
            "alarms", "Worst: false alarms", "Real rows that the model is surest are fake.",
            marks.p, ~fake & ~marks.right, classes, taken, per_class=MOST,
        ),
        _group(
            "misplaced", "Surprising: right verdict, wrong place", "Fakes that were found, but whose box or "
            "words are off by more than half.",
            marks.p * (1 - grounded), fake & marks.right & (grounded < HALF), classes, taken,
        ),
        _group(
            "torn", "Surprising: heads that disagree", "The verdict says one thing, the types another.",
            np.abs(marks.p - marks.types.max(axis=1, initial=0)),
            (marks.p > 0.5) != (marks.guess != "orig"), classes, taken,
        ),
    ]  # fmt: skip
    return [group for group in groups if group.rows]


def _group(
    name: str,
    title: str,
    about: str,
    value: Floats,
    eligible: Bools,
    classes: NDArray[np.str_],
    taken: set[int],
    *,
    per_class: int = PER_CLASS,
    most: int = MOST,
) -> Group:
    """Take the rows of the largest values among the eligible ones, and note them as taken."""
    chosen: list[int] = []
    seen: Counter[str] = Counter()
    for row in np.argsort(-value, kind="stable").tolist():
        if len(chosen) == most:
            break
        if eligible[row] and row not in taken and seen[str(classes[row])] < per_class:
            seen[str(classes[row])] += 1
            chosen.append(row)
    taken.update(chosen)
    return Group(name, title, about, tuple(_in_class_order(chosen, classes) if name == "best" else chosen))


def _in_class_order(rows: Sequence[int], classes: NDArray[np.str_]) -> list[int]:
    return sorted(rows, key=lambda row: FAKE_CLS.index(str(classes[row])))


def _word_f1(predictions: Predictions) -> Floats:
    rows = len(predictions)
    if predictions.token_word is None:
        return np.full(rows, np.nan)
    words = words_of(predictions.logits_token, predictions.token_label, predictions.token_word)
    called = words.margin > 0
    hits = np.bincount(words.row, called & words.true, rows)
    true = np.bincount(words.row, words.true, rows)
    calls = np.bincount(words.row, called, rows)
    return np.divide(2 * hits, calls + true, out=np.full(rows, np.nan), where=true > 0)
