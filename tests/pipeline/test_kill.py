"""SIGKILL at every commit step and at random moments: the rows end as in an uninterrupted run."""

from __future__ import annotations

import random
import shutil
import time

import pytest

from tests.builders import write_echo_config, write_samples
from tests.pipeline.killing import assert_nothing_half_written, assert_whole, rows_of, run, start

SLOW_ECHO = """
captions: {model: captioner, shard_size: 10}
explanations: {model: chat, shard_size: 5}
models:
  captioner: {kind: instructblip, engine: echo}
  chat: {kind: chat, engine: echo, echo: {latency_s: 0.01, failure_share: 0.1}}
"""


def prepared(folder, text=None, samples=24):
    folder.mkdir()
    write_samples(folder / "out", samples, rows_per_shard=9)
    config = write_echo_config(folder, text) if text else write_echo_config(folder)
    return folder / "out", ["--config", str(config), "--out", str(folder / "out")]


@pytest.fixture(scope="module")
def captions_expected(tmp_path_factory):
    out, arguments = prepared(tmp_path_factory.mktemp("whole") / "a")
    assert run(["captions", *arguments]) == 0
    rows = rows_of(out, "captions")
    assert len(rows) == 24
    return rows


@pytest.mark.parametrize(
    ("call", "after"),
    # After an fsync is before the next call, so it is no place of its own.
    [("fsync", False), *((call, after) for call in ("replace", "link", "rename") for after in (False, True))],
)
def test_a_kill_at_any_commit_step_ends_in_the_rows_of_an_uninterrupted_run(
    tmp_path, captions_expected, call, after
):
    kills = 0
    for number in range(1, 100):
        out, arguments = prepared(tmp_path / str(number))
        code = run(["captions", *arguments], (call, number, after))
        assert code in (0, -9)
        assert_nothing_half_written(out, "captions", captions_expected)
        if code == 0:  # the run makes fewer calls than this: every one of them has been a place of death
            break
        kills += 1
        assert run(["captions", *arguments]) == 0
        assert_whole(out, "captions", captions_expected)
        shutil.rmtree(tmp_path / str(number))
    assert kills >= {"fsync": 15, "replace": 5, "link": 3, "rename": 1}[call]


def test_random_kills_lose_and_repeat_nothing(tmp_path):
    seed = int(time.time())
    print(f"seed {seed}")
    rng = random.Random(seed)
    out, arguments = prepared(tmp_path / "whole", SLOW_ECHO, samples=60)
    arguments += ["--set", "explanations.max_failed_share=0.5"]
    started = time.monotonic()
    assert run(["explanations", *arguments]) == 0
    length = time.monotonic() - started
    expected, failed = rows_of(out, "explanations"), rows_of(out, "failures")
    assert len(expected) + len(failed) == 60 and len(failed) > 0
    out, arguments = prepared(tmp_path / "killed", SLOW_ECHO, samples=60)
    arguments += ["--set", "explanations.max_failed_share=0.5"]
    kills, seen, code = 0, 0, -9
    while code == -9 and kills < 40:
        child = start(["explanations", *arguments])
        child.join(rng.uniform(0.2, 0.9) * length)
        if child.exitcode is None:
            child.kill()
            kills += 1
        child.join()
        code = child.exitcode
        now = assert_nothing_half_written(out, "explanations", expected)
        assert now >= seen, "a committed row went away"
        seen = now
    assert run(["explanations", *arguments]) == 0
    assert kills >= 1, f"no kill landed in {length:.2f} s"
    assert_whole(out, "explanations", expected)
    assert rows_of(out, "failures").drop("last_attempt").equals(failed.drop("last_attempt"))


def test_sigterm_exits_3_and_the_same_command_resumes(tmp_path):
    out, arguments = prepared(tmp_path / "a", SLOW_ECHO, samples=60)
    arguments += ["--set", "explanations.max_failed_share=0.5"]
    # Slow enough that the signal arrives long before the end, on however busy a machine.
    child = start(["explanations", *arguments, "--set", "models.chat.echo.latency_s=1.0"])
    deadline = time.monotonic() + 30
    while not len(rows_of(out, "explanations")) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.terminate()
    child.join(20)
    assert child.exitcode == 3
    written = len(rows_of(out, "explanations"))
    assert 0 < written < 60
    assert run(["explanations", *arguments]) == 0
    assert len(rows_of(out, "explanations")) + len(rows_of(out, "failures")) == 60


def test_two_processes_on_one_table_end_as_one_valid_table(tmp_path):
    out, arguments = prepared(tmp_path / "whole", SLOW_ECHO, samples=60)
    arguments += ["--set", "explanations.max_failed_share=0.5"]
    assert run(["explanations", *arguments]) == 0
    expected = rows_of(out, "explanations")
    out, arguments = prepared(tmp_path / "shared", SLOW_ECHO, samples=60)
    arguments += ["--set", "explanations.max_failed_share=0.5"]
    children = [start(["explanations", *arguments]) for _ in range(3)]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert_whole(out, "explanations", expected)
