"""Real worker processes on one table: killed, stopped, left alone; the table is the same as one worker's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.shards.roster import at_work
from schemas import layout
from tests.builders import write_echo_config, write_samples
from tests.pipeline.killing import assert_whole, rows_of, run

ROOT = Path(__file__).resolve().parents[3]
ROWS, SHARD = 72, 6

ECHO = """
captions: {model: captioner}
explanations: {model: chat, shard_size: %d}
workers: 2
models:
  captioner: {kind: instructblip, engine: echo}
  chat: {kind: chat, engine: echo, echo: {latency_s: %s}}
"""

REFUSING = """
import sys
if "pipeline.fleet.worker" in sys.orig_argv:
    from pipeline.engines import echo
    from pipeline.errors import UsageError
    def refuse(*_):
        raise UsageError("device: npu is not there")
    echo.EchoEngine.__init__ = refuse
"""


class Run:
    """``python -m pipeline explanations`` with two workers."""

    def __init__(self, folder: Path, latency_s: float, *more: str) -> None:
        folder.mkdir(exist_ok=True)
        self.out = folder / "out"
        if not self.out.exists():
            write_samples(self.out, ROWS)
        config = write_echo_config(folder, ECHO % (SHARD, latency_s))
        arguments = ["explanations", "--config", str(config), "--out", str(self.out), "--json", *more]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def version(self) -> Path:
        return layout.current_version(self.out, "explanations")

    def workers(self, count: int = 2) -> list[psutil.Process]:
        """Return the worker processes once each has a shard in hand."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                seen = [one for one in at_work(self.version) if one.figures["shard"] is not None]
            except layout.TableError:
                seen = []
            if len(seen) >= count:
                return [psutil.Process(one.pid) for one in seen]
            time.sleep(0.05)
        raise AssertionError("no workers at work")

    def end(self) -> tuple[int, dict, str]:
        out, err = self.process.communicate(timeout=90)
        return self.process.returncode, json.loads(out) if out.strip() else {}, err


@pytest.fixture
def expected(tmp_path):
    folder = tmp_path / "alone"
    folder.mkdir()
    write_samples(folder / "out", ROWS)
    config = write_echo_config(folder, ECHO % (SHARD, 0))
    assert run(["explanations", "--config", str(config), "--out", str(folder / "out"), "--workers", "1"]) == 0
    return rows_of(folder / "out", "explanations")


def test_two_workers_write_the_table_of_one_and_the_summary_adds_up(tmp_path, expected):
    together = Run(tmp_path / "two", 0.02)
    code, summary, err = together.end()
    assert code == 0, err
    assert_whole(together.out, "explanations", expected)
    assert (summary["planned"], summary["written"], summary["skipped_existing"]) == (ROWS, ROWS, 0)
    assert summary["tokens_out"] > 0 and summary["generated"] == ROWS - summary["shared"]
    bill = summary["bill"]
    assert (bill["workers"], bill["devices"], bill["rows"], bill["loads"]) == (2, 2, ROWS, 2)
    assert bill["device_seconds"] > bill["wall_seconds"] * 0.5
    markers = [json.loads(path.read_bytes())["stats"] for path in together.version.glob("*.marker.json")]
    assert {stats["worker"] for stats in markers} == {"worker-1", "worker-2"}
    assert len({stats["run"] for stats in markers}) == 1
    assert "[worker-1]" in err and "[worker-2]" in err
    assert not (together.version / layout.CLAIMS_DIR).exists()


def test_a_killed_worker_is_replaced_and_no_row_is_lost(tmp_path, expected):
    together = Run(tmp_path / "kill", 0.1)
    victim = together.workers()[0]
    victim.kill()
    code, summary, err = together.end()
    assert code == 0, err
    assert_whole(together.out, "explanations", expected)
    assert summary["written"] == ROWS
    assert "ended with signal 9" in err and "the next worker takes its place" in err


def test_a_signal_stops_all_workers_at_their_next_rows_and_the_same_command_resumes(tmp_path, expected):
    together = Run(tmp_path / "stop", 0.2)
    workers = together.workers()
    asked = time.monotonic()
    together.process.send_signal(signal.SIGTERM)
    code, _, err = together.end()
    assert code == 3 and time.monotonic() - asked < 20, err
    assert "the workers have stopped; the same command resumes" in err
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert not alive
    assert not (together.version / layout.CLAIMS_DIR).exists(), "claims were not given back"
    some = len(rows_of(together.out, "explanations"))
    assert some < ROWS
    code, summary, err = Run(tmp_path / "stop", 0).end()
    assert code == 0 and (summary["skipped_existing"], summary["written"]) == (some, ROWS - some), err
    assert_whole(together.out, "explanations", expected)


def test_workers_do_not_outlive_a_run_that_is_killed(tmp_path, expected):
    together = Run(tmp_path / "orphans", 0.2)
    workers = together.workers()
    together.process.kill()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive, "workers were left behind"
    code, _, err = Run(tmp_path / "orphans", 0).end()
    assert code == 0, err
    assert_whole(together.out, "explanations", expected)


def test_wrong_input_is_said_once_with_exit_code_2(tmp_path):
    folder = tmp_path / "wrong"
    write_samples(folder / "out", 6)
    config = write_echo_config(folder, ECHO % (SHARD, 0))
    # Seen by the workers only, as the run itself loads no model.
    (folder / "sitecustomize.py").write_text(REFUSING)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pipeline",
            "explanations",
            "--config",
            str(config),
            "--out",
            str(folder / "out"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error: device: npu is not there") == 1


def test_ray_is_refused_by_the_plain_command_with_the_remedy(tmp_path):
    code, _, err = Run(tmp_path / "ray", 0, "--set", "runner=ray").end()
    assert code == 2 and "python -m flows.explanations" in err


def test_log_lines_are_json_with_run_worker_table_and_shard_where_asked_for(tmp_path):
    _, _, err = Run(tmp_path / "lines", 0.02, "--log-format", "json").end()
    lines = [json.loads(line) for line in err.splitlines()]
    assert {"time", "level", "logger", "message", "run", "worker"} <= set.intersection(*map(set, lines))
    assert len({line["run"] for line in lines}) == 1
    assert {line["worker"] for line in lines} >= {"worker-1", "worker-2"}
    assert all(line["table"] == "explanations" for line in lines if "shard" in line)
