"""Versions that nothing refers to go, after asking; what is needed stays, and old versions stay readable."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time

import pytest

from pipeline.__main__ import main
from pipeline.config import load_config
from pipeline.run import generate_table
from schemas import NoSuchTable, open_table
from schemas.layout import current_version, list_versions
from tests.builders import write_echo_config, write_samples

LONG_AGO = time.time() - 90_000


@pytest.fixture
def config(tmp_path):
    return write_echo_config(tmp_path)


@pytest.fixture
def out(tmp_path, config):
    """Captions in two versions; explanations of the first samples, though there are new ones."""
    out = tmp_path / "out"
    write_samples(out, 20)
    for table in ("captions", "explanations"):
        generate_table(table, load_config(config), out)
    longer = load_config(config, ["models.captioner.generation.max_new_tokens=9"])
    generate_table("captions", longer, out, new_version=True)
    write_samples(out, 25)
    generate_table("captions", longer, out, new_version=True)
    return out


def names(out, table):
    return [version.name for version in list_versions(out, table)]


def gc(capsys, out, *flags):
    capsys.readouterr()
    code = main(["gc", "--out", str(out), "--json", *flags])
    captured = capsys.readouterr()
    return code, json.loads(captured.out) if captured.out else captured.err


def test_versions_that_nothing_refers_to_are_removed_and_the_needed_ones_stay(out, capsys):
    current = {table: current_version(out, table).name for table in ("samples", "captions", "explanations")}
    old_samples = open_table(out, "explanations").info["samples_version"]
    assert old_samples != current["samples"] and len(names(out, "captions")) == 3
    rows = open_table(out, "explanations").to_polars()
    code, result = gc(capsys, out, "--yes")
    assert code == 0 and result["removed"]
    assert [item["table"] for item in result["versions"]] == ["captions", "captions"]
    assert names(out, "captions") == [current["captions"]]
    assert set(names(out, "samples")) == {current["samples"], old_samples}
    assert result["kept"] == {
        f"samples/{old_samples}": f"explanations/{current['explanations']} was made from it"
    }
    assert open_table(out, "explanations").to_polars().equals(rows)
    assert sorted(os.listdir(out / "captions")) == sorted(["current.json", current["captions"]])
    assert gc(capsys, out, "--yes")[1]["versions"] == []


def test_until_then_old_versions_are_read_and_exported_by_name(out, tmp_path, capsys):
    old = next(name for name in names(out, "captions") if name != current_version(out, "captions").name)
    expected = open_table(out, "captions", version=old).to_polars()
    to = tmp_path / "old.parquet"
    arguments = ["export", "--out", str(out), "--table", "captions", "--to", str(to)]
    assert main([*arguments, "--version", old, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == old
    import polars as pl

    assert pl.read_parquet(to).equals(expected)
    gc(capsys, out, "--yes")
    with pytest.raises(NoSuchTable, match="no such version; versions here: v-"):
        open_table(out, "captions", version=old)


def test_without_a_terminal_or_yes_nothing_is_removed(out, capsys):
    before = names(out, "captions")
    code, message = gc(capsys, out)
    assert code == 2 and "2 versions and 0 leftovers" in message and "--yes removes them" in message
    code, result = gc(capsys, out, "--dry-run")
    assert code == 0 and len(result["versions"]) == 2 and result["bytes"] > 0 and not result["removed"]
    assert names(out, "captions") == before


@pytest.mark.parametrize(("answer", "left"), [("n", 3), ("y", 1)])
def test_on_a_terminal_it_asks_first(out, answer, left):
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "gc", "--out", str(out)],
        stdin=theirs,
        stderr=theirs,
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    said = b""
    while b"[y/N]" not in said:
        said += os.read(ours, 4096)
    assert b"Remove 2 versions and 0 leftovers" in said and b"nothing refers to this version" in said
    os.write(ours, f"{answer}\n".encode())
    shown, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    assert ("nothing was removed" in shown) == (answer == "n")
    assert len(names(out, "captions")) == left


def age(path):
    os.utime(path, (LONG_AGO, LONG_AGO))


def test_leftovers_go_once_they_are_a_day_old_and_nothing_that_a_marker_names_does(out, capsys):
    gc(capsys, out, "--yes")
    version = current_version(out, "captions")
    for path in version.iterdir():
        age(path)
    old = [version / ".tmp-12345678-shard-00000.parquet", version / "shard-00000-deadbeef.parquet"]
    new = [version / "shard-00001-deadbeef.parquet", out / "captions" / ".tmp-87654321"]
    strange = [version / "notes.txt"]
    for path in [*old, *new, *strange]:
        path.write_bytes(b"left")
    for path in [*old, *strange]:
        age(path)
    code, result = gc(capsys, out, "--yes")
    assert code == 0 and sorted(item["path"] for item in result["leftovers"]) == sorted(map(str, old))
    assert not any(path.exists() for path in old) and all(path.exists() for path in [*new, *strange])
    assert open_table(out, "captions").num_rows == 25


def test_files_of_a_shard_whose_marker_cannot_be_read_stay(out, capsys):
    gc(capsys, out, "--yes")
    version = current_version(out, "captions")
    (version / "shard-00001.marker.json").write_text("{")
    for path in version.iterdir():
        age(path)
    before = sorted(os.listdir(version))
    assert gc(capsys, out, "--yes")[1]["leftovers"] == []
    assert sorted(os.listdir(version)) == before


def test_what_is_moved_aside_goes_after_a_day(out, capsys):
    gc(capsys, out, "--yes")
    version = current_version(out, "captions")
    open_table(out, "captions").files[0].unlink()
    assert main(["repair", "--out", str(out)]) == 0
    (aside,) = (version / "aside").iterdir()
    assert gc(capsys, out, "--yes")[1]["leftovers"] == []
    age(aside)
    (item,) = gc(capsys, out, "--yes")[1]["leftovers"]
    assert item["path"] == str(aside) and not aside.exists()


def test_a_version_that_a_worker_writes_stays(out, capsys):
    old = next(v for v in list_versions(out, "captions") if v != current_version(out, "captions"))
    (old / "claims").mkdir()
    (old / "claims" / "shard-00000.json").write_text("{}")
    assert gc(capsys, out, "--yes")[1]["kept"][f"captions/{old.name}"] == "a worker is writing it"
    assert old.is_dir()


def test_a_damaged_pointer_stops_it(out, capsys):
    (out / "captions" / "current.json").write_text("{")
    before = names(out, "captions")
    code, message = gc(capsys, out, "--yes")
    assert code == 2 and "current.json" in message and names(out, "captions") == before


def test_older_versions_stay_until_the_current_one_is_finished(out, config, capsys):
    import os

    longest = load_config(config, ["models.captioner.generation.max_new_tokens=5"])
    summary = generate_table("captions", longest, out, new_version=True)
    marker = next(current_version(out, "captions").glob("*.marker.json"))
    kept = marker.rename(out / "kept.json")
    code, result = gc(capsys, out, "--yes")
    assert code == 0 and result["versions"] == [] and len(names(out, "captions")) == 4
    assert f"{summary.version} is not finished and may copy its texts" in result["kept"].values()
    os.rename(kept, marker)
    assert len(gc(capsys, out, "--yes")[1]["versions"]) >= 3 and names(out, "captions") == [summary.version]
