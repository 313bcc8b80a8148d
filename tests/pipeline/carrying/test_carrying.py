"""After a change only what it concerns is generated again; the rest is the same as if all had been."""

from __future__ import annotations

import json
import shutil

import polars as pl
import pyarrow as pa
import pytest

from pipeline.__main__ import main
from pipeline.config import load_config
from pipeline.engines import close_engines, load_count
from pipeline.errors import FingerprintMismatch
from pipeline.run import generate_table
from pipeline.shards.snapshot import write_snapshot
from pipeline.shards.status import table_status
from pipeline.shards.verify import verify
from schemas import open_table, schema_of
from tests.builders import list_markers, sample_row, write_echo_config
from tests.pipeline.killing import rows_of


def write(out, rows):
    table = pa.Table.from_pylist(rows, schema=schema_of("samples"))
    info = {"image_root": str(out.parent)}
    write_snapshot(out, "samples", [table], info=info, rows_per_shard=40)


def key(number):
    return f"{number:032x}"


def samples(count, **changes):
    return [sample_row(n, key(n), f"{n}.png", **changes) for n in range(count)]


def from_scratch(tmp_path, name, config, rows):
    """Return the rows that a folder without older versions gets."""
    out = tmp_path / f"scratch-{name}"
    write(out, rows)
    generate_table(name, config, out)
    return rows_of(out, name)


@pytest.fixture
def config(tmp_path):
    return load_config(write_echo_config(tmp_path))


@pytest.fixture
def out(tmp_path, config):
    write(tmp_path / "out", samples(95))
    for name in ("captions", "explanations"):
        summary = generate_table(name, config, tmp_path / "out")
        assert (summary.generated, summary.carried) == (95, 0)
    return tmp_path / "out"


def with_prompt(tmp_path, use, text, job="explanations"):
    path = tmp_path / f"{use}.txt"
    path.write_text(text)
    return load_config(tmp_path / "echo.yaml", [f"{job}.prompts.{use}={path}"])


@pytest.mark.parametrize("name", ["captions", "explanations"])
def test_of_more_samples_exactly_the_new_ones_are_generated(tmp_path, out, config, name):
    # In front, in the middle and behind, so that no shard keeps its keys.
    rows = samples(102)
    rows = [rows[99], *rows[:50], rows[100], rows[101], *rows[50:99]]
    write(out, rows)
    summary = generate_table(name, config, out, follow_samples=True)
    assert (summary.planned, summary.written, summary.generated, summary.carried) == (102, 102, 7, 95)
    assert rows_of(out, name).equals(from_scratch(tmp_path, name, config, rows))
    assert verify(out, deep=True).ok
    status = table_status(out, name)
    assert (status.carried, status.rows) == (95, 102)
    stats = [json.loads(path.read_bytes())["stats"] for path in list_markers(open_table(out, name).version)]
    assert sum(each["carried"] for each in stats) == 95


def test_a_new_prompt_of_one_use_makes_exactly_the_rows_of_that_use_anew(tmp_path, out):
    other = with_prompt(tmp_path, "pair", "Was {{ original_text }}, is {{ text }}: what changed?")
    used = rows_of(out, "explanations")["prompt_id"].str.starts_with("manipulation-pair").sum()
    summary = generate_table("explanations", other, out, new_version=True)
    assert 0 < used < 95
    assert (summary.generated, summary.carried) == (used, 95 - used)
    assert rows_of(out, "explanations").equals(from_scratch(tmp_path, "explanations", other, samples(95)))


def test_a_template_under_another_name_renders_the_same_and_generates_nothing(tmp_path, out):
    from pipeline.prompts import load_prompt

    same = with_prompt(tmp_path, "description", load_prompt("description-v1").text)
    summary = generate_table("explanations", same, out, new_version=True)
    assert (summary.generated, summary.carried) == (0, 95)
    scratch = from_scratch(tmp_path, "explanations", same, samples(95))
    assert rows_of(out, "explanations").equals(scratch)
    assert scratch["prompt_id"].str.starts_with("description:").any()


