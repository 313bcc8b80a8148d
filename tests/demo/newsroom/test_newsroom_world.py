from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from demo.newsroom import Item, changed_positions, generate_items
from demo.newsroom.scene import looks_facts
from demo.newsroom.world import PROPORTIONS, quotas


def test_the_same_arguments_give_the_same_rows_and_another_seed_others() -> None:
    assert list(generate_items(150, 3)) == list(generate_items(150, 3))
    texts = {i.text for i in generate_items(150, 3)}
    assert len(texts & {i.text for i in generate_items(150, 4)}) < 5


def test_classes_have_the_published_proportions_in_every_split(items: list[Item]) -> None:
    for split, share in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
        rows = [i for i in items if i.split == split]
        assert len(rows) == round(share * len(items))
        counts = Counter(i.fake_cls for i in rows)
        for name, percent in PROPORTIONS.items():
            assert abs(counts[name] - percent / 100 * len(rows)) < 1.01


def test_splits_share_no_source_and_no_picture(items: list[Item]) -> None:
    for key in ("id", "image"):
        splits = defaultdict(set)
        for item in items:
            splits[item.annotation[key]].add(item.split)
        assert all(len(s) == 1 for s in splits.values())


def test_rows_are_distinct(items: list[Item]) -> None:
    keys = [(i.annotation["id"], i.image, i.text) for i in items]
    assert len(set(keys)) == len(keys)


def test_boxes_lie_in_the_picture_and_only_where_a_face_was_edited(items: list[Item]) -> None:
    for item in items:
        edited = "face" in item.fake_cls
        box = item.annotation["fake_image_box"]
        assert bool(box) == edited
        for x1, y1, x2, y2 in [*([box] if box else []), *item.annotation["mtcnn_boxes"]]:
            assert all(type(v) is int for v in (x1, y1, x2, y2))
            assert 0 <= x1 < x2 <= item.view.width
            assert 0 <= y1 < y2 <= item.view.height


def test_positions_are_the_words_that_differ_from_the_original_text(items: list[Item]) -> None:
    for item in items:
        positions = item.annotation["fake_text_pos"]
        assert bool(positions) == ("text" in item.fake_cls)
        assert positions == changed_positions(item.original_text, item.text)
        assert all(0 <= p < len(item.text.split()) for p in positions)


def test_text_attribute_changes_one_to_four_words_in_place(items: list[Item]) -> None:
    rows = [i for i in items if "text_attribute" in i.fake_cls]
    for item in rows:
        before, after = item.original_text.split(), item.text.split()
        changed = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
        assert changed == item.annotation["fake_text_pos"]
        assert 1 <= len(changed) <= 4
    assert len({len(i.annotation["fake_text_pos"]) for i in rows}) > 1


def test_a_swapped_text_is_about_the_same_person_and_mostly_another_rows_text(items: list[Item]) -> None:
    rows = [i for i in items if "text_swap" in i.fake_cls]
    pristine = {i.text for i in items if i.fake_cls == "orig"}
    for item in rows:
        assert item.original_scene.named.name in item.text.replace("\u2019", "'")
    assert 0.5 < sum(i.text in pristine for i in rows) / len(rows) < 0.95


def test_a_face_swap_shows_looks_that_contradict_the_name(items: list[Item]) -> None:
    for item in items:
        same = looks_facts(item.scene.looks) == looks_facts(item.scene.named)
        assert same == ("face_swap" not in item.fake_cls)


def test_a_face_attribute_edit_changes_the_expression_and_nothing_else(items: list[Item]) -> None:
    for item in items:
        changed = item.scene.expression != item.original_scene.expression
        assert changed == ("face_attribute" in item.fake_cls)
        assert item.scene.object == item.original_scene.object
        assert item.scene.place == item.original_scene.place


def test_rows_without_a_face_edit_keep_the_origin_picture_of_their_story(items: list[Item]) -> None:
    origin: dict[object, set[str]] = defaultdict(set)
    for item in items:
        folder = item.image.split("/")[1]
        assert folder == ("manipulation" if "face" in item.fake_cls else "origin")
        if folder == "origin":
            origin[item.annotation["id"]].add(item.image)
    assert all(len(images) == 1 for images in origin.values())
    edited = [i.image for i in items if "face" in i.fake_cls]
    assert len(set(edited)) == len(edited)


def test_methods_match_the_kind_of_edit(items: list[Item]) -> None:
    methods = {"face_swap": {"infoswap", "simswap"}, "face_attribute": {"StyleCLIP", "HFGI"}}
    seen = defaultdict(set)
    for item in items:
        if "face" in item.fake_cls:
            seen[item.fake_cls.split("&")[0]].add(item.image.split("/")[2])
    assert dict(seen) == methods


def test_most_manipulated_rows_but_not_all_have_their_original_in_the_data_set(items: list[Item]) -> None:
    known = {i.annotation["id"]: i.text for i in items if i.fake_cls == "orig"}
    manipulated = [i for i in items if i.fake_cls != "orig"]
    joined = [i for i in manipulated if i.annotation["id"] in known]
    assert 0.83 < len(joined) / len(manipulated) < 0.92
    assert all(known[i.annotation["id"]] == i.original_text for i in joined)


def test_a_story_added_for_a_repeated_text_may_be_about_somebody_new() -> None:
    # In this world the only story of one person is such an added one.
    assert len(list(generate_items(800, 21))) == 800


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 12, 40])
def test_small_worlds_have_exactly_the_rows_asked_for(n: int) -> None:
    for seed in range(4):
        assert len(list(generate_items(n, seed))) == n


def test_split_shares_can_be_chosen() -> None:
    rows = list(generate_items(50, 1, shares={"train": 0, "val": 0, "test": 1}))
    assert {i.split for i in rows} == {"test"}
    assert len(rows) == 50


def test_quotas_add_up_and_give_the_rest_to_the_largest_remainders() -> None:
    assert quotas(10, {"a": 0.54, "b": 0.36, "c": 0.1}) == {"a": 5, "b": 4, "c": 1}
    assert sum(quotas(17, PROPORTIONS).values()) == 17


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": -1}, "samples is -1"),
        ({"traces": 1.5}, "traces is 1.5"),
        ({"shares": {"train": -1.0, "val": 2.0}}, "split shares"),
        ({"shares": {"train": 0.0}}, "split shares"),
    ],
)
def test_unusable_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(generate_items(**{"n": 5, "seed": 1, **arguments}))
