from __future__ import annotations

import numpy as np
import pytest

from tests.training.metrics.cases import some
from training.metrics.words import word_metrics


def measure(margin, label, word=None):
    margin = np.asarray(margin, dtype=np.float32)
    notes: list[str] = []
    logits = np.stack([np.zeros_like(margin), margin], axis=-1)
    found = word_metrics(logits, np.asarray(label), None if word is None else np.asarray(word), notes)
    return found, notes


def slow_words(predictions):
    tp = fp = fn = tn = 0
    for row in range(len(predictions)):
        words: dict[int, list[int]] = {}
        for place, number in enumerate(predictions.token_word[row].tolist()):
            if number >= 0 and predictions.token_label[row, place] >= 0:
                words.setdefault(number, []).append(place)
        for places in words.values():
            logits = predictions.logits_token[row, places]
            guess = any(manipulated > kept for kept, manipulated in logits)
            true = any(predictions.token_label[row, place] == 1 for place in places)
            tp, fp = tp + (guess and true), fp + (guess and not true)
            fn, tn = fn + (true and not guess), tn + (not guess and not true)
    return {
        "word_acc": (tp + tn) / (tp + tn + fp + fn),
        "word_precision": tp / (tp + fp),
        "word_recall": tp / (tp + fn),
        "word_f1": 2 * tp / (2 * tp + fp + fn),
    }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shuffled", [False, True])
def test_words_equal_a_loop_in_any_order_of_tokens(seed, shuffled):
    predictions = some(60, seed=seed)
    logits, label, word = predictions.logits_token, predictions.token_label, predictions.token_word
    if shuffled:
        order = np.random.default_rng(seed).permutation(word.shape[1])
        logits, label, word = logits[:, order], label[:, order], word[:, order]
    found = word_metrics(logits, label, word, [])
    for name, value in slow_words(predictions).items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


def test_a_word_is_as_suspicious_as_its_worst_token_and_counts_once():
    found, notes = measure([[9, -1, 2, -3, -1, 5]], [[-100, 1, 1, 1, 0, -100]], [[-1, 0, 0, 0, 1, -1]])
    assert found["tok_recall"] == pytest.approx(1 / 3) and found["tok_precision"] == 1
    assert found["word_recall"] == found["word_f1"] == found["word_acc"] == 1
    assert notes == []


def test_equal_logits_mean_kept():
    found, _ = measure([[0, 0]], [[0, 1]], [[0, 1]])
    assert found["tok_acc"] == found["word_acc"] == 0.5


def test_without_word_indices_tokens_count_as_words_and_a_note_says_so():
    found, notes = measure([[1, -1, 1]], [[1, 0, 0]])
    assert found["word_f1"] == found["tok_f1"] == pytest.approx(2 / 3)
    assert notes == ["no token_word: the word figures count every token as a word"]


@pytest.mark.parametrize(
    ("margin", "label", "note"),
    [
        ([[1, -1]], [[0, 0]], "no manipulated token"),
        ([[-1, -1]], [[1, 0]], "no token is predicted"),
        ([[1, 1]], [[-100, -100]], "no labelled token"),
        (np.zeros((0, 2)), np.zeros((0, 2), dtype=int), "no labelled token"),
        (np.zeros((3, 0)), np.zeros((3, 0), dtype=int), "no labelled token"),
    ],
)
def test_nothing_to_find_or_nothing_found_gives_zeros_with_a_note(margin, label, note):
    word = np.zeros_like(np.asarray(label))
    found, notes = measure(margin, label, word)
    assert found["tok_f1"] == found["word_f1"] == 0
    assert len(notes) == 1 and note in notes[0]


def test_labelled_tokens_of_no_word_are_named():
    found, notes = measure([[1, 1]], [[1, 1]], [[-1, -1]])
    assert found["tok_f1"] == 1 and found["word_f1"] == 0
    assert notes == ["2 labelled tokens belong to no word: left out of the word figures"]
