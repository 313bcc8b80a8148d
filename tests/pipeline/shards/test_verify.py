"""Every kind of damage is found, named, and repaired by running the same command again."""

from __future__ import annotations

import json
import shutil

import pyarrow.parquet as pq
import pytest

from pipeline.config import load_config
from pipeline.run import generate_table
from pipeline.shards.verify import verify
from schemas import open_table
from schemas.layout import current_version, list_markers
from tests.builders import write_echo_config, write_samples


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    write_samples(folder / "out", 40, rows_per_shard=20)
    config = load_config(write_echo_config(folder))
    generate_table("captions", config, folder / "out")
    return folder / "out", config


@pytest.fixture
def out(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "out")
    return tmp_path / "out"


def data_file(out, shard=1):
    return open_table(out, "captions").files[shard]


def marker(out, shard=1):
    return list_markers(current_version(out, "captions"))[shard]


def edit_marker(out, **changes):
    path = marker(out)
    content = json.loads(path.read_bytes())
    content |= changes
    path.write_text(json.dumps(content))


def flip_a_byte(out):
    path = data_file(out)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(out):
    data_file(out).write_bytes(data_file(out).read_bytes()[:-100])


def rewrite(out, change):
    """Replace a data file by other rows under a marker that vouches for the new bytes."""
    from schemas.marker import file_sha256

    path = data_file(out)
    pq.write_table(change(pq.read_table(path)), path)
    content = json.loads(marker(out).read_bytes())
    content["data"] |= {"size": path.stat().st_size, "sha256": file_sha256(path)}
    marker(out).write_text(json.dumps(content))


DAMAGE = {
    "missing file": (lambda out: data_file(out).unlink(), False, "not there"),
    "truncated file": (truncate, False, "bytes, its marker says"),
    "missing marker": (lambda out: marker(out).unlink(), False, "has not been written"),
    "torn marker": (lambda out: marker(out).write_bytes(b'{"marker'), False, "not a valid marker"),
    "marker of another run": (lambda out: edit_marker(out, fingerprint="f" * 64), False, "fingerprint"),
    "marker of another shard": (lambda out: edit_marker(out, shard=3), False, "belongs to captions shard 3"),
    "counts that do not add up": (lambda out: edit_marker(out, planned=11), False, "do not add up"),
    "damaged version": (
        lambda out: (current_version(out, "captions") / "version.json").write_text("{"),
        False,
        "version.json",
    ),
    "damaged plan": (
        lambda out: (current_version(out, "captions") / "plan.parquet").write_bytes(b"PAR1"),
        False,
        "plan cannot be read",
    ),
    "flipped byte": (flip_a_byte, True, "sha256 differs"),
    "duplicate key": (
        lambda out: rewrite(out, lambda t: t.take([0, 0, *range(2, len(t))])),
        True,
        "the key stands in an earlier row",
    ),
    "wrong schema": (
        lambda out: rewrite(out, lambda t: t.drop_columns(["flags"])),
        True,
        "does not have the schema",
    ),
    "row count off": (lambda out: rewrite(out, lambda t: t.slice(1)), True, "rows, its marker says"),
    "key outside the plan": (
        lambda out: rewrite(
            out, lambda t: t.set_column(0, t.schema.field(0), [["alien", *t.column(0).to_pylist()[1:]]])
        ),
        True,
        "'alien' was not planned",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_and_named(out, name):
    damage, deep_only, complaint = DAMAGE[name]
    assert verify(out, deep=True).ok
    damage(out)
    report = verify(out, deep=True)
    assert not report.ok
    assert any(complaint in problem.what for problem in report.problems), report.problems
    assert all(problem.table == "captions" for problem in report.problems)
    assert verify(out).ok == deep_only


@pytest.mark.parametrize("name", ["missing file", "truncated file", "missing marker", "torn marker"])
def test_running_again_makes_only_the_damaged_shard_anew(out, whole, name):
    DAMAGE[name][0](out)
    again = generate_table("captions", whole[1], out)
    assert (again.written, again.skipped_existing) == (10, 30)
    report = verify(out, deep=True)
    assert report.ok, report.problems


def test_leftovers_of_killed_attempts_are_listed_and_are_no_problem(out):
    version = current_version(out, "captions")
    (version / ".tmp-12345678-shard-00000.parquet").write_bytes(b"half")
    (version / "shard-00000-deadbeef.parquet").write_bytes(b"lost a race")
    report = verify(out, deep=True)
    assert report.ok and len(report.leftovers) == 2


def test_an_empty_folder_does_not_verify(tmp_path):
    report = verify(tmp_path)
    assert not report.ok and "run ingest first" in report.problems[0].what
