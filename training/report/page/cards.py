"""A card of the gallery: one row with its picture, its text, the truth and what the model said."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from schemas.vocabulary import MANIPULATION_TYPES
from training.metrics import Predictions
from training.metrics.prediction_table import pixel_boxes
from training.metrics.words import words_of
from training.report.page.cases import Group, Marks, choose, marks_of
from training.report.page.pictures import Thumbnail, thumbnail
from training.report.page.saved import Saved

MOST_WORDS = 120
"""Words of a text that are shown."""

# C0 controls except tab and newline, DEL, C1 controls: not allowed in HTML text, and invisible.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_STATES = {(True, True): "hit", (True, False): "lost", (False, True): "alarm", (False, False): ""}


class Box(NamedTuple):
    """A box, xywh in pixels of the picture in the file."""

    x: float
    y: float
    width: float
    height: float


class Run(NamedTuple):
    """Neighbouring words that were answered alike.

    Attributes:
        text: The words.
        state: ``hit`` (manipulated and marked), ``lost`` (manipulated, not marked), ``alarm`` (marked, not
            manipulated), or empty.
    """

    text: str
    state: str


@dataclass(frozen=True)
class Card:
    """What the gallery shows of a row.

    Attributes:
        sample_id: Its key.
        image_path: Where the picture lies below the image root.
        picture: The picture.
        fake_cls: Its class.
        guess: The predicted class.
        p_fake: Probability of fake.
        right: The verdict is right.
        types: Probability of each type, in the order of the vocabulary.
        true_box: The edited face, or None.
        box: The predicted box, or None.
        runs: The text.
        iou: IoU, or None without an edited face.
        word_f1: F1 of the row's words, or None without a manipulated word.
    """

    sample_id: str
    image_path: str
    picture: Thumbnail
    fake_cls: str
    guess: str
    p_fake: float
    right: bool
    types: tuple[tuple[str, float], ...]
    true_box: Box | None
    box: Box | None
    runs: tuple[Run, ...]
    iou: float | None
    word_f1: float | None


def gallery(saved: Saved) -> list[tuple[Group, list[Card]]]:
    """Return the groups of the gallery with their cards."""
    marks = marks_of(saved.predictions)
    groups = choose(saved.predictions, marks)
    rows = [row for group in groups for row in group.rows]
    if not rows:
        return []
    chosen = saved.predictions.take(np.array(rows))
    assert chosen.sample_id is not None
    samples = saved.samples(chosen.sample_id.tolist())
    cards = {
        row: _card(saved, chosen.take(np.array([k])), samples[str(chosen.sample_id[k])], marks, row)
        for k, row in enumerate(rows)
    }
    return [(group, [cards[row] for row in group.rows]) for group in groups]


def _card(saved: Saved, one: Predictions, sample: Mapping[str, Any], marks: Marks, row: int) -> Card:
    size = (sample["width"] or 0, sample["height"] or 0)
    if one.image_size is not None:
        size = (int(one.image_size[0, 0]), int(one.image_size[0, 1]))
    true = sample["fake_image_box"]
    predicted = None
    if one.image_size is not None:
        boxes, there = pixel_boxes(one)
        predicted = _box(boxes[0].tolist()) if there[0] else None
    name = str(sample["image_path"])
    return Card(
        sample_id=sample["sample_id"],
        image_path=clean(name),
        picture=thumbnail(saved.image_root, name, sample["sample_id"], size),
        fake_cls=sample["fake_cls"],
        guess=str(marks.guess[row]),
        p_fake=float(marks.p[row]),
        right=bool(marks.right[row]),
        types=tuple(zip(MANIPULATION_TYPES, marks.types[row].tolist(), strict=True)),
        true_box=None if true is None else _box(true),
        box=predicted,
        runs=tuple(runs_of(sample["words"], set(sample["fake_text_pos"]), _called(one))),
        iou=_known(marks.iou[row]),
        word_f1=_known(marks.word_f1[row]),
    )


def runs_of(words: list[str], true: set[int], called: set[int]) -> list[Run]:
    """Return a text as runs of words.

    Args:
        words: The words of the text.
        true: Indexes of the manipulated words.
        called: Indexes of the words that the model marks.
    """
    states = [_STATES[k in true, k in called] for k in range(len(words))]
    shown = zip(words[:MOST_WORDS], states[:MOST_WORDS], strict=True)
    runs = [
        Run(clean(" ".join(word for word, _ in group)), state)
        for state, group in groupby(shown, key=lambda pair: pair[1])
    ]
    if len(words) > MOST_WORDS:
        runs.append(Run(f"… ({len(words) - MOST_WORDS:,} more words)", ""))
    return runs


def clean(text: str) -> str:
    """Return a text without control characters."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def _called(one: Predictions) -> set[int]:
    if one.token_word is None:
        return set()
    words = words_of(one.logits_token, one.token_label, one.token_word)
    return set(words.number[words.margin > 0].tolist())


def _box(corners: list[float]) -> Box:
    x1, y1, x2, y2 = (round(value, 1) for value in corners)
    return Box(x1, y1, round(x2 - x1, 1), round(y2 - y1, 1))


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
