from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.config import load_config
from pipeline.errors import UsageError
from pipeline.jobs import make_job
from pipeline.jobs.explanations import marked
from pipeline.shards.snapshot import write_snapshot
from schemas import open_table, schema_of
from tests.builders import sample_row, write_echo_config, write_samples


@pytest.fixture
def config(tmp_path):
    return load_config(write_echo_config(tmp_path))


def test_neighbouring_manipulated_words_share_one_pair_of_marks():
    words = ["Ann", "never", "smiles", "in", "Lima"]
    assert marked(words, [1, 2, 4]) == "Ann **never smiles** in **Lima**"
    assert marked(words, []) == "Ann never smiles in Lima"
    assert marked(words, [0, 1, 2, 3, 4]) == "**Ann never smiles in Lima**"


@pytest.mark.parametrize(
    ("changes", "template", "holds"),
    [
        ({"fake_cls": "orig"}, "description-v1", 'News text: "Person'),
        ({"fake_cls": "face_swap"}, "description-v1", "Describe"),
        ({"fake_cls": "text_swap", "original_text": "Before"}, "manipulation-pair-v1", '"Before"'),
        ({"fake_cls": "text_swap", "original_text": None}, "manipulation-marked-v1", "**smiles**"),
        ({"fake_cls": "text_swap", "original_text": ""}, "manipulation-pair-v1", 'text: ""'),
    ],
)
def test_the_prompt_follows_from_what_is_known(config, changes, template, holds):
    job = make_job("explanations", config)
    sample = sample_row(4, "key", "a.png", **changes)
    request = job.request(sample, Path("/images"))
    assert holds in request.prompt and request.image is None and request.key == sample["sample_id"]
    assert job._prompt(sample).id == template


def test_braces_dollars_and_quotes_of_a_text_reach_the_prompt_untouched(config):
    job = make_job("explanations", config)
    text = 'Costs $5 {{ price }} {% raw %} 50% "so" it’s'
    sample = sample_row(0, "key", "a.png", fake_cls="orig", text=text)
    assert text in job.request(sample, Path("/")).prompt


def test_a_plan_holds_each_distinct_key_once_in_order_of_first_sight(config, tmp_path):
    write_samples(tmp_path, 50, images=23, rows_per_shard=20)
    samples = open_table(tmp_path, "samples")
    shards = list(make_job("captions", config).plan(samples))
    keys = [key for shard in shards for key in shard.column("key").to_pylist()]
    assert keys == list(dict.fromkeys(samples.to_arrow(["image_key"]).column("image_key").to_pylist()))
    assert [len(shard) for shard in shards] == [10, 10, 3]


def test_equal_texts_stand_in_one_shard_where_the_first_of_them_is(config, tmp_path):
    rows = [sample_row(n, f"{n:032x}", f"{n}.png") for n in range(70)]
    for number in (33, 5, 65):
        rows[number] |= {"text": rows[2]["text"], "words": rows[2]["words"]}
    table = pa.Table.from_pylist(rows, schema=schema_of("samples"))
    write_snapshot(tmp_path, "samples", [table], info={}, rows_per_shard=60)
    shards = list(make_job("explanations", config).plan(open_table(tmp_path, "samples")))
    order = [key for shard in shards for key in shard.column("key").to_pylist()]
    # Row 65 lies in the second file of samples and stays there.
    expected = [0, 1, 2, 5, 33, 3, 4, *range(6, 33), *range(34, 70)]
    assert order == [rows[number]["sample_id"] for number in expected]
    assert [
        row["text"]
        for row in make_job("explanations", config).samples_of(open_table(tmp_path, "samples"), shards[0])
    ] == [rows[number]["text"] for number in expected[:10]]


def test_a_file_of_samples_that_cannot_be_read_is_named(config, tmp_path):
    write_samples(tmp_path, 50, rows_per_shard=20)
    samples = open_table(tmp_path, "samples")
    samples.files[1].write_bytes(b"PAR1" * 9)
    with pytest.raises(UsageError, match=f"{samples.files[1]}: cannot be read.*run ingest again"):
        list(make_job("captions", config).plan(samples))


def test_samples_are_found_by_plan_entry_and_a_changed_row_is_refused(config, tmp_path):
    write_samples(tmp_path, 50, rows_per_shard=20)
    samples = open_table(tmp_path, "samples")
    job = make_job("explanations", config)
    entries = list(job.plan(samples))[2]
    rows = job.samples_of(samples, entries)
    assert [row["sample_id"] for row in rows] == entries.column("key").to_pylist()
    keys = entries.column("key").to_pylist()
    wrong = entries.set_column(1, "key", [["other", *keys[1:]]])
    with pytest.raises(UsageError, match="row 0.*the plan says 'other'"):
        job.samples_of(samples, wrong)
