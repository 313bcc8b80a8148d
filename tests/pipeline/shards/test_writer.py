from __future__ import annotations

import errno
import json
import os
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.shards import atomic
from pipeline.shards.writer import AccountingError, commit_shard, committed_marker
from schemas import schema_of
from schemas.layout import marker_path

PRINT = "0" * 64


def captions(keys, text="a man smiles"):
    shared = {
        "prompt_id": "p:1",
        "finish_reason": "stop",
        "tokens_in": 1,
        "tokens_out": 3,
        "flags": [],
        "input_hash": PRINT,
    }
    rows = [{"image_key": key, "caption": text, **shared} for key in keys]
    return pa.Table.from_pylist(rows, schema=schema_of("captions"))


def failures(keys):
    rows = [
        {
            "stage": "captions",
            "key": key,
            "error_class": "image_missing",
            "permanent": True,
            "message": "gone",
            "attempts": 1,
            "last_attempt": datetime.now(UTC),
        }
        for key in keys
    ]
    return pa.Table.from_pylist(rows, schema=schema_of("failures"))


def commit(folder, planned, rows, failed=None, shard=0, set_aside=None):
    return commit_shard(
        folder,
        "captions",
        shard,
        fingerprint=PRINT,
        planned=planned,
        rows=rows,
        failures=failed,
        quarantined=set_aside,
    )


def test_rows_and_failures_are_committed_together(tmp_path):
    assert commit(tmp_path, ["a", "b", "c"], captions(["a", "c"]), failures(["b"]))
    marker = committed_marker(tmp_path, 0)
    assert (marker.planned, marker.rows, marker.failures) == (3, 2, 1)
    assert (marker.key_min, marker.key_max) == ("a", "c")
    assert sorted(os.listdir(tmp_path)) == sorted(
        [marker.data.name, marker.failure_data.name, "shard-00000.marker.json"]
    )


def test_rows_set_aside_are_kept_in_a_file_of_their_own(tmp_path):
    planned, aside = ["a", "b", "c"], captions(["c"], "?!")
    assert commit(tmp_path, planned, captions(["a"]), failures(["b"]), set_aside=aside)
    marker = committed_marker(tmp_path, 0)
    assert (marker.planned, marker.rows, marker.failures, marker.quarantined) == (3, 1, 1, 1)
    assert marker.quarantine_data.name.startswith("quarantined-00000-") and len(marker.files()) == 3
    kept = pq.read_table(tmp_path / marker.quarantine_data.name)
    assert (kept.column("image_key").to_pylist(), kept.column("caption").to_pylist()) == (["c"], ["?!"])


def test_a_marker_from_before_rows_were_set_aside_still_holds(tmp_path):
    commit(tmp_path, ["a"], captions(["a"]))
    path = marker_path(tmp_path, 0)
    content = json.loads(path.read_bytes())
    del content["quarantine_data"]
    path.write_text(json.dumps(content))
    assert committed_marker(tmp_path, 0).rows == 1


@pytest.mark.parametrize(
    ("rows", "failed", "set_aside", "complaint"),
    [
        (["a"], [], [], "'b' ended nowhere"),
        (["a", "b"], ["b"], [], "'b' ended twice"),
        (["a", "b"], [], ["b"], "'b' ended twice"),
        (["a"], ["b"], ["b"], "'b' ended twice"),
        (["a", "b", "x"], [], [], "'x' was not planned"),
        (["a", "b"], [], ["x"], "'x' was not planned"),
    ],
)
def test_accounts_that_do_not_add_up_commit_nothing(tmp_path, rows, failed, set_aside, complaint):
    with pytest.raises(AccountingError, match=complaint):
        commit(tmp_path, ["a", "b"], captions(rows), failures(failed), set_aside=captions(set_aside))
    assert os.listdir(tmp_path) == []


def test_the_second_of_two_attempts_yields_and_leaves_no_file(tmp_path):
    assert commit(tmp_path, ["a"], captions(["a"], "first"))
    before = sorted(os.listdir(tmp_path))
    assert not commit(tmp_path, ["a"], captions(["a"], "second"))
    assert sorted(os.listdir(tmp_path)) == before


def test_a_torn_marker_means_not_done_and_is_replaced(tmp_path):
    commit(tmp_path, ["a"], captions(["a"], "first"))
    path = marker_path(tmp_path, 0)
    path.write_bytes(path.read_bytes()[:30])
    assert committed_marker(tmp_path, 0) is None
    assert commit(tmp_path, ["a"], captions(["a"], "second"))
    assert committed_marker(tmp_path, 0).rows == 1


def test_a_shard_of_only_failures_is_a_committed_shard(tmp_path):
    assert commit(tmp_path, ["a"], captions([]), failures(["a"]))
    assert committed_marker(tmp_path, 0).key_min is None


def test_without_hard_links_the_marker_is_still_created_once(tmp_path, monkeypatch):
    def no_links(*_args):
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    target = tmp_path / "marker"
    assert atomic.create_bytes(target, b"one")
    assert not atomic.create_bytes(target, b"two")
    assert target.read_bytes() == b"one" and os.listdir(tmp_path) == ["marker"]


def test_a_full_disk_leaves_the_old_file_and_no_temporary(tmp_path, monkeypatch):
    target = tmp_path / "current.json"
    atomic.write_bytes(target, b"old")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic.write_bytes(target, b"new")
    assert target.read_bytes() == b"old" and os.listdir(tmp_path) == ["current.json"]


def test_names_are_given_to_flushed_bytes_only_and_the_marker_comes_last(tmp_path, monkeypatch):
    """What a power cut would show and no kill does: the order of flushes and names."""
    steps = []
    fsync, replace, link = os.fsync, os.replace, os.link

    def kind(path):
        name = os.path.basename(path)
        return next((word for word in ("failures", "marker") if word in name), "data")

    def noted_fsync(handle):
        path = os.readlink(f"/proc/self/fd/{handle}")
        steps.append("flush folder" if path == str(tmp_path) else f"flush {kind(path)}")
        fsync(handle)

    def noted_replace(source, target):
        steps.append(f"name {kind(target)}")
        replace(source, target)

    def noted_link(source, target):
        steps.append(f"name {kind(target)}")
        link(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    monkeypatch.setattr(os, "link", noted_link)
    assert commit(tmp_path, ["a", "b"], captions(["a"]), failures(["b"]))
    assert steps == [
        *("flush data", "name data", "flush folder"),
        *("flush failures", "name failures", "flush folder"),
        *("flush marker", "name marker", "flush folder"),
    ]
