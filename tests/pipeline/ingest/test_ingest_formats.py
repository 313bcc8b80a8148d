"""JSONL, CSV and Parquet with a column mapping; splits from file names; finding a data folder."""

from __future__ import annotations

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UsageError
from pipeline.ingest import formats
from pipeline.ingest.records import number_of
from tests.pipeline.ingest.builder import quarantine, row, run, samples, write_images, write_json

NEWS = [row(1), row(2, "face_swap"), row(3, "text_swap"), row(4, "face_attribute&text_attribute")]
COLUMNS = {
    "id": "uid",
    "image": "file",
    "text": "caption",
    "fake_cls": "label",
    "fake_image_box": "bbox",
    "fake_text_pos": "changed",
}


def foreign(rows):
    """Return rows with the names that another data set might use."""
    return [{name: each[field] for field, name in COLUMNS.items()} | {"note": "ignored"} for each in rows]


def write(path, records):
    """Write records in the format that the suffix names."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(
                stream, list(records[0]), delimiter="\t" if path.suffix == ".tsv" else ","
            )
            writer.writeheader()
            for record in records:
                writer.writerow({k: json.dumps(v) if isinstance(v, list) else v for k, v in record.items()})
    return path


def without_image_root(sample):
    return {name: value for name, value in sample.items() if name != "image_path"}


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "parquet"])
@pytest.mark.parametrize("mapped", [False, True])
def test_every_format_gives_the_samples_that_dgm4_json_gives(tmp_path, suffix, mapped):
    write_images(tmp_path, NEWS)
    run(tmp_path / "dgm4", write_json(tmp_path / "train.json", NEWS), root=tmp_path)
    path = write(tmp_path / f"train.{suffix}", foreign(NEWS) if mapped else NEWS)
    run(tmp_path / "out", path, root=tmp_path, columns=COLUMNS if mapped else {})
    assert samples(tmp_path / "out") == samples(tmp_path / "dgm4")


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_optional_columns_may_be_missing(tmp_path, suffix):
    records = [{"image": f"{n}.jpg", "text": f"Words {n}", "fake_cls": "orig"} for n in range(3)]
    summary = run(tmp_path / "out", write(tmp_path / f"val.{suffix}", records))
    assert (summary["samples"], summary["by_split"]["val"]) == (3, 3)
    assert len({sample["source_id"] for sample in samples(tmp_path / "out")}) == 3


def test_without_ids_the_image_joins_the_original(tmp_path):
    records = [
        {"image": "a.jpg", "text": "They blame it", "fake_cls": "text_swap", "fake_text_pos": [1]},
        {"image": "a.jpg", "text": "They praise it", "fake_cls": "orig"},
    ]
    run(tmp_path / "out", write(tmp_path / "train.jsonl", records))
    assert samples(tmp_path / "out")[0]["original_text"] == "They praise it"


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_text_ids_become_stable_numbers(tmp_path, suffix):
    records = [row(0, id=name) for name in ("item-7", "item-7b", "12", " ")]
    summary = run(tmp_path / "out", write(tmp_path / f"train.{suffix}", records))
    assert summary["by_reason"] == {"malformed_row": 1}
    assert [sample["source_id"] for sample in samples(tmp_path / "out")] == [
        number_of("item-7"),
        number_of("item-7b"),
        12,
    ]
    assert 0 <= number_of("item-7") < 2**63
    assert number_of("item-7") == 7745629782064354687


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_split_column_decides_row_by_row(tmp_path, suffix):
    names = ["train", "Validation", "test", "val", "dev", ""]
    records = [row(n) | {"part": name} for n, name in enumerate(names)]
    path = write(tmp_path / f"all.{suffix}", records)
    summary = run(tmp_path / "out", path, columns={"split": "part"})
    assert summary["by_split"] == {"train": 1, "val": 2, "test": 1}
    assert [bad["message"].split(";")[0] for bad in quarantine(tmp_path / "out")] == [
        "split is 'dev'",
        "split is ''",
    ]
    assert run(tmp_path / "forced", path, split="test")["by_split"] == {"train": 0, "val": 0, "test": 6}


def test_integers_that_came_back_as_floats_are_integers(tmp_path):
    record = row(1, "text_swap") | {"id": 7.0, "fake_text_pos": [1.0, 2.0]}
    run(tmp_path / "out", write(tmp_path / "train.parquet", [record, record | {"id": None}]))
    (sample,) = samples(tmp_path / "out")
    assert (sample["source_id"], sample["fake_text_pos"]) == (7, [1, 2])


def test_a_line_that_is_not_json_costs_one_row(tmp_path):
    path = tmp_path / "train.jsonl"
    good = json.dumps(row(1)).encode()
    path.write_bytes(
        b"\xef\xbb\xbf"
        + good
        + b'\n\n{"id": 1,\n[1]\n"text"\n\xff\xfe\n  \n'
        + good.replace(b"1.jpg", b"2.jpg")
    )
    summary = run(tmp_path / "out", path)
    assert (summary["rows_read"], summary["samples"]) == (6, 2)
    bad = quarantine(tmp_path / "out")
    assert [each["source_row"] for each in bad] == [1, 2, 3, 4]
    assert [json.loads(each["raw"]) for each in bad][:3] == ['{"id": 1,', [1], "text"]


def test_odd_csv_lines_cost_one_row_each(tmp_path):
    path = tmp_path / "train.csv"
    path.write_bytes(
        b"\xef\xbb\xbfid,image,text,fake_cls,fake_image_box\r\n"
        b'1,a.jpg,"Two\r\nlines, one ""text""",orig,\r\n'
        b"2,b.jpg\r\n"
        b"3,c.jpg,caf\xe9,orig,[]\r\n"
        b"\r\n"
        b"4,d.jpg,text,face_swap,not json\r\n"
        b"5,e.jpg,text,orig,[],too,many\r\n"
        b'6,f.jpg,text,face_swap,"[1, 2, 3, 4]"\r\n'
    )
    summary = run(tmp_path / "out", path)
    assert [(bad["source_row"], bad["reason"]) for bad in quarantine(tmp_path / "out")] == [
        (1, "malformed_row"),
        (2, "text_not_string"),
        (3, "malformed_box"),
        (4, "malformed_row"),
    ]
    assert (summary["rows_read"], summary["samples"]) == (6, 2)
    assert samples(tmp_path / "out")[0]["words"] == ["Two", "lines,", "one", '"text"']


