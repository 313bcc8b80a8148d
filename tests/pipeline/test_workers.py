"""Several processes on one table: no row is generated twice, and none waits for a worker that is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from pipeline.shards.status import table_status
from schemas import layout
from tests.builders import write_echo_config, write_samples
from tests.pipeline.killing import assert_whole, generated, rows_of, run, start

ROWS, SHARD = 96, 6

ECHO = """
captions: {model: captioner}
explanations: {model: chat, shard_size: %d, lease_s: %s}
models:
  captioner: {kind: instructblip, engine: echo}
  chat: {kind: chat, engine: echo, echo: {latency_s: %s}}
"""


@pytest.fixture
def table(tmp_path):
    """Return a function that makes a table and the arguments of its command."""

    def make(
        name: str = "shared", *, latency_s: float = 0.05, lease_s: float = 300
    ) -> tuple[Path, list[str]]:
        folder = tmp_path / name
        folder.mkdir()
        write_samples(folder / "out", ROWS)
        config = write_echo_config(folder, ECHO % (SHARD, lease_s, latency_s))
        return folder / "out", ["explanations", "--config", str(config), "--out", str(folder / "out")]

    return make


@pytest.fixture
def expected(table):
    out, arguments = table("alone", latency_s=0)
    assert run(arguments) == 0
    return rows_of(out, "explanations")


@pytest.fixture
def notes(tmp_path):
    (tmp_path / "notes").mkdir()
    return tmp_path / "notes"


def claims_folder(out: Path) -> Path:
    return layout.current_version(out, "explanations") / layout.CLAIMS_DIR


def said(notes: Path, child) -> str:
    return (notes / f"said-{child.pid}").read_text()


def wait_until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def generating(notes: Path, child, rows: int = 1) -> bool:
    path = notes / f"generated-{child.pid}"
    return path.exists() and len(path.read_text().split()) >= rows


def test_three_workers_generate_every_row_once(table, expected, notes):
    out, arguments = table(latency_s=0.1)
    children = [start(arguments, notes=notes) for _ in range(3)]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert_whole(out, "explanations", expected)
    times = Counter(generated(notes))
    assert len(times) == ROWS and set(times.values()) == {1}
    shares = [len((notes / f"generated-{child.pid}").read_text().split()) for child in children]
    assert min(shares) >= SHARD, f"somebody had nothing to do: {shares}"
    assert not claims_folder(out).exists()


def test_the_shard_of_a_killed_worker_is_taken_over_without_waiting(table, expected, notes):
    out, arguments = table(latency_s=0.1, lease_s=3600)
    victim, helper = start(arguments, notes=notes), start(arguments, notes=notes)
    wait_until(lambda: generating(notes, victim) and generating(notes, helper))
    # In the middle of a shard.
    wait_until(lambda: len((notes / f"generated-{victim.pid}").read_text().split()) % SHARD == 2)
    victim.kill()
    victim.join()
    helper.join(60)
    assert helper.exitcode == 0
    assert_whole(out, "explanations", expected)
    twice = [key for key, times in Counter(generated(notes)).items() if times > 1]
    assert len(twice) <= SHARD, "more than the shard in hand was generated again"
    assert "is taken over from process" in said(notes, helper)
    assert not claims_folder(out).exists()


def test_a_worker_that_stood_still_for_longer_than_its_lease_loses_cleanly(table, expected, notes):
    out, arguments = table(lease_s=1.5)
    sleeper = start(arguments, notes=notes)
    wait_until(lambda: generating(notes, sleeper, SHARD + 2))
    os.kill(sleeper.pid, signal.SIGSTOP)
    try:
        helper = start(arguments, notes=notes)
        helper.join(90)
        assert helper.exitcode == 0, "a worker that stands still blocks the others"
        assert_whole(out, "explanations", expected)
        before = len(generated(notes))
    finally:
        os.kill(sleeper.pid, signal.SIGCONT)
    sleeper.join(30)
    assert sleeper.exitcode == 0
    assert "was taken over by another worker" in said(notes, sleeper)
    assert "is taken over from process" in said(notes, helper)
    # It stops at its next row instead of finishing the shard.
    assert len(generated(notes)) - before <= 2
    assert_whole(out, "explanations", expected)
    assert len(generated(notes)) <= ROWS + SHARD


def test_a_worker_waits_for_the_others_and_a_signal_ends_the_wait(table, notes):
    out, arguments = table(latency_s=3)
    holder = start([*arguments, "--set", "explanations.shard_size=96"], notes=notes)
    wait_until(lambda: generating(notes, holder))
    waiter = start(arguments, notes=notes)
    wait_until(lambda: (notes / f"said-{waiter.pid}").exists() and "waiting for shard" in said(notes, waiter))
    assert f"held by process {holder.pid} on" in said(notes, waiter)
    started = time.monotonic()
    waiter.terminate()
    waiter.join(20)
    assert waiter.exitcode == 3 and time.monotonic() - started < 5
    holder.terminate()
    holder.join(20)
    assert holder.exitcode == 3
    assert not claims_folder(out).exists()


# A machine whose clock jumps by days at every look, and which sees nothing of the others but their files.
ELSEWHERE = """
import datetime, itertools, sys, time
import pipeline.generating
from pipeline.shards import workers
jumps, now = itertools.cycle([0, 3 * 86400, -5 * 86400]), time.time
time.time = lambda: now() + next(jumps)
class Jumping(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=next(jumps))
pipeline.generating.datetime = Jumping
workers._kernel = lambda: sys.argv[1]
from pipeline.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


def start_elsewhere(machine: str, arguments: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ELSEWHERE, machine, *arguments, "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_machines_whose_clocks_jump_share_the_work_without_repeating_any(table, expected):
    out, arguments = table(latency_s=0.1, lease_s=3)
    machines = [start_elsewhere(name, arguments) for name in ("one", "two")]
    printed = [machine.communicate(timeout=120) for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], printed
    written = [json.loads(summary)["written"] for summary, _ in printed]
    assert sum(written) == ROWS and min(written) > 0
    assert_whole(out, "explanations", expected)
    assert not claims_folder(out).exists()


def test_what_a_machine_that_died_holds_is_taken_over_after_its_lease(table, expected, notes):
    out, arguments = table(lease_s=3)
    machine = start_elsewhere("far away", arguments)
    wait_until(lambda: (out / "explanations" / "current.json").exists() and any(claims(out)))
    machine.kill()
    machine.communicate()
    started = time.monotonic()
    helper = start(arguments, notes=notes)
    helper.join(90)
    assert helper.exitcode == 0 and time.monotonic() - started >= 3
    assert "is taken over from process" in said(notes, helper)
    assert_whole(out, "explanations", expected)
    assert not claims_folder(out).exists()


def claims(out: Path) -> list[Path]:
    return list(claims_folder(out).glob("shard-*.json"))


def test_workers_that_carry_texts_over_generate_none_and_write_each_shard_once(
    table, expected, notes, tmp_path
):
    from pipeline.prompts import load_prompt

    out, arguments = table(latency_s=0)
    assert run(arguments) == 0
    same = tmp_path / "same.txt"
    same.write_text(load_prompt("description-v1").text)
    renamed = [*arguments, "--set", f"explanations.prompts.description={same}", "--new-version"]
    children = [start(renamed, notes=notes) for _ in range(3)]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert generated(notes) == []
    changed = expected.with_columns(
        prompt_id=rows_of(out, "explanations")["prompt_id"]
    )  # the only column that names the prompt
    assert_whole(out, "explanations", changed)
    assert table_status(out, "explanations").carried == ROWS
    assert not claims_folder(out).exists()
