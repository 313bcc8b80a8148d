"""A repair re-queues exactly what is damaged: the next commands make these shards again and no other."""

from __future__ import annotations

import json
import os

import polars as pl
import pytest

from pipeline.__main__ import main
from pipeline.retrying import retry_failed
from pipeline.run import generate_table
from pipeline.shards.repair import repair
from pipeline.shards.snapshot import write_snapshot
from pipeline.shards.verify import verify
from schemas import open_table
from schemas.layout import current_version
from schemas.reader import committed
from tests.pipeline.shards.damage import DAMAGE, TABLE, flip_a_byte, shard, version


def contents(out):
    rows = open_table(out, TABLE).to_polars().sort("sample_id")
    failed = open_table(out, "failures").to_polars().sort("key").drop("attempts", "last_attempt")
    return rows, failed


def same(found, expected):
    return all(a.equals(b) for a, b in zip(found, expected, strict=True))


def commands_of(mend):
    return {"shard": [TABLE], "run": [TABLE], "retry": ["retry-failed"], "file": []}[mend]


@pytest.mark.parametrize("name", [n for n, d in DAMAGE.items() if d.mend != "by hand"])
def test_after_a_repair_the_next_commands_make_exactly_the_damaged_part_again(
    out, config, config_of_retry, name
):
    expected, retried = contents(out), shard(out).base.failures
    damage = DAMAGE[name]
    damage.do(out)
    result = repair(out)
    assert (result.problems, result.by_hand, result.commands) == (1, [], commands_of(damage.mend))
    assert [p.mend for p in verify(out, deep=True).problems] == (
        [] if damage.mend in ("file", "retry") else ["run"]
    )
    again = generate_table(TABLE, config, out)
    whole = damage.mend in ("shard", "run")
    assert again.written + again.failed == (10 if whole else 0)
    others = sum(s.failures for s in committed(version(out), TABLE)[0] if s.number != 1)
    mended = retry_failed(TABLE, config_of_retry, out)
    assert mended.retried == others + (retried if damage.mend != "file" else shard(out).retries[0].failures)
    assert same(contents(out), expected)
    report = verify(out, deep=True)
    assert report.ok, report.problems


def test_a_dry_run_moves_nothing_and_names_the_same_files(out, capsys):
    DAMAGE["flipped byte"].do(out)
    before = sorted(os.listdir(version(out)))
    assert main(["repair", "--out", str(out), "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert sorted(os.listdir(version(out))) == before and planned["shards"] == {TABLE: [1]}
    assert main(["repair", "--out", str(out), "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["moved"] == planned["moved"] and len(done["moved"]) == 6
    kept = {path.name for path in (version(out) / "aside").glob("*/*")}
    assert kept == {os.path.basename(path) for path in done["moved"]}
    assert main(["repair", "--out", str(out)]) == 0
    assert (
        "shards 1 are made again\n0 files moved aside\nnext: `python -m pipeline explanations`"
        in capsys.readouterr().out
    )


def test_what_a_person_has_to_mend_is_said_and_ends_with_2(out, capsys):
    DAMAGE["damaged plan"].do(out)
    assert main(["repair", "--out", str(out)]) == 2
    assert "BY HAND explanations" in capsys.readouterr().out


def test_damaged_samples_are_made_again_by_ingest_under_the_same_version(out):
    before = open_table(out, "samples")
    rows, info, name = before.to_arrow(), before.info, before.version.name
    flip_a_byte(before.files[0])
    assert repair(out).commands == ["ingest"]
    assert open_table(out, "samples").num_rows == 20
    write_snapshot(out, "samples", [rows], info={"image_root": info["image_root"]}, rows_per_shard=20)
    assert current_version(out, "samples").name == name
    assert pl.DataFrame(open_table(out, "samples").to_arrow()).equals(pl.DataFrame(rows))
    assert verify(out, deep=True).ok


def test_a_table_that_holds_needs_no_repair(out, capsys):
    before = sorted(os.listdir(version(out)))
    assert main(["repair", "--out", str(out)]) == 0
    assert "nothing to repair" in capsys.readouterr().out
    assert sorted(os.listdir(version(out))) == before