def test_cells_of_odd_types_never_crash(tmp_path):
    import datetime

    odd = [b"bytes", datetime.date(2024, 1, 1), 1.5, True, {"a": [1]}]
    for number, value in enumerate(odd):
        for field in ("id", "image", "text", "fake_cls", "fake_image_box", "fake_text_pos"):
            path = write(tmp_path / "train.parquet", [row(1) | {field: value}, row(2) | {field: value}])
            summary = run(tmp_path / f"{number}{field}", path)
            assert summary["samples"] == 0


@pytest.mark.parametrize(
    "suffix, content, words",
    [
        ("csv", b"", "no header"),
        ("csv", b"a,b\n1,2\n", "no column image, text, fake_cls; it has a, b.*--columns image=NAME"),
        ("parquet", b"PAR1 nothing", "not a Parquet file"),
        ("parquet", b"", "not a Parquet file"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path, suffix, content, words):
    path = tmp_path / f"train.{suffix}"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=words) as caught:
        run(tmp_path / "out", path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_mapped_column_that_is_not_there_is_named(tmp_path, suffix):
    path = write(tmp_path / f"train.{suffix}", foreign(NEWS))
    with pytest.raises(UsageError, match="no column 'bild'.*uid, file, caption"):
        run(tmp_path / "out", path, columns={"image": "bild"})


def test_a_damaged_page_of_a_parquet_file_is_a_usage_error(tmp_path):
    path = write(tmp_path / "train.parquet", [row(n) for n in range(500)])
    content = bytearray(path.read_bytes())
    content[100:3000] = bytes(2900)
    path.write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read"):
        run(tmp_path / "out", path)


def test_several_formats_go_into_one_table(tmp_path):
    files = [
        write(tmp_path / f"{name}", [row(n)])
        for n, name in enumerate(["train.jsonl", "val.csv", "test.parquet"])
    ]
    files.append(write_json(tmp_path / "train2.json", [row(9)]))
    assert run(tmp_path / "out", *files)["by_split"] == {"train": 2, "val": 1, "test": 1}


@pytest.mark.parametrize(
    "name, split",
    [
        ("train.json", "train"),
        ("TRAIN.JSON", "train"),
        ("dgm4_val_v2.json", "val"),
        ("metadata-test.json", "test"),
        ("DGM4train.json", "train"),
        ("validation.jsonl", "val"),
        ("training_set.csv", "train"),
        ("test2024.json", "test"),
        ("my.test.json", "test"),
    ],
)
def test_the_split_is_read_from_the_file_name(tmp_path, name, split):
    assert formats.split_of(tmp_path / name, None) == split
    assert formats.split_of(tmp_path / name, "test") == "test"


@pytest.mark.parametrize(
    "name", ["trainval.json", "train_val.json", "latest.json", "interval.json", "data.json", "strain.json"]
)
def test_an_unclear_name_asks_for_the_split(tmp_path, name):
    with pytest.raises(UsageError, match="--split"):
        formats.split_of(tmp_path / "train" / name, None)


def test_column_mappings_are_parsed_and_mistakes_named():
    assert formats.parse_columns(None) == formats.parse_columns("") == {}
    assert formats.parse_columns("id=uid, box = bbox,label=cls") == {
        "id": "uid",
        "fake_image_box": "bbox",
        "fake_cls": "cls",
    }
    for mapping, words in [
        ("id", "'id' is not FIELD=COLUMN"),
        ("id=", "FIELD=COLUMN"),
        ("imge=file", "did you mean image"),
        ("id=a,id=b", "twice"),
    ]:
        with pytest.raises(UsageError, match=words):
            formats.parse_columns(mapping)


@pytest.mark.parametrize("place", ["metadata", "DGM4/metadata", "metadata/metadata", "."])
def test_a_data_folder_is_found(tmp_path, place):
    for split in ("val", "train"):
        write_json(tmp_path / place / f"{split}.json", [])
    files, root = formats.find_data(tmp_path)
    assert [file.name for file in files] == ["train.json", "val.json"]
    assert root == tmp_path


def test_a_folder_without_annotations_says_where_it_looked(tmp_path):
    with pytest.raises(UsageError, match="metadata"):
        formats.find_data(tmp_path)
