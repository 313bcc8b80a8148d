"""Duplicates, leakage between splits, contradictions, and the original texts."""

from __future__ import annotations

import random

import pytest

from schemas.layout import current_version
from schemas.vocabulary import SPLIT_PRIORITY
from tests.pipeline.ingest.builder import TEXT, ingest_rows, quarantine, row, run, samples, write_json


def ingest_splits(tmp_path, **splits):
    files = [write_json(tmp_path / f"{split}.json", rows) for split, rows in splits.items()]
    return run(tmp_path / "out", *files)


def test_an_exact_duplicate_is_kept_once_and_counted(tmp_path):
    rows = [row(1, "face_swap"), row(2), row(1, "face_swap"), row(1, "face_swap"), row(3)]
    summary = ingest_rows(tmp_path, rows)
    assert (summary["samples"], summary["duplicates"], summary["leaked"]) == (3, 2, 0)
    assert [sample["source_id"] for sample in samples(tmp_path / "out")] == [1, 2, 3]


def test_rows_are_the_same_whatever_way_they_are_written(tmp_path):
    base = row(1, "face_swap&text_swap", fake_text_pos=[1, 3])
    same = [
        base | {"fake_text_pos": [3, 1, 3]},
        base | {"fake_image_box": [4.0, 6.0, 20.0, 22.0]},
        base | {"image": "./" + base["image"]},
        base | {"mtcnn_boxes": []},
    ]
    assert ingest_rows(tmp_path, [base, *same])["duplicates"] == 4


@pytest.mark.parametrize(
    "field, value", [("id", 9), ("image", "DGM4/origin/z.jpg"), ("text", f"{TEXT} again")]
)
def test_rows_that_differ_in_a_key_field_are_different_samples(tmp_path, field, value):
    summary = ingest_rows(tmp_path, [row(1), row(1) | {field: value}])
    assert (summary["samples"], summary["duplicates"]) == (2, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"fake_cls": "face_attribute&text_swap"},
        {"fake_image_box": [4, 6, 20, 23]},
        {"fake_text_pos": [1, 4]},
        {"fake_text_pos": [1]},
        {"fake_cls": "text_swap", "fake_image_box": []},
        {"fake_cls": "face_swap", "fake_text_pos": []},
    ],
)
def test_a_contradicting_annotation_goes_to_the_quarantine(tmp_path, change):
    base = row(1, "face_swap&text_swap", fake_text_pos=[1, 3])
    summary = ingest_rows(tmp_path, [row(5), base, base | change, base])
    assert (summary["samples"], summary["duplicates"]) == (2, 1)
    (bad,) = quarantine(tmp_path / "out")
    assert (bad["source_row"], bad["reason"]) == (2, "conflicting_duplicate")
    assert "row 1 of" in bad["message"]
    kept = samples(tmp_path / "out")[1]
    assert (kept["fake_cls"], kept["fake_text_pos"]) == ("face_swap&text_swap", [1, 3])


@pytest.mark.parametrize(
    "order", [("train", "val", "test"), ("test", "val", "train"), ("val", "train", "test")]
)
def test_a_row_in_several_splits_stays_in_the_evaluated_one(tmp_path, order):
    rows = {"train": [row(1), row(2), row(3)], "val": [row(2), row(3)], "test": [row(3)]}
    summary = ingest_splits(tmp_path, **{split: rows[split] for split in order})
    assert (summary["samples"], summary["duplicates"], summary["leaked"]) == (3, 3, 3)
    assert summary["leaked_by_split"] == {"train -> test": 1, "train -> val": 1, "val -> test": 1}
    kept = {sample["source_id"]: sample["split"] for sample in samples(tmp_path / "out")}
    assert kept == {1: "train", 2: "val", 3: "test"}


def test_a_contradiction_between_splits_keeps_the_evaluated_row(tmp_path):
    right, wrong = row(1, "text_swap", fake_text_pos=[2]), row(1, "text_swap", fake_text_pos=[3])
    summary = ingest_splits(tmp_path, train=[wrong], test=[right])
    assert (summary["leaked"], summary["by_reason"]) == (0, {"conflicting_duplicate": 1})
    assert samples(tmp_path / "out")[0]["fake_text_pos"] == [2]


def naive_account(rows_by_split):
    """Return samples, duplicates and conflicts, by the definition alone."""
    kept, duplicates, conflicts = {}, 0, 0
    for split in SPLIT_PRIORITY:
        for each in rows_by_split.get(split, []):
            key = each["id"], each["image"], each["text"]
            annotation = each["fake_cls"], tuple(each["fake_image_box"]), tuple(each["fake_text_pos"])
            if key not in kept:
                kept[key] = split, annotation
            elif kept[key][1] == annotation:
                duplicates += 1
            else:
                conflicts += 1
    return kept, duplicates, conflicts


