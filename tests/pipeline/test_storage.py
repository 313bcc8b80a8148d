"""Disks that are full, read-only or lack renames or hard links: a clear error, and no damage."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from pipeline.__main__ import main
from pipeline.shards.verify import verify
from schemas import open_table
from tests.builders import write_echo_config, write_samples
from tests.pipeline.killing import assert_nothing_half_written, assert_whole, rows_of, run
from tests.pipeline.mounts import remount_read_only, tmpfs, without_hard_links


def prepared(folder: Path, samples: int = 24) -> list[str]:
    folder.mkdir(exist_ok=True)
    write_samples(folder / "out", samples, rows_per_shard=9)
    return ["captions", "--config", str(write_echo_config(folder)), "--out", str(folder / "out")]


@pytest.fixture
def expected(tmp_path):
    assert main(prepared(tmp_path / "whole")) == 0
    return rows_of(tmp_path / "whole" / "out", "captions")


class Fault:
    """Makes the nth call of a function of ``os`` fail, or every call from the first on."""

    def __init__(self, monkeypatch, call: str, code: int, nth: int | None = None) -> None:
        self.happened = 0
        self._original, self._code, self._nth, self._calls = getattr(os, call), code, nth, 0
        monkeypatch.setattr(os, call, self)

    def __call__(self, *args, **kwargs):
        self._calls += 1
        if self._nth in (None, self._calls):
            self.happened += 1
            raise OSError(self._code, os.strerror(self._code))
        return self._original(*args, **kwargs)


@pytest.mark.parametrize("call", ["fsync", "replace", "link", "rename"])
def test_a_disk_that_is_full_at_any_step_ends_with_2_and_the_next_run_finishes(
    tmp_path, expected, monkeypatch, capsys, call
):
    stopped = 0
    for nth in range(1, 60):
        folder = tmp_path / f"{call}-{nth}"
        arguments = prepared(folder)
        with monkeypatch.context() as patch:
            fault = Fault(patch, call, errno.ENOSPC, nth)
            code = main(arguments)
        if not fault.happened:
            break
        said = capsys.readouterr().err
        assert code in (0, 2)
        if code == 0:  # flushing a folder, a sign of life and the bill are best effort
            assert_whole(folder / "out", "captions", expected)
        else:
            stopped += 1
            assert "No space left on device. Free some space and run the same command again" in said
            assert str(folder / "out" / "captions") in said and "Traceback" not in said
            assert_nothing_half_written(folder / "out", "captions", expected)
        assert main(arguments) == 0
        assert_whole(folder / "out", "captions", expected)
        assert verify(folder / "out").leftovers == [], "a failed attempt keeps room that a full disk needs"
        shutil.rmtree(folder)
    assert stopped >= {"fsync": 9, "replace": 6, "link": 5, "rename": 1}[call]


def test_a_real_disk_that_fills_up_loses_nothing(tmp_path, expected):
    with tmpfs(tmp_path / "disk", "2m") as disk:
        arguments = prepared(disk, 24)
        assert run(arguments) == 0
        assert_whole(disk / "out", "captions", rows_of(disk / "out", "captions"))
        shutil.rmtree(disk / "out" / "captions")
        codes = []
        for free_kib in (4, 16, 28, 40, 52, 64, 76, 88):
            shutil.rmtree(disk / "out" / "captions", ignore_errors=True)
            fill(disk, leave=free_kib * 1024)
            codes.append(run(arguments))
            seen = assert_nothing_half_written(disk / "out", "captions", expected)
            (disk / "filler").unlink()
            problems = [p for p in verify(disk / "out", deep=True).problems if p.table == "captions"]
            assert all("has not been written" in problem.what for problem in problems)
            assert run(arguments) == 0
            assert len(rows_of(disk / "out", "captions")) == 24 >= seen
        assert set(codes) == {0, 2}, codes
        assert_whole(disk / "out", "captions", expected)


def fill(disk: Path, leave: int) -> None:
    free = os.statvfs(disk)
    with (disk / "filler").open("wb") as stream:
        stream.write(b"\0" * max(0, free.f_bavail * free.f_frsize - leave))


def test_a_read_only_folder_is_named_and_can_still_be_read(tmp_path, capsys):
    with tmpfs(tmp_path / "disk", "4m") as disk:
        captions = prepared(disk)
        assert main(captions) == 0
        remount_read_only(disk)
        assert main(["explanations", *captions[1:]]) == 2
        said = capsys.readouterr().err
        assert f"{disk}/out/explanations" in said and "Read-only file system. Choose another --out" in said
        # What is complete needs no writing.
        assert main(captions) == 0
        assert main(["status", "--out", str(disk / "out")]) == 0
        assert main(["verify", "--out", str(disk / "out"), "--deep"]) == 0
        assert open_table(disk / "out", "captions").num_rows == 24


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_without_hard_links_the_table_is_written_all_the_same(tmp_path, expected, monkeypatch, code):
    arguments = prepared(tmp_path / "a")
    with monkeypatch.context() as patch:
        fault = Fault(patch, "link", code)
        assert main(arguments) == 0
    assert fault.happened >= 6  # a claim and a marker of each of three shards
    assert_whole(tmp_path / "a" / "out", "captions", expected)


def test_on_a_real_file_system_without_hard_links_the_table_is_written(tmp_path, expected):
    with without_hard_links(tmp_path / "fat") as disk:
        with pytest.raises(OSError):
            os.link(__file__, disk / "linked")
        assert run(prepared(disk)) == 0
        assert_whole(disk / "out", "captions", expected)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSYS, "This file system cannot rename files"),
        (errno.EOPNOTSUPP, "This file system cannot rename files"),
        (errno.EXDEV, "This file system cannot rename files"),
        (errno.EPERM, "Choose another --out"),
    ],
)
def test_without_renames_it_says_so_and_leaves_nothing_behind(tmp_path, monkeypatch, capsys, code, words):
    arguments = prepared(tmp_path / "a")
    for call in ("replace", "rename"):
        with monkeypatch.context() as patch:
            fault = Fault(patch, call, code)
            assert main(arguments) == 2
        assert fault.happened
        said = capsys.readouterr().err
        assert words in said and "Traceback" not in said
    assert not list((tmp_path / "a" / "out" / "captions").rglob("*.parquet"))
    assert main(arguments) == 0


def test_a_link_that_succeeded_although_its_answer_was_lost_counts(tmp_path, expected, monkeypatch):
    """NFS repeats such a request and then says that the file exists: the shard is this worker's still."""
    link = os.link

    def linked_twice(source, target):
        link(source, target)
        link(source, target)

    arguments = prepared(tmp_path / "a")
    monkeypatch.setattr(os, "link", linked_twice)
    assert main(arguments) == 0
    assert_whole(tmp_path / "a" / "out", "captions", expected)
    assert verify(tmp_path / "a" / "out").leftovers == []


def test_a_claim_that_cannot_be_written_is_named(tmp_path, monkeypatch, capsys):
    arguments = prepared(tmp_path / "a")
    with monkeypatch.context() as patch:
        Fault(patch, "link", errno.ENOSPC, 1)
        assert main(arguments) == 2
    assert "/claims: No space left on device" in capsys.readouterr().err
    assert main(arguments) == 0
