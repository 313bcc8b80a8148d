"""``python -m flows.NAME`` as a user runs it: exit codes, what is printed, and what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from schemas import NoSuchTable, open_table
from tests.flows.building import make_table
from tests.pipeline.killing import rows_of


def start(
    module: str, table: dict[str, str], *more: str, api_url: str | None = None
) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environment.pop("PREFECT_API_URL", None)
    if api_url is not None:
        environment["PREFECT_API_URL"] = api_url
    return subprocess.Popen(
        [sys.executable, "-m", module, "--config", table["config"], "--out", table["out"], *more],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(module: str, table: dict[str, str], *more: str, api_url: str | None = None) -> tuple[int, str, str]:
    process = start(module, table, *more, api_url=api_url)
    out, err = process.communicate(timeout=400)
    return process.returncode, out, err


def shards_done(out: str, name: str) -> int:
    try:
        return len(open_table(out, name).files)
    except NoSuchTable:
        return 0


def wait_for_shards(process: subprocess.Popen[str], out: str, name: str, count: int) -> None:
    while shards_done(out, name) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def gone(processes: list[psutil.Process], seconds: float) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not alive


def test_without_any_server_the_command_brings_its_own_and_takes_it_away(tmp_path):
    table = make_table(tmp_path, samples=12)
    process = start("flows.captions", table, "--json")
    family: set[psutil.Process] = set()
    while process.poll() is None and shards_done(table["out"], "captions") < 3:
        family.update(psutil.Process(process.pid).children(recursive=True))
        time.sleep(0.05)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    summary = json.loads(out)
    assert (summary["planned"], summary["written"], summary["failed"]) == (12, 12, 0)
    assert family and gone(list(family), 0)
    assert "captions shard 00002' - 2 rows, 0 failed" in err
    for noise in ("Traceback", "View at", "docs.prefect.io", "upgrade", "Prefect Cloud"):
        assert noise not in err

    code, out, err = run("flows.captions", table)
    assert code == 0 and "nothing to do" in out, err
    # Nothing to do needs no server.
    assert "Beginning flow run" not in err


def test_wrong_usage_ends_with_2_and_one_message(tmp_path):
    table = make_table(tmp_path, samples=3)
    code, out, err = run("flows.explanations", table, "--set", "models.chat.batch_sice=4")
    assert (code, out) == (2, "")
    assert "did you mean 'batch_size'?" in err and "Traceback" not in err
    code, out, err = run("flows.refresh", table)
    assert (code, out) == (2, "")
    assert err.strip() == "error: name the data: either --data DIR, a DGM4 folder, or --metadata F..."


def test_a_server_that_does_not_answer_is_named(tmp_path):
    table = make_table(tmp_path, samples=3)
    code, _, err = run("flows.captions", table, api_url="http://127.0.0.1:9/api")
    assert code == 2
    assert "http://127.0.0.1:9/api does not answer" in err and "Traceback" not in err


def test_more_failures_than_allowed_end_with_4(tmp_path, api_url):
    table = make_table(tmp_path, samples=12, failure_share=0.5)
    code, out, err = run("flows.explanations", table, api_url=api_url)
    assert code == 4, err
    assert "12 planned" in out and "max_failed_share" in err and "Traceback" not in err


def test_a_signal_ends_it_with_3_and_the_same_command_resumes(tmp_path, api_url):
    table = make_table(tmp_path, samples=40, latency_s=0.1)
    done = 0
    for number in (signal.SIGINT, signal.SIGTERM):
        process = start("flows.captions", table, api_url=api_url)
        wait_for_shards(process, table["out"], "captions", done + 2)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 3, err
        assert f"error: stopped by {number.name}" in err and "Traceback" not in err
        done = shards_done(table["out"], "captions")
        assert done < 8
    code, out, err = run("flows.captions", table, "--json", api_url=api_url)
    assert code == 0, err
    assert json.loads(out)["skipped_existing"] == 5 * done


def test_a_killed_command_leaves_no_process_and_nothing_half_written(tmp_path):
    table = make_table(tmp_path, samples=40, latency_s=0.1)
    process = start("flows.captions", table)
    wait_for_shards(process, table["out"], "captions", 2)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    assert family and gone(family, 60)
    rows = rows_of(Path(table["out"]), "captions")
    assert len(rows) == 5 * shards_done(table["out"], "captions")
    assert rows["image_key"].n_unique() == len(rows)