@pytest.mark.parametrize("seed", range(20))
def test_random_repeats_agree_with_the_definition(tmp_path, seed):
    rng = random.Random(seed)
    pool = [row(n, rng.choice(["orig", "face_swap", "text_swap"])) for n in range(12)]
    pool += [each | {"fake_cls": "face_attribute"} for each in pool if each["fake_cls"] == "face_swap"]
    pool += [each | {"fake_text_pos": [1, 2]} for each in pool if each["fake_cls"] == "text_swap"]
    rows = {split: rng.choices(pool, k=rng.randint(1, 30)) for split in SPLIT_PRIORITY}
    summary = ingest_splits(tmp_path, **rows)
    kept, duplicates, conflicts = naive_account(rows)
    assert (summary["samples"], summary["duplicates"]) == (len(kept), duplicates)
    assert summary["by_reason"].get("conflicting_duplicate", 0) == conflicts
    found = {
        (each["source_id"], each["image_path"], each["text"]): each for each in samples(tmp_path / "out")
    }
    assert {key: (each["split"], each["fake_cls"]) for key, each in found.items()} == {
        key: (split, annotation[0]) for key, (split, annotation) in kept.items()
    }


ORIGINAL = "Ada Moss praises the new bridge in Lima"
CHANGED = "Ada Moss blames the new bridge in Lima"


def original_of(tmp_path, *rows, **splits):
    """Ingest rows as train, others by split; return the first row's original text and how it was joined."""
    ingest_splits(tmp_path, train=list(rows), **splits)
    sample = samples(tmp_path / "out")[0]
    return sample["original_text"], sample["original_from"]


def fake(number=1, **changes):
    return row(number, "text_attribute", text=CHANGED, fake_text_pos=[2]) | changes


def test_the_original_is_joined_by_id_in_any_split(tmp_path):
    original = row(1, text=ORIGINAL, image="DGM4/origin/other.jpg")
    assert original_of(tmp_path / "a", fake(), original) == (ORIGINAL, "id")
    assert original_of(tmp_path / "b", fake(), test=[original]) == (ORIGINAL, "id")


def test_without_an_id_the_same_image_tells_the_original(tmp_path):
    original = row(7, text=ORIGINAL, image=fake()["image"])
    assert original_of(tmp_path, fake(), original) == (ORIGINAL, "image_path")


def test_without_either_the_original_is_unknown(tmp_path):
    assert original_of(tmp_path, fake(), row(7, text=ORIGINAL)) == (None, None)


def test_a_manipulated_row_is_nobodys_original(tmp_path):
    assert original_of(tmp_path, fake(), row(1, "text_swap"), row(1, "face_swap")) == (None, None)


def test_of_several_originals_the_one_with_the_same_image_wins(tmp_path):
    others = [
        row(1, text=f"{CHANGED} today", image="DGM4/origin/x.jpg"),
        row(1, text="Far off", image=fake()["image"]),
    ]
    assert original_of(tmp_path, fake(), *others) == ("Far off", "id")


def test_of_several_originals_without_the_image_the_closest_text_wins(tmp_path):
    texts = ["Storm closes the port", ORIGINAL, "Ada Moss sings"]
    others = [row(1, text=text, image=f"DGM4/origin/{n}.jpg") for n, text in enumerate(texts)]
    assert original_of(tmp_path, fake(), *others) == (ORIGINAL, "id")


def test_of_equally_close_originals_the_first_wins(tmp_path):
    others = [row(1, text=f"Storm {n}", image=f"DGM4/origin/{n}.jpg") for n in range(4)]
    assert original_of(tmp_path, fake(), *others) == ("Storm 0", "id")


def test_an_edited_face_is_joined_only_to_its_own_text(tmp_path):
    face = row(1, "face_swap", text=ORIGINAL)
    assert original_of(tmp_path / "a", face, row(1, text=CHANGED), row(1, text=ORIGINAL)) == (ORIGINAL, "id")
    assert original_of(tmp_path / "b", face, row(1, text=CHANGED)) == (None, None)


def test_an_original_has_no_original(tmp_path):
    assert original_of(tmp_path, row(1), row(1, image="DGM4/origin/x.jpg")) == (None, None)


def test_an_original_without_an_image_file_still_serves(tmp_path):
    from tests.pipeline.ingest.builder import write_images

    write_images(tmp_path, [fake(image="DGM4/origin/other.jpg")])
    path = write_json(tmp_path / "train.json", [fake(image="DGM4/origin/other.jpg"), row(1, text=ORIGINAL)])
    summary = run(tmp_path / "out", path, root=tmp_path)
    assert summary["by_reason"] == {"missing_image": 1}
    assert samples(tmp_path / "out")[0]["original_text"] == ORIGINAL


def test_coverage_counts_text_manipulated_samples_only(tmp_path):
    rows = [fake(1), row(1, text=ORIGINAL), fake(2), fake(3), row(9, text=ORIGINAL, image=fake(3)["image"])]
    rows += [row(4, "face_swap"), row(5, "face_attribute")]
    summary = ingest_rows(tmp_path, rows)
    assert summary["text_manipulated"] == 3
    assert summary["original_text_coverage"] == pytest.approx(2 / 3)
    assert summary["original_text_by"] == {"id": 1, "image_path": 1, "unknown": 1}


def test_coverage_is_null_when_no_text_was_manipulated(tmp_path):
    assert ingest_rows(tmp_path, [row(1)])["original_text_coverage"] is None


def test_the_same_rows_give_the_same_version(tmp_path):
    rows = [fake(n) for n in range(5)] + [row(n, text=ORIGINAL) for n in range(5)]
    versions = []
    for _ in range(2):
        ingest_rows(tmp_path, rows)
        versions.append(current_version(tmp_path / "out", "samples").name)
    ingest_rows(tmp_path, rows[1:])
    assert versions[0] == versions[1] != current_version(tmp_path / "out", "samples").name
