"""``status`` of tables with several versions, and of one shard with its retries."""

from __future__ import annotations

import json

import pytest

from pipeline.__main__ import main
from pipeline.config import load_config
from pipeline.retrying import retry_failed
from pipeline.run import generate_table
from schemas import open_table
from schemas.layout import current_version
from tests.builders import write_echo_config, write_samples


@pytest.fixture
def config(tmp_path):
    return write_echo_config(tmp_path)


@pytest.fixture
def out(tmp_path, config):
    write_samples(tmp_path / "out", 25)
    generate_table("captions", load_config(config), tmp_path / "out")
    return tmp_path / "out"


def shown(capsys, *flags):
    capsys.readouterr()
    assert main(["status", *map(str, flags)]) == 0
    return capsys.readouterr().out


def as_json(capsys, *flags):
    return json.loads(shown(capsys, *flags, "--json"))


def test_every_version_is_shown_with_what_made_it_another(out, config, capsys):
    old = current_version(out, "captions").name
    assert as_json(capsys, "--out", out)["tables"]["captions"]["versions"] == []
    shorter = load_config(config, ["models.captioner.generation.max_new_tokens=9"])
    generate_table("captions", shorter, out, new_version=True)
    new = current_version(out, "captions").name
    status = as_json(capsys, "--out", out)["tables"]["captions"]
    assert status["other_versions"] == [old]
    assert [(v["version"], v["current"], v["rows"]) for v in status["versions"]] == [
        (new, True, None),
        (old, False, None),
    ]
    assert status["versions"][1]["differs"] == {"generation.max_new_tokens": [64, 9]}
    assert f"captions also has {old}: 25 rows planned; generation.max_new_tokens 64 (now 9)\n" in shown(
        capsys, "--out", out
    )
    counted = as_json(capsys, "--out", out, "--all-versions")["tables"]["captions"]["versions"]
    assert [(v["rows"], v["failures"], v["shards_done"]) for v in counted] == [(25, 0, 3), (25, 0, 3)]
    assert f"{old}: 25/25 rows, 0 failures, 3/3 shards;" in shown(capsys, "--out", out, "--all-versions")


def test_a_damaged_version_that_is_not_current_is_left_out(out, config, capsys, caplog):
    old = current_version(out, "captions")
    shorter = load_config(config, ["models.captioner.generation.max_new_tokens=9"])
    generate_table("captions", shorter, out, new_version=True)
    (old / "version.json").write_text("{")
    status = as_json(capsys, "--out", out)["tables"]["captions"]
    assert len(status["versions"]) == 1 and status["rows"] == 25
    assert "version.json: cannot be read" in caplog.text and "this version is left out" in caplog.text


def test_new_samples_are_another_version_of_theirs(out, capsys):
    write_samples(out, 27)
    status = as_json(capsys, "--out", out)["tables"]["samples"]
    assert status["versions"][1]["differs"]["rows"] == [25, 27]


def outage(share):
    return [f"models.chat.echo.outage_share={share}", "explanations.max_failed_share=1"]


def test_a_shards_attempts_and_what_still_fails_are_shown(out, config, capsys):
    for share, step in ((0.7, generate_table), (0.4, retry_failed), (0.2, retry_failed)):
        step("explanations", load_config(config, outage(share)), out)
    history = as_json(capsys, "--out", out, "--table", "explanations", "--shard", 1)
    first, *retries = history["attempts"]
    assert [attempt["retry"] for attempt in history["attempts"]] == [0, 1, 2]
    assert (first["tried"], first["rows"] + first["failures"]) == (10, 10)
    before = first["failures"]
    for attempt in retries:
        assert attempt["tried"] == before == attempt["rows"] + attempt["failures"]
        assert sum(attempt["failures_by_class"].values()) == attempt["failures"]
        before = attempt["failures"]
    assert history["rows"] == sum(attempt["rows"] for attempt in history["attempts"])
    assert history["failures"] == before == len(history["failed"])
    failed = {row["key"] for row in open_table(out, "failures").to_polars().to_dicts()}
    assert {row["key"] for row in history["failed"]} <= failed
    assert all(row["attempts"] == 3 for row in history["failed"])
    text = shown(capsys, "--out", out, "--table", "explanations", "--shard", 1)
    assert "10 planned = " in text and "\nfirst " in text and "\nretry 2 " in text
    assert text.count("out_of_memory (may pass, 3 attempts)") == before


def test_wrong_usage_of_shard_is_said(out, capsys):
    assert main(["status", "--out", str(out), "--shard", "3"]) == 2
    assert "--table captions --shard 3" in capsys.readouterr().err
    assert main(["status", "--out", str(out), "--shard", "9", "--table", "captions"]) == 2
    assert "captions has no shard 9; v-" in capsys.readouterr().err