def test_a_changed_image_gets_a_new_caption_and_its_text_keeps_its_explanation(tmp_path, out, config):
    rows = samples(95)
    rows[17] |= {"image_key": key(1017)}
    write(out, rows)
    captions = generate_table("captions", config, out, follow_samples=True)
    explanations = generate_table("explanations", config, out, follow_samples=True)
    assert (captions.generated, captions.carried) == (1, 94)
    assert (explanations.generated, explanations.carried) == (0, 95)
    assert rows_of(out, "captions").equals(from_scratch(tmp_path, "captions", config, rows))


def test_what_is_known_of_a_sample_but_not_in_its_prompt_follows_the_sample(tmp_path, out, config):
    rows = samples(95, split="test")
    write(out, rows)
    summary = generate_table("explanations", config, out, follow_samples=True)
    assert summary.carried == 95
    assert set(rows_of(out, "explanations")["split"]) == {"test"}


def test_a_table_that_needs_no_model_loads_none(out, config):
    write(out, samples(95)[:40])
    close_engines()
    before = load_count()
    summary = generate_table("captions", config, out, follow_samples=True)
    assert (summary.planned, summary.carried) == (40, 40)
    assert load_count() == before


@pytest.mark.parametrize(
    "override", ["models.chat.generation.max_new_tokens=9", "models.chat.generation.seed=3"]
)
def test_other_generation_parameters_leave_nothing_to_carry_over(tmp_path, out, override):
    other = load_config(tmp_path / "echo.yaml", [override])
    summary = generate_table("explanations", other, out, new_version=True)
    assert (summary.generated, summary.carried) == (95, 0)


def test_sampled_texts_belong_to_their_key(tmp_path):
    config = load_config(write_echo_config(tmp_path), ["models.chat.generation.do_sample=true"])
    rows = samples(20, text="One text for all", words=["One", "text", "for", "all"], fake_cls="orig")
    out = tmp_path / "out"
    write(out, rows)
    summary = generate_table("explanations", config, out)
    assert (summary.generated, summary.shared) == (20, 0)
    assert rows_of(out, "explanations")["explanation"].n_unique() == 20
    rows[3] |= {"sample_id": "moved"}
    write(out, rows)
    again = generate_table("explanations", config, out, follow_samples=True)
    assert (again.generated, again.carried) == (1, 19)


def test_texts_of_several_older_versions_are_found(tmp_path, out, config):
    other = with_prompt(tmp_path, "pair", "Was {{ original_text }}, is {{ text }}.")
    changed = generate_table("explanations", other, out, new_version=True).generated
    write(out, samples(97))
    # The rows of the first prompt stand in the first version, those since added in none.
    back = generate_table("explanations", config, out, new_version=True)
    assert (back.generated, back.carried) == (2, 95)
    again = generate_table("explanations", other, out, new_version=True)
    assert changed > 0 and (again.generated, again.carried) == (0, 97)


def test_failures_are_not_carried_over(tmp_path, config):
    out = tmp_path / "out"
    write(out, samples(60))
    failing = load_config(tmp_path / "echo.yaml", ["models.chat.echo.failure_share=0.3"])
    first = generate_table("explanations", failing, out)
    assert 5 < first.failed < 55
    write(out, samples(61))
    again = generate_table("explanations", failing, out, follow_samples=True)
    assert again.carried == first.written
    assert again.generated == first.failed + 1


def test_rows_of_a_damaged_file_are_made_anew(tmp_path, out, config):
    file = open_table(out, "captions").files[2]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    write(out, samples(96))
    summary = generate_table("captions", config, out, follow_samples=True)
    assert (summary.generated, summary.carried) == (11, 85)
    assert rows_of(out, "captions").equals(from_scratch(tmp_path, "captions", config, samples(96)))


def test_a_damaged_or_missing_index_is_built_anew(tmp_path, out, config):
    write(out, samples(96))
    generate_table("captions", config, out, follow_samples=True)
    (index,) = (out / "cache" / "inputs").glob("captions-*.arrow")
    index.write_bytes(b"torn")
    write(out, samples(97))
    assert generate_table("captions", config, out, follow_samples=True).carried == 96
    assert index.read_bytes() != b"torn"


