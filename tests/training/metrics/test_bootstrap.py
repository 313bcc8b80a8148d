from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.training.metrics.cases import golden, some
from training.metrics import evaluate
from training.metrics.bootstrap import cluster_index, draw_figures, interval_of, intervals
from training.metrics.predictions import empty
from training.metrics.resample import FIGURES, Resampler


def tied(rows: int = 60):
    """Predictions whose scores take few values."""
    made = some(rows, seed=3)
    coarse = {name: np.round(getattr(made, name)) for name in ("logits_binary", "logits_multilabel")}
    return replace(made, **coarse)


def own_clusters(predictions):
    return np.arange(len(predictions))


@pytest.mark.parametrize("predictions", [some(90), tied(), golden()[0]], ids=["random", "tied", "golden"])
def test_rows_drawn_once_each_score_what_evaluate_says(predictions):
    found = Resampler(predictions, own_clusters(predictions)).figures(np.ones(len(predictions), dtype=int))
    expected = evaluate(predictions)
    assert set(found) == set(FIGURES)
    np.testing.assert_allclose(
        [found[name] for name in FIGURES], [expected[name] for name in FIGURES], rtol=1e-9
    )


@pytest.mark.parametrize("predictions", [some(90), tied()], ids=["random", "tied"])
def test_a_draw_scores_what_its_copied_rows_score(predictions):
    random = np.random.default_rng(5)
    clusters = random.integers(0, 25, len(predictions))
    clusters = cluster_index(clusters.tolist())
    resampler = Resampler(predictions, clusters)
    for _ in range(5):
        counts = np.bincount(
            random.integers(0, resampler.clusters, resampler.clusters), minlength=resampler.clusters
        )
        copied = predictions.take(np.repeat(np.arange(len(predictions)), counts[clusters]))
        found, expected = resampler.figures(counts), evaluate(copied)
        for name in FIGURES:
            assert found[name] == pytest.approx(expected[name], rel=1e-9), name


def test_without_words_tokens_stand_for_them():
    predictions = replace(some(60), token_word=None)
    found = Resampler(predictions, own_clusters(predictions)).figures(np.ones(60, dtype=int))
    assert found["word_f1"] == pytest.approx(evaluate(predictions)["word_f1"])


def test_a_row_without_source_is_a_cluster_of_its_own():
    assert cluster_index([7, None, 3, 7, None, 3]).tolist() == [0, 1, 2, 0, 3, 2]
    assert len(cluster_index([])) == 0


def test_copies_of_a_row_in_its_cluster_do_not_narrow_the_interval():
    single = some(60)
    threefold = single.take(np.repeat(np.arange(60), 3))
    alone = draw_figures(single, own_clusters(single), 50)
    together = draw_figures(threefold, np.repeat(np.arange(60), 3), 50)
    apart = draw_figures(threefold, own_clusters(threefold), 50)
    np.testing.assert_allclose(together["acc"], alone["acc"])
    np.testing.assert_allclose(together["auc"], alone["auc"])
    assert apart["acc"].std() < 0.8 * alone["acc"].std(), "as if there were three times the evidence"


def test_the_same_seed_gives_the_same_draws_and_pairs_two_models():
    first, other = some(90, seed=1), some(90, seed=1)
    better = replace(
        other, logits_binary=first.logits_binary + np.where(first.is_fake, 1, -1)[:, None] * [0, 3]
    )
    clusters = own_clusters(first)
    mine, again = draw_figures(first, clusters, 40), draw_figures(first, clusters, 40)
    assert all(np.array_equal(mine[name], again[name]) for name in FIGURES)
    theirs = draw_figures(better, clusters, 40)
    assert np.array_equal(mine["iou_mean"], theirs["iou_mean"]), "boxes are the same, and so are the draws"
    assert (theirs["auc"] > mine["auc"]).all()


def test_an_interval_holds_its_figure_and_narrows_with_more_rows():
    widths = []
    for rows in (90, 1440):
        predictions, notes = some(rows), []
        found = intervals(predictions, own_clusters(predictions), 200, notes)
        expected = evaluate(predictions)
        assert notes == [] and set(found["figures"]) == set(FIGURES)
        for name in FIGURES:
            low, high = interval_of(found, name)
            assert low < expected[name] < high, name
        low, high = interval_of(found, "acc")
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.3)


def test_the_interval_of_a_share_is_the_binomial_one():
    predictions = some(900)
    low, high = interval_of(intervals(predictions, own_clusters(predictions), 1000, []), "acc")
    share = evaluate(predictions)["acc"]
    assert high - low == pytest.approx(2 * 1.96 * (share * (1 - share) / 900) ** 0.5, rel=0.1)


def test_draws_without_a_needed_row_are_left_out_and_told():
    # One fake row among nine: about a third of the draws hold none.
    predictions = some(90).take(np.array([1, *range(0, 72, 9)]))
    notes: list[str] = []
    found = intervals(predictions, own_clusters(predictions), 200, notes)
    figures = found["figures"]
    assert 100 < figures["auc"]["draws"] < 180 and figures["acc"]["draws"] == 200
    assert any(f"auc is undefined in {200 - figures['auc']['draws']} of 200 draws" in note for note in notes)
    assert figures["word_f1"] == {"low": None, "high": None, "draws": 0}
    assert any("word_f1 is undefined in 200 of 200 draws: it has no interval" in note for note in notes)


@pytest.mark.parametrize("predictions", [empty(), some(9)], ids=["no rows", "one source item"])
def test_nothing_to_resample_gives_no_interval_and_a_note(predictions):
    notes: list[str] = []
    found = intervals(predictions, np.zeros(len(predictions), dtype=int), 100, notes)
    assert interval_of(found, "auc") is None and "nothing to resample" in notes[0]


def test_no_draws_give_no_figures():
    notes: list[str] = []
    found = intervals(some(9), own_clusters(some(9)), 0, notes)
    assert found["figures"] == {} and notes == [] and interval_of(found, "auc") is None
