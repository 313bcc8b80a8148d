"""SIGKILL, SIGTERM and a second process during a retry: each shard is as before, or mended."""

from __future__ import annotations

import shutil
import time

import pytest

from pipeline.shards.verify import verify
from schemas import open_table
from schemas.layout import current_version
from schemas.reader import committed
from tests.builders import write_echo_config, write_samples
from tests.pipeline.killing import rows_of, run, start

ROWS = 20
CONFIG = """
captions: {model: captioner, shard_size: 10}
explanations: {model: chat, shard_size: 10, max_failed_share: 0.9}
models:
  captioner: {kind: instructblip, engine: echo}
  chat: {kind: chat, engine: echo, echo: {failure_share: 0.1, outage_share: 0.4}}
"""


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Explanations in two shards with failures in each."""
    folder = tmp_path_factory.mktemp("broken")
    write_samples(folder / "out", ROWS)
    config = write_echo_config(folder, CONFIG)
    assert run(["explanations", "--config", str(config), "--out", str(folder / "out")]) == 0
    shards, _ = committed(current_version(folder / "out", "explanations"), "explanations")
    assert all(shard.failures > 2 for shard in shards) and len(shards) == 2
    return folder


def copy(broken, folder, **echo):
    shutil.copytree(broken / "out", folder / "out")
    arguments = ["--config", str(broken / "echo.yaml"), "--out", str(folder / "out")]
    for name, value in ({"outage_share": 0} | echo).items():
        arguments += ["--set", f"models.chat.echo.{name}={value}"]
    return folder / "out", arguments


@pytest.fixture(scope="module")
def mended(broken, tmp_path_factory):
    out, arguments = copy(broken, tmp_path_factory.mktemp("mended"))
    assert run(["retry-failed", *arguments]) == 0
    return rows_of(out, "explanations")


def check(out, before, mended):
    """Every row is a right one, none that was good is gone, every key is accounted for, all files hold."""
    rows = rows_of(out, "explanations")
    key = ["sample_id"]
    assert rows.equals(mended.join(rows.select(key), on=key, how="semi").sort(key))
    assert before.equals(rows.join(before.select(key), on=key, how="semi").sort(key))
    assert len(rows) + open_table(out, "failures").num_rows == ROWS
    report = verify(out, deep=True)
    assert report.ok, report.problems
    return len(rows)


@pytest.mark.parametrize(
    ("call", "after"),
    [("fsync", False), *((call, after) for call in ("replace", "link") for after in (False, True))],
)
def test_a_kill_at_any_commit_step_leaves_each_shard_as_before_or_mended(
    broken, mended, tmp_path, call, after
):
    before = rows_of(broken / "out", "explanations")
    assert len(before) < len(mended) < ROWS
    kills = 0
    for number in range(1, 100):
        out, arguments = copy(broken, tmp_path / str(number))
        code = run(["retry-failed", *arguments], (call, number, after))
        assert code in (0, -9)
        check(out, before, mended)
        if code == 0:
            break
        kills += 1
        assert run(["retry-failed", *arguments]) == 0
        assert check(out, before, mended) == len(mended)
        shutil.rmtree(tmp_path / str(number))
    assert kills >= {"fsync": 8, "replace": 3, "link": 2}[call]


def test_sigterm_exits_3_and_the_same_command_goes_on(broken, mended, tmp_path):
    out, arguments = copy(broken, tmp_path, latency_s=0.4)
    # One shard at a time, so that the first one is mended before the signal comes.
    arguments += ["--set", "explanations.shard_size=1"]
    before = rows_of(out, "explanations")
    child = start(["retry-failed", *arguments])
    deadline = time.monotonic() + 60
    while len(rows_of(out, "explanations")) == len(before) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.terminate()
    child.join(20)
    assert child.exitcode == 3
    assert len(before) < check(out, before, mended) < len(mended)
    assert run(["retry-failed", *arguments[:4], "--set", "models.chat.echo.outage_share=0"]) == 0
    assert check(out, before, mended) == len(mended)


def test_two_retries_at_the_same_time_end_as_one_valid_table(broken, mended, tmp_path):
    out, arguments = copy(broken, tmp_path, latency_s=0.05)
    before = rows_of(out, "explanations")
    children = [start(["retry-failed", *arguments]) for _ in range(3)]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert check(out, before, mended) == len(mended)
    shards, _ = committed(current_version(out, "explanations"), "explanations")
    assert all(marker.data.rows for shard in shards for marker in shard.retries[:1])
