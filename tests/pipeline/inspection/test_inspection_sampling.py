from __future__ import annotations

from collections import Counter

import pytest

from pipeline.inspection import sampling
from pipeline.inspection.sampling import Lowest, Noticed, choose, fair_shares, find_noticed, rank
from schemas import open_table
from schemas.vocabulary import FAKE_CLS
from tests.builders import sample_row
from tests.pipeline.inspection.tables import caption, explanation, failure, write_samples, write_texts


def crowd(count, **changes):
    """Samples of which most are orig, as in a real data set: one in twenty of each other class."""
    classes = ["orig"] * 12 + list(FAKE_CLS[1:])
    return [sample_row(n, f"key{n}", f"{n}.png", fake_cls=classes[n % 20], **changes) for n in range(count)]


def open_samples(out, rows):
    write_samples(out, rows)
    return open_table(out, "samples")


def test_the_same_seed_chooses_the_same_samples_and_another_seed_others(tmp_path):
    samples = open_samples(tmp_path, crowd(400))
    once = choose(samples, Noticed(), limit=40, seed=7)
    assert once == choose(samples, Noticed(), limit=40, seed=7)
    assert len(set(once.ids) & set(choose(samples, Noticed(), limit=40, seed=8).ids)) < 20


def test_the_choice_does_not_depend_on_the_order_of_the_rows(tmp_path):
    rows = crowd(300)
    forward = choose(open_samples(tmp_path / "a", rows), Noticed(), limit=50, seed=0)
    backward = choose(open_samples(tmp_path / "b", rows[::-1]), Noticed(), limit=50, seed=0)
    assert forward == backward


def test_rare_classes_get_as_many_places_as_frequent_ones(tmp_path):
    rows = crowd(400)
    selection = choose(open_samples(tmp_path, rows), Noticed(), limit=90, seed=0)
    classes = {row["sample_id"]: row["fake_cls"] for row in rows}
    assert Counter(classes[sample_id] for sample_id in selection.ids) == dict.fromkeys(FAKE_CLS, 10)
    assert selection.available == 400


def test_places_that_a_small_class_cannot_fill_go_to_the_others():
    assert fair_shares({"a": 2, "b": 100, "c": 100}, 30) == {"a": 2, "b": 14, "c": 14}
    assert fair_shares({"a": 2, "b": 3}, 30) == {"a": 2, "b": 3}
    assert fair_shares({}, 30) == {}


@pytest.mark.parametrize("total", range(12))
def test_fair_shares_deal_out_every_place(total):
    shares = fair_shares({"a": 1, "b": 4, "c": 9}, total)
    assert sum(shares.values()) == total
    assert shares["a"] <= 1 and shares["b"] <= 4 and shares["c"] <= 9


def test_every_flagged_and_failed_sample_is_shown_when_they_fit(tmp_path):
    rows = crowd(400)
    flagged = {row["sample_id"] for row in rows[10:20]}
    noticed = Noticed(
        images={"key3": ("captions:empty",)},
        samples=dict.fromkeys(flagged, ("explanations:truncated",)),
    )
    selection = choose(open_samples(tmp_path, rows), noticed, limit=40, seed=0)
    assert flagged | {rows[3]["sample_id"]} <= set(selection.ids)
    assert selection.noticed == 11
    assert len(selection.ids) == len(set(selection.ids)) == 40


def test_flags_take_at_most_their_share_and_a_rare_one_is_not_crowded_out(tmp_path):
    rows = crowd(400)
    noticed = Noticed(
        samples={row["sample_id"]: ("explanations:truncated",) for row in rows[4:]}
        | {row["sample_id"]: ("explanations:repetition",) for row in rows[:4]},
    )
    selection = choose(open_samples(tmp_path, rows), noticed, limit=40, seed=0)
    assert selection.noticed == 20
    assert {row["sample_id"] for row in rows[:4]} <= set(selection.ids)


def test_a_sample_with_two_codes_takes_one_place(tmp_path):
    rows = crowd(40)
    both = ("explanations:truncated", "explanations:repetition")
    selection = choose(
        open_samples(tmp_path, rows),
        Noticed(samples={row["sample_id"]: both for row in rows}),
        limit=20,
        seed=0,
    )
    assert len(selection.ids) == len(set(selection.ids)) == 20
    assert selection.noticed == 10


def test_a_small_table_is_shown_whole(tmp_path):
    rows = crowd(30)
    noticed = Noticed(samples={row["sample_id"]: ("explanations:truncated",) for row in rows})
    selection = choose(open_samples(tmp_path, rows), noticed, limit=200, seed=0)
    assert set(selection.ids) == {row["sample_id"] for row in rows}


def test_only_samples_of_the_split_are_chosen(tmp_path):
    rows = crowd(90)
    selection = choose(open_samples(tmp_path, rows), Noticed(), limit=20, seed=0, split="val")
    assert set(selection.ids) <= {row["sample_id"] for row in rows if row["split"] == "val"}
    assert selection.available == 30
    assert len(selection.ids) == 20


@pytest.mark.parametrize(("count", "limit"), [(0, 20), (20, 0)])
def test_nothing_is_chosen_from_nothing_or_for_no_places(tmp_path, count, limit):
    assert choose(open_samples(tmp_path, crowd(count)), Noticed(), limit=limit, seed=0).ids == ()


def test_flags_and_failures_of_both_tables_are_found(tmp_path):
    rows = crowd(4)
    write_samples(tmp_path, rows)
    write_texts(
        tmp_path,
        "captions",
        [caption("key0", "a b"), caption("key1", "", ["empty", "repetition"])],
        [failure("captions", "key2", "image_missing")],
    )
    write_texts(
        tmp_path,
        "explanations",
        [explanation(rows[0], "a b", ["truncated"])],
        [failure("explanations", rows[1]["sample_id"])],
    )
    tables = [open_table(tmp_path, name) for name in ("captions", "explanations", "failures")]
    assert find_noticed(*tables, 0) == Noticed(
        images={"key1": ("captions:empty", "captions:repetition"), "key2": ("captions:image_missing",)},
        samples={
            rows[0]["sample_id"]: ("explanations:truncated",),
            rows[1]["sample_id"]: ("explanations:engine_error",),
        },
    )


def test_what_is_remembered_of_a_frequent_flag_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "KEPT_PER_CODE", 5)
    write_texts(tmp_path, "captions", [caption(f"key{n}", "a b", ["truncated"]) for n in range(50)])
    found = find_noticed(open_table(tmp_path, "captions"), None, None, seed=0)
    assert set(found.images) == set(sorted((f"key{n}" for n in range(50)), key=lambda key: rank(0, key))[:5])


def test_the_lowest_ranks_are_kept_whatever_the_order():
    lowest = Lowest(3)
    taken = [lowest.offer(place, f"k{place}") for place in (5, 9, 1, 7, 3)]
    assert taken == [True, True, True, True, True]
    assert not lowest.offer(8, "k8")
    assert lowest.keys() == ["k1", "k3", "k5"]
    assert not Lowest(0).offer(1, "k1")
