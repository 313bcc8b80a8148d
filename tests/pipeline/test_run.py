from __future__ import annotations

import json

import pyarrow as pa
import pytest

from pipeline.__main__ import main
from pipeline.config import load_config
from pipeline.engines import close_engines, load_count
from pipeline.errors import FingerprintMismatch, UsageError
from pipeline.run import generate_table
from pipeline.shards.snapshot import write_snapshot
from schemas import open_table, schema_of
from schemas.layout import list_versions
from tests.builders import sample_row, write_echo_config, write_samples


@pytest.fixture
def out(tmp_path):
    write_samples(tmp_path / "out", 90, images=35, rows_per_shard=40)
    return tmp_path / "out"


@pytest.fixture
def config(tmp_path):
    return load_config(write_echo_config(tmp_path))


def test_each_distinct_image_gets_one_caption_and_each_sample_one_explanation(out, config):
    captions = generate_table("captions", config, out)
    explanations = generate_table("explanations", config, out)
    assert (captions.planned, captions.written) == (35, 35)
    assert (explanations.planned, explanations.written) == (90, 90)
    samples = open_table(out, "samples").to_polars()
    assert set(open_table(out, "captions").to_polars()["image_key"]) == set(samples["image_key"])
    rows = open_table(out, "explanations").to_polars().join(samples, on="sample_id", suffix="_sample")
    manipulated = rows["text_swap"] | rows["text_attribute"]
    assert ((rows["kind"] == "manipulation") == manipulated).all()
    assert (rows["split"] == rows["split_sample"]).all()
    used = {row["kind"]: row["prompt_id"].split(":")[0] for row in rows.to_dicts()}
    assert used["description"] == "description-v1"
    pair = rows.filter(rows["original_text"].is_not_null())["prompt_id"].str.split(":").list.first()
    assert set(pair) == {"manipulation-pair-v1"}


def test_the_second_run_does_nothing_and_loads_no_model(out, config):
    generate_table("captions", config, out)
    close_engines()
    before = load_count()
    again = generate_table("captions", config, out)
    assert (again.written, again.skipped_existing, again.planned) == (0, 35, 35)
    assert load_count() == before


def test_one_load_serves_many_shards(out, config):
    close_engines()
    before = load_count()
    summary = generate_table("explanations", config, out)
    assert summary.planned == 90 and len(open_table(out, "explanations").files) == 9
    assert load_count() == before + 1


def test_a_removed_shard_is_the_only_one_made_again(out, config):
    generate_table("captions", config, out)
    victim = sorted(list_versions(out, "captions")[0].glob("*.marker.json"))[2]
    victim.unlink()
    again = generate_table("captions", config, out)
    assert (again.written, again.skipped_existing) == (10, 25)


def test_other_settings_are_refused_by_name_and_a_new_version_stands_beside_the_old(out, tmp_path, config):
    first = generate_table("captions", config, out)
    prompt = tmp_path / "mine.txt"
    prompt.write_text("What is this?")
    overrides = [f"captions.prompts.caption={prompt}", "models.captioner.generation.max_new_tokens=9"]
    other = load_config(tmp_path / "echo.yaml", overrides)
    with pytest.raises(FingerprintMismatch) as caught:
        generate_table("captions", other, out)
    assert set(caught.value.changed) == {"prompt.caption", "generation.max_new_tokens"}
    assert "64 on disk, 9 now" in str(caught.value) and "--new-version" in str(caught.value)
    second = generate_table("captions", other, out, new_version=True)
    assert second.version != first.version
    assert open_table(out, "captions").version.name == second.version
    assert open_table(out, "captions", version=first.version).num_rows == 35
    with pytest.raises(FingerprintMismatch, match="A version with these settings exists"):
        generate_table("captions", config, out)
    back = generate_table("captions", config, out, new_version=True)
    assert (back.version, back.written) == (first.version, 0)


def test_batch_size_and_shard_size_do_not_start_a_new_version(out, tmp_path, config):
    first = generate_table("captions", config, out)
    other = load_config(tmp_path / "echo.yaml", ["models.captioner.batch_size=3", "captions.shard_size=7"])
    assert generate_table("captions", other, out).version == first.version


def test_changed_samples_are_named_as_the_difference(out, config):
    generate_table("captions", config, out)
    write_samples(out, 91, images=35, rows_per_shard=40)
    with pytest.raises(FingerprintMismatch) as caught:
        generate_table("captions", config, out)
    assert set(caught.value.changed) == {"samples"}


def test_without_samples_the_error_names_the_command_to_run(tmp_path, config):
    with pytest.raises(UsageError, match="pipeline ingest"):
        generate_table("captions", config, tmp_path / "nothing")


def test_samples_without_image_keys_ask_for_ingest_with_images(tmp_path, config):
    rows = [sample_row(n, None, f"{n}.png", width=None, height=None) for n in range(3)]
    table = pa.Table.from_pylist(rows, schema=schema_of("samples"))
    write_snapshot(tmp_path, "samples", [table], info={"image_root": str(tmp_path)})
    with pytest.raises(UsageError, match="3 of 3 samples have no image_key.*--skip-images"):
        generate_table("captions", config, tmp_path)
    assert generate_table("explanations", config, tmp_path).written == 3


def test_failures_are_typed_rows_and_too_many_end_with_exit_code_4(out, tmp_path, capsys):
    arguments = ["explanations", "--config", str(tmp_path / "echo.yaml"), "--out", str(out), "--json"]
    write_echo_config(tmp_path)
    code = main([*arguments, "--set", "models.chat.echo.failure_share=0.3"])
    summary = json.loads(capsys.readouterr().out)
    assert code == 4
    assert summary["failed"] > 5
    accounted = ("written", "failed", "quarantined", "skipped_existing")
    assert summary["planned"] == sum(summary[name] for name in accounted) == 90
    failures = open_table(out, "failures").to_polars()
    assert len(failures) == summary["failed"]
    assert set(failures["stage"]) == {"explanations"} and (failures["message"].str.len_chars() > 5).all()
    lenient = main(
        [
            *arguments,
            "--set",
            "models.chat.echo.failure_share=0.3",
            "--set",
            "explanations.max_failed_share=1",
        ]
    )
    assert lenient == 0
