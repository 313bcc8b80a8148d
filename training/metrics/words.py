"""Which words: precision, recall, F1 and accuracy, per token as published and per word.

Source: the published protocol (HAMMER's evaluation): argmax of the two logits, counts pooled over all rows,
ignored tokens left out. That counts a long word once per token, so the figures of two tokenisers cannot be
compared; the figures per word can. A word's score is the largest margin among its tokens, and a word is
predicted as manipulated when that is above 0.

Defined values: 0/0 is 0.0. A tie of the two logits means kept, as argmax has it. Without word indices every
token counts as a word.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.metrics.fractions import harmonic, ratio

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Bools = NDArray[np.bool_]


def word_metrics(logits: Floats, label: Ints, word: Ints | None, notes: list[str]) -> dict[str, float]:
    """Return tok_acc, tok_precision, tok_recall, tok_f1 and the same per word, word_acc and so on.

    Args:
        logits: (N, T, 2), kept and manipulated.
        label: (N, T): 1 manipulated, 0 kept, below 0 ignored.
        word: (N, T), index of the token's word, below 0 for none; None when it is not known.
        notes: Receives a sentence for each value that is defined rather than measured.
    """
    used = label >= 0
    predicted, true = logits[used][:, 1] > logits[used][:, 0], label[used] == 1
    found = _scores("tok", predicted, true)
    if not len(true):
        notes.append("no labelled token: the tok and word figures are set to 0")
    elif not true.any():
        notes.append("no manipulated token: recall and f1 of tokens and words are set to 0")
    elif not predicted.any():
        notes.append(
            "no token is predicted as manipulated: precision and f1 of tokens and words are set to 0"
        )
    if word is None:
        notes.append("no token_word: the word figures count every token as a word")
        return found | _scores("word", predicted, true)
    stray = int((used & (word < 0)).sum())
    if stray:
        notes.append(f"{stray} labelled tokens belong to no word: left out of the word figures")
    margin, of_word = per_word(logits, label, word)
    return found | _scores("word", margin > 0, of_word)


@dataclass(frozen=True)
class Words:
    """The words of N rows one after the other, W in all; only words that have a labelled token.

    Attributes:
        row: (W,) int, ascending.
        number: (W,) int, index of the word in its row's words.
        margin: (W,) float64, the largest margin of its tokens' two logits; above 0 means manipulated.
        true: (W,) bool, one of its tokens is labelled manipulated.
    """

    row: Ints
    number: Ints
    margin: Floats
    true: Bools


def words_of(logits: Floats, label: Ints, word: Ints) -> Words:
    """Return the words of all rows, row by row.

    Args:
        logits: (N, T, 2).
        label: (N, T).
        word: (N, T).
    """
    rows, places = np.nonzero((label >= 0) & (word >= 0))
    if not len(rows):
        none = np.zeros(0, dtype=np.int64)
        return Words(none, none, np.zeros(0), np.zeros(0, dtype=bool))
    number = word[rows, places].astype(np.int64)
    most = int(number.max()) + 1
    key = rows * most + number
    pair = logits[rows, places].astype(np.float64)
    margin, true = pair[:, 1] - pair[:, 0], label[rows, places] == 1
    if (np.diff(key) < 0).any():
        order = np.argsort(key, kind="stable")
        key, margin, true = key[order], margin[order], true[order]
    first = np.append(0, np.flatnonzero(np.diff(key)) + 1)
    largest, any_true = np.maximum.reduceat(margin, first), np.logical_or.reduceat(true, first)
    return Words(key[first] // most, key[first] % most, largest, any_true)


def per_word(logits: Floats, label: Ints, word: Ints) -> tuple[Floats, Bools]:
    """Return the score and the label of every word that has a labelled token, row by row.

    Args:
        logits: (N, T, 2).
        label: (N, T).
        word: (N, T).
    """
    found = words_of(logits, label, word)
    return found.margin, found.true


def _scores(prefix: str, predicted: Bools, true: Bools) -> dict[str, float]:
    hits = int((predicted & true).sum())
    precision, recall = ratio(hits, predicted.sum()), ratio(hits, true.sum())
    return {
        f"{prefix}_acc": ratio(int((predicted == true).sum()), len(true)),
        f"{prefix}_precision": precision,
        f"{prefix}_recall": recall,
        f"{prefix}_f1": harmonic(precision, recall),
    }
