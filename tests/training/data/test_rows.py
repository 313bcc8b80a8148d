from __future__ import annotations

import os
import pickle
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.layout import current_version
from tests.builders import list_markers
from tests.pipeline.inspection.tables import caption, explanation
from tests.training.data.building import (
    commit_texts,
    plan_texts,
    write_captions,
    write_explanations,
    write_rows,
    write_texts,
    write_world,
)
from training.data.rows import plan_rows, prepare_rows
from training.errors import DataError, UsageError


@pytest.fixture
def world(tmp_path):
    return tmp_path, write_world(tmp_path, 12)


def test_every_sample_has_its_own_texts_whatever_the_order_of_the_shards(world, tmp_path):
    out, samples = world
    write_captions(out, samples[::-1])
    write_explanations(out, samples[5:] + samples[:5])
    rows = prepare_rows(out, ["train"], tmp_path / "rows")
    found = [rows[i] for i in range(len(rows))]
    assert [row["sample_id"] for row in found] == sorted(s["sample_id"] for s in samples)
    by_id = {s["sample_id"]: s for s in samples}
    for row in found:
        sample = by_id[row["sample_id"]]
        assert {name: row[name] for name in sample if name in row} == {
            n: sample[n] for n in sample if n in row
        }
        assert row["caption"] == f"a man at gate {sample['source_id']}"
        assert row["explanation"] == f"The text says that {sample['words'][1]} smiles."


def test_a_row_without_texts_has_none_and_no_table_at_all_is_reported(world, tmp_path):
    out, samples = world
    write_captions(out, samples[:4])
    rows = prepare_rows(out, ["train"], tmp_path / "rows")
    with_caption = {rows[i]["sample_id"] for i in range(12) if rows[i]["caption"] is not None}
    assert with_caption == {s["sample_id"] for s in samples[:4]}
    assert all(rows[i]["explanation"] is None for i in range(12))
    line = str(rows.report)
    assert "\n" not in line
    assert "12 rows" in line and "4 with and 8 without caption" in line and "NO explanations table" in line


def test_flagged_and_blank_texts_count_as_missing_and_are_counted_by_flag(world, tmp_path):
    out, samples = world
    keys = [s["image_key"] for s in samples]
    texts = [
        caption(keys[0], "...", ["empty"]),
        caption(keys[1], "cut at the", ["truncated"]),
        caption(keys[2], " "),
        caption(keys[3], "fine"),
    ]
    write_texts(out, "captions", texts)
    write_texts(out, "explanations", [explanation(samples[0], "again again", ["repetition", "truncated"])])
    rows = prepare_rows(out, ["train"], tmp_path / "a", skip_flags=("empty",))
    assert sorted(r["caption"] for r in (rows[i] for i in range(12)) if r["caption"]) == [
        "cut at the",
        "fine",
    ]
    assert rows.report.caption_flags == {"empty": 1, "truncated": 1}
    strict = prepare_rows(out, ["train"], tmp_path / "a", skip_flags=("empty", "truncated"))
    assert (strict.report.captions, strict.report.explanations) == (1, 0)
    assert strict.report.explanation_flags == {"repetition": 1, "truncated": 1}
    assert strict.report.by_class == {
        "face_attribute&text_attribute": 3,
        "face_swap": 3,
        "orig": 3,
        "text_swap": 3,
    }


def test_a_newly_committed_shard_is_picked_up_and_the_old_file_goes(world, tmp_path):
    out, samples = world
    texts = [caption(s["image_key"], "a man") for s in samples]
    plan = plan_texts(out, "captions", [texts[:5], texts[5:]])
    commit_texts(plan, 0, texts[:5])
    cache = tmp_path / "rows"
    before = prepare_rows(out, ["train"], cache)
    stamp = before.path.stat().st_mtime_ns
    assert prepare_rows(out, ["train"], cache).path == before.path
    assert before.path.stat().st_mtime_ns == stamp and before.report.captions == 5
    (cache / "rows-train-notes.txt").write_text("not ours")
    commit_texts(plan, 1, texts[5:])
    after = prepare_rows(out, ["train"], cache)
    assert after.report.captions == 12
    assert sorted(p.name for p in cache.iterdir()) == sorted([after.path.name, "rows-train-notes.txt"])
    assert before[3]["sample_id"] == after[3]["sample_id"]