def test_a_removed_version_is_no_source_and_its_index_goes(tmp_path, out, config):
    first = open_table(out, "captions").version
    write(out, samples(96))
    second = generate_table("captions", config, out, follow_samples=True).version
    assert [path.name[:23] for path in (out / "cache" / "inputs").iterdir()] == [f"captions-{first.name}"]
    shutil.rmtree(first)
    write(out, samples(97))
    assert generate_table("captions", config, out, follow_samples=True).carried == 96
    assert [path.name[:23] for path in (out / "cache" / "inputs").iterdir()] == [f"captions-{second}"]


def test_no_carry_makes_all_rows_anew(tmp_path, out, capsys):
    write(out, samples(96))
    arguments = ["captions", "--config", str(tmp_path / "echo.yaml"), "--out", str(out), "--new-version"]
    assert main([*arguments, "--no-carry", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["generated"], summary["carried"]) == (96, 0)


def test_only_changed_samples_start_a_version_by_themselves(tmp_path, out):
    write(out, samples(96))
    other = with_prompt(tmp_path, "pair", "Was {{ original_text }}, is {{ text }}.")
    with pytest.raises(FingerprintMismatch) as caught:
        generate_table("explanations", other, out, follow_samples=True)
    assert set(caught.value.changed) == {"prompt.pair", "samples"}


def test_a_run_that_was_cut_short_goes_on_carrying(tmp_path, out, config):
    write(out, samples(100))
    generate_table("captions", config, out, follow_samples=True)
    victims = list_markers(open_table(out, "captions").version)[1:]
    for victim in victims:
        victim.unlink()
    again = generate_table("captions", config, out)
    assert (again.skipped_existing, again.carried, again.generated) == (10, 85, 5)
    assert rows_of(out, "captions").equals(from_scratch(tmp_path, "captions", config, samples(100)))


def test_equal_prompts_are_asked_once_and_every_key_gets_the_answer(tmp_path, config):
    out = tmp_path / "out"
    rows = samples(40)
    for number in range(0, 40, 4):
        rows[number + 1] |= {"text": rows[number]["text"], "words": rows[number]["words"]}
    write(out, rows)
    summary = generate_table("explanations", config, out)
    # Shards of ten: the pairs 0-1, 4-5 and 8-9, 12-13 ... stand together.
    assert (summary.written, summary.generated, summary.shared) == (40, 30, 10)
    table = rows_of(out, "explanations").join(
        pl.DataFrame({"sample_id": [r["sample_id"] for r in rows], "text": [r["text"] for r in rows]}),
        on="sample_id",
    )
    assert table.group_by("input_hash").agg(pl.col("text", "explanation").n_unique()).select(
        pl.col("text", "explanation").max()
    ).row(0) == (1, 1)
    assert summary.tokens_out < table["tokens_out"].sum()
    assert verify(out, deep=True).ok


def test_a_shared_failure_is_a_failure_of_each_key(tmp_path):
    write_echo_config(tmp_path)
    config = load_config(tmp_path / "echo.yaml", ["models.chat.echo.failure_share=1"])
    rows = samples(6, text="Same", words=["Same"], fake_cls="orig")
    write(tmp_path / "out", rows)
    summary = generate_table("explanations", config, tmp_path / "out")
    assert (summary.failed, summary.generated, summary.shared) == (6, 1, 5)
    failures = open_table(tmp_path / "out", "failures").to_polars()
    assert set(failures["key"]) == {row["sample_id"] for row in rows}


def test_captions_say_how_many_images_are_the_same(tmp_path, config, capsys):
    rows = [sample_row(n, key(n % 7), f"{n}.png") for n in range(20)]
    write(tmp_path / "out", rows)
    arguments = ["captions", "--config", str(tmp_path / "echo.yaml"), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert "20 samples show 7 distinct images: 13 captions saved" in capsys.readouterr().out
