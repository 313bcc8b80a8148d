"""Every kind of damage is found by its file, and what is said about it mends it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.__main__ import main
from pipeline.run import generate_table
from pipeline.shards.verify import verify
from schemas.layout import current_version
from tests.pipeline.shards.damage import DAMAGE, REMEDIES, TABLE, shard, version


def test_the_table_that_is_damaged_here_holds_has_failures_and_a_retry_in_every_part(out):
    report = verify(out, deep=True)
    assert report.ok and not report.leftovers, report
    damaged = shard(out)
    assert (
        len(damaged.retries) == 1 and damaged.retries[0].rows and damaged.failures and damaged.base.rows > 2
    )


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_by_its_file_with_a_remedy_and_exit_code_2(out, name, capsys):
    damage = DAMAGE[name]
    file, folder = damage.file(out), version(out).name
    damage.do(out)
    assert main(["verify", "--out", str(out), "--deep", "--json"]) == 2
    result = json.loads(capsys.readouterr().out)
    (problem,) = result["problems"]
    assert problem["table"] == TABLE and not result["ok"]
    assert Path(problem["where"]).name.startswith(file)
    assert damage.what in problem["what"]
    remedy = REMEDIES[damage.mend].format(out=out, name=Path(problem["where"]).name)
    assert (problem["mend"], problem["remedy"]) == (damage.mend, remedy)
    assert main(["verify", "--out", str(out), "--deep"]) == 2
    shown = capsys.readouterr().out
    assert f"PROBLEM in {TABLE}: {problem['where']}: {problem['what']}. {remedy}\n" in shown
    assert main(["verify", "--out", str(out)]) == (2 if damage.shallow else 0)
    assert folder in problem["where"]


@pytest.mark.parametrize("name", [n for n in DAMAGE if n not in ("damaged version", "damaged plan")])
def test_damage_in_one_table_leaves_the_others_and_all_other_shards_alone(out, name):
    DAMAGE[name].do(out)
    report = verify(out, deep=True)
    assert {problem.table for problem in report.problems} == {TABLE}
    assert report.tables[TABLE]["shards"] == 4 and report.tables[TABLE]["done"] >= 3
    assert report.tables["captions"]["rows"] == 40


@pytest.mark.parametrize(
    "name", ["marker without data", "truncated file", "data without marker", "torn marker"]
)
def test_running_again_makes_only_the_damaged_shard_anew(out, config, name):
    DAMAGE[name].do(out)
    again = generate_table(TABLE, config, out)
    assert (again.written + again.failed, again.skipped_existing) == (10, 30)
    report = verify(out, deep=True)
    assert report.ok, report.problems


def test_leftovers_of_killed_attempts_are_listed_and_are_no_problem(out):
    folder = current_version(out, "captions")
    (folder / ".tmp-12345678-shard-00000.parquet").write_bytes(b"half")
    (folder / "shard-00000-deadbeef.parquet").write_bytes(b"lost a race")
    (folder / ".nfs0000000012").write_bytes(b"kept by the file system for a reader")
    report = verify(out, deep=True)
    assert report.ok and len(report.leftovers) == 2


def test_a_retry_that_follows_a_missing_one_is_found(out, config_of_retry):
    folder = version(out)
    (folder / "shard-00001.retry-01.marker.json").rename(folder / "shard-00001.retry-02.marker.json")
    (problem,) = verify(out).problems
    assert (problem.mend, problem.shard, problem.retry) == ("retry", 1, 2)
    assert problem.what == "retry 1, which it follows, has no marker"


def test_an_empty_folder_does_not_verify(tmp_path):
    report = verify(tmp_path)
    assert not report.ok and "run ingest first" in report.problems[0].what


def test_several_rows_of_one_file_in_the_quarantine_are_no_damage(tmp_path):
    out = tmp_path / "ingested"
    images, rows = tmp_path / "images", tmp_path / "rows.jsonl"
    images.mkdir()
    rows.write_text("\n".join(json.dumps({"id": n, "image": f"{n}.png", "text": ""}) for n in range(3)))
    arguments = ["--metadata", str(rows), "--image-root", str(images), "--split", "test", "--out", str(out)]
    assert main(["ingest", *arguments]) == 0
    report = verify(out, deep=True)
    assert report.ok, report.problems
    assert report.tables["quarantine"]["rows"] == 3