def test_a_shard_without_its_marker_is_not_read(world, tmp_path):
    out, samples = world
    list_markers(current_version(out, "samples"))[0].unlink()
    assert len(prepare_rows(out, ["train"], tmp_path / "rows")) == 7


def test_files_of_killed_writers_are_never_read_and_go_when_stale(world, tmp_path):
    out, _ = world
    cache = tmp_path / "rows"
    cache.mkdir()
    name = plan_rows(out, ["train"]).name
    young, old = cache / f".tmp-aa-{name}", cache / f".tmp-bb-{name}"
    for torn in (young, old):
        torn.write_bytes(b"ARROW1")
    os.utime(old, (time.time() - 7200,) * 2)
    assert len(prepare_rows(out, ["train"], cache)) == 12
    assert young.exists() and not old.exists()


def test_a_failed_join_leaves_nothing(world, tmp_path):
    out, _ = world
    shard = next(current_version(out, "samples").glob("*.parquet"))
    content = shard.read_bytes()
    shard.write_bytes(content[:100] + b"\0" * (len(content) - 100))
    with pytest.raises(DataError, match="cannot be joined"):
        prepare_rows(out, ["train"], tmp_path / "rows")
    assert list((tmp_path / "rows").iterdir()) == []


@pytest.mark.parametrize(("table", "key"), [("captions", "image_key"), ("explanations", "sample_id")])
def test_a_repeated_key_is_named_with_its_table(world, tmp_path, table, key):
    out, samples = world
    {"captions": write_captions, "explanations": write_explanations}[table](out, samples)
    plan = plan_rows(out, ["train"])
    [shard] = plan.files[table]
    content = pq.read_table(shard)
    pq.write_table(pa.concat_tables([content, content.slice(3, 1)]), shard)
    value = content[key][3].as_py()
    with pytest.raises(DataError, match=f"table {table} has 2 rows of {key} '{value}', one is allowed; run"):
        prepare_rows(out, ["train"], tmp_path / "rows", plan=plan)


def test_rows_travel_to_other_processes_by_path(world, tmp_path):
    rows = prepare_rows(world[0], ["train"], tmp_path / "rows")
    sent = pickle.dumps(rows)
    assert len(sent) < 4000
    again = pickle.loads(sent)
    assert [again[i] for i in range(12)] == [rows[i] for i in range(12)]
    with pytest.raises(IndexError):
        rows[12]


def test_a_plan_pins_the_shards_for_processes_that_look_later(world, tmp_path):
    out, samples = world
    texts = [caption(s["image_key"], "a man") for s in samples]
    plan = plan_texts(out, "captions", [texts[:5], texts[5:]])
    commit_texts(plan, 0, texts[:5])
    first = plan_rows(out, ["train"])
    with pytest.raises(DataError, match="must come first"):
        prepare_rows(out, ["train"], tmp_path / "rows", plan=first, write=False)
    written = prepare_rows(out, ["train"], tmp_path / "rows", plan=first)
    commit_texts(plan, 1, texts[5:])
    late = prepare_rows(
        out, ["train"], tmp_path / "rows", plan=pickle.loads(pickle.dumps(first)), write=False
    )
    assert late.path == written.path and late.report.captions == 5


def test_limit_takes_the_first_rows_of_each_split(tmp_path):
    samples = write_world(tmp_path, 9)
    for number, row in enumerate(samples):
        row["split"] = ("train", "val", "test")[number % 3]
    write_rows(tmp_path, samples)
    rows = prepare_rows(tmp_path, ["train", "val"], tmp_path / "rows", limit=2)
    found = [(rows[i]["sample_id"], rows[i]["split"]) for i in range(len(rows))]
    expected = [
        sorted((r["sample_id"], split) for r in samples if r["split"] == split)[:2]
        for split in ("train", "val")
    ]
    assert found == sorted(expected[0] + expected[1])


def test_missing_data_is_named_with_what_there_is(world, tmp_path):
    out, _ = world
    with pytest.raises(DataError, match=r"no rows in val; splits here: train \(12 rows\)"):
        prepare_rows(out, ["val"], tmp_path / "rows")
    with pytest.raises(UsageError, match="no split 'dev'"):
        prepare_rows(out, ["dev"], tmp_path / "rows")
    with pytest.raises(DataError, match="no samples here; run"):
        prepare_rows(tmp_path / "empty", ["train"], tmp_path / "rows")
