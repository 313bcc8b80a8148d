from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from pipeline.ingest import formats
from schemas.vocabulary import QUARANTINE_REASONS
from tests.pipeline.ingest.builder import ingest_rows, quarantine, row, run, samples
from tests.pipeline.ingest.defects import ROW_DEFECTS, write_defective_folder


@pytest.fixture(scope="module")
def defective(tmp_path_factory):
    folder = write_defective_folder(tmp_path_factory.mktemp("dgm4"))
    out = tmp_path_factory.mktemp("out")
    files, root = formats.find_data(folder.data)
    summary = run(out, *files, root=root)
    return folder, out, summary


def test_every_planted_defect_is_in_the_quarantine_under_its_code(defective):
    folder, out, _ = defective
    found = {(Path(bad["source_file"]).name, bad["source_row"]): bad["reason"] for bad in quarantine(out)}
    assert found == folder.expected


def test_every_code_is_planted(defective):
    folder, _, summary = defective
    assert set(folder.expected.values()) == set(QUARANTINE_REASONS)
    assert summary["by_reason"] == folder.by_reason


def test_the_good_rows_survive_among_the_bad(defective):
    folder, out, summary = defective
    assert summary["samples"] == folder.samples == len(samples(out))
    assert (summary["duplicates"], summary["leaked"]) == (folder.duplicates, folder.leaked)
    assert summary["clamped_boxes"] == folder.clamped
    assert summary["by_split"] == {"train": 9, "val": 2, "test": 2}


def test_the_quarantine_keeps_the_row_as_it_stood(defective):
    folder, out, _ = defective
    raw = {(Path(bad["source_file"]).name, bad["source_row"]): bad["raw"] for bad in quarantine(out)}
    for (name, number), text in raw.items():
        stood = json.loads((folder.data / "metadata" / name).read_text())[number]
        # NaN is not equal to itself, its text is.
        assert str(json.loads(text)) == str(stood)


def test_every_message_names_a_value_or_a_file(defective):
    _, out, _ = defective
    for bad in quarantine(out):
        assert len(bad["message"]) > 20
        assert len(bad["message"]) < 600


@pytest.mark.parametrize(
    ("code", "bad"), ROW_DEFECTS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_bad_row_alone_in_its_file_gets_the_same_code_without_images(tmp_path, code, bad):
    summary = ingest_rows(tmp_path, [bad])
    outside = code == "box_outside_image" and min(bad["fake_image_box"][2:]) > 0
    assert summary["by_reason"] == ({} if outside else {code: 1})
    assert Counter(each["reason"] for each in quarantine(tmp_path / "out")) == summary["by_reason"]


def test_bad_rows_do_not_change_what_good_rows_become(tmp_path):
    good = [
        row(n, fake_cls) for n, fake_cls in enumerate(["orig", "face_swap", "text_swap", "face_attribute"])
    ]
    bad = [bad for _, bad in ROW_DEFECTS]
    mixed = [each for pair in zip(bad, good * len(bad), strict=False) for each in pair]
    ingest_rows(tmp_path / "alone", good)
    ingest_rows(tmp_path / "mixed", mixed)
    kept = [each for each in samples(tmp_path / "mixed" / "out") if each["source_id"] < 900]
    assert kept == samples(tmp_path / "alone" / "out")
