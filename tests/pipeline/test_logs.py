"""Log lines as JSON objects that say where they belong."""

from __future__ import annotations

import json
import logging

import pytest

from pipeline.identity import environment, identity, working_at
from pipeline.logs import JsonLines, wanted_format


def line(message="done", **extra):
    record = logging.LogRecord("pipeline.run", logging.INFO, "run.py", 1, message, (), extra.pop("exc", None))
    record.__dict__.update(extra)
    return json.loads(JsonLines().format(record))


def test_a_line_names_run_worker_and_what_is_in_hand():
    plain = line()
    assert plain["level"] == "INFO" and plain["time"].endswith("+00:00")
    assert plain["run"] == identity().run and plain["worker"] and "shard" not in plain
    with working_at(table="captions", shard=7):
        inside = line()
    assert (inside["table"], inside["shard"]) == ("captions", 7)
    assert line().keys() == plain.keys()


def test_a_line_passed_on_for_a_worker_keeps_that_workers_names():
    assert line(identity={"worker": "worker-9", "shard": 3})["worker"] == "worker-9"


def test_a_traceback_is_in_the_line_and_the_line_stays_one():
    try:
        raise ValueError("one\ntwo")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "it broke", (), None)
        record.exc_info = (type(error), error, error.__traceback__)
    text = JsonLines().format(record)
    assert "\n" not in text and "ValueError: one\ntwo" in json.loads(text)["error"]


@pytest.mark.parametrize(
    ("asked", "variable", "wanted"),
    [
        (None, None, "text"),
        (None, "json", "json"),
        ("text", "json", "text"),
        ("json", None, "json"),
        (None, "yaml", "text"),
    ],
)
def test_the_command_line_wins_over_the_environment(monkeypatch, asked, variable, wanted):
    monkeypatch.delenv("DGM4_LOG_FORMAT", raising=False)
    if variable is not None:
        monkeypatch.setenv("DGM4_LOG_FORMAT", variable)
    assert wanted_format(asked) == wanted


def test_a_child_process_is_given_the_names_it_shall_use():
    assert environment("run-1", "worker-3") == {"DGM4_RUN": "run-1", "DGM4_WORKER": "worker-3"}
