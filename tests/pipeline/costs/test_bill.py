"""Bills of real runs on the engine without a model, which takes as long as it is told to."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import pytest

from pipeline.config import load_config
from pipeline.costs.bill import metered
from pipeline.costs.sums import read_bills, sum_bills, sum_gates
from pipeline.engines import close_engines, get_engine
from pipeline.errors import Interrupted
from pipeline.generating import generate_shard
from pipeline.run import generate_table, prepare
from pipeline.shards.status import table_status
from pipeline.shards.verify import verify
from schemas.layout import current_version
from schemas.marker import read_marker
from tests.builders import ECHO_CONFIG, list_markers, write_samples

ROWS = 30


@pytest.fixture(autouse=True)
def no_engine_of_another_test():
    close_engines()


def config_of(tmp_path, latency, *overrides):
    path = tmp_path / "echo.yaml"
    path.write_text(ECHO_CONFIG.replace("engine: echo}", f"engine: echo, echo: {{latency_s: {latency}}}}}"))
    return load_config(path, overrides)


@pytest.fixture
def out(tmp_path):
    write_samples(tmp_path / "out", ROWS)
    return tmp_path / "out"


def test_a_run_leaves_one_bill_that_adds_up(tmp_path, out):
    config = config_of(tmp_path, 0.02, "price_per_device_hour=3600", "currency=EUR")
    summary = generate_table("captions", config, out)
    version = current_version(out, "captions")
    (bill,) = read_bills(version)
    assert bill == summary.bill
    assert (bill["outcome"], bill["shards"], bill["keys"], bill["rows"]) == ("done", 3, ROWS, ROWS)
    assert sum(bill["seconds"].values()) == pytest.approx(bill["wall_seconds"], abs=0.01)
    assert sum(bill["shares"].values()) == pytest.approx(1, abs=0.01)
    assert ROWS * 0.02 <= bill["seconds"]["generate"] < bill["wall_seconds"] <= summary.seconds + 0.1
    assert bill["seconds"]["write"] > 0 and bill["seconds"]["decode"] == 0
    assert bill["rows_per_device_second"] == pytest.approx(ROWS / bill["wall_seconds"], rel=0.01)
    assert bill["tokens_per_device_second"] == pytest.approx(
        summary.tokens_out / bill["wall_seconds"], rel=0.01
    )
    assert bill["cost"] == pytest.approx(bill["device_seconds"], rel=0.01) and bill["currency"] == "EUR"
    markers = [read_marker(path) for path in list_markers(version)]
    assert bill["bytes"] == sum(entry.size for marker in markers for entry in marker.files())
    assert sum(marker.stats["times"]["generate"] for marker in markers) == pytest.approx(
        bill["seconds"]["generate"], abs=0.01
    )
    assert verify(out, deep=True).ok


def test_a_run_with_nothing_to_do_costs_nothing(tmp_path, out):
    config = config_of(tmp_path, 0)
    generate_table("captions", config, out)
    again = generate_table("captions", config, out)
    assert again.bill is None and len(read_bills(current_version(out, "captions"))) == 1


def test_a_stopped_run_and_the_one_that_ends_the_table_each_have_a_bill(tmp_path, out):
    config = config_of(tmp_path, 0.05)
    threading.Timer(0.8, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(Interrupted):
        generate_table("captions", config, out)
    generate_table("captions", config, out)
    first, second = read_bills(current_version(out, "captions"))
    assert (first["outcome"], second["outcome"]) == ("interrupted", "done")
    assert 0 < first["keys"] < ROWS and first["keys"] + second["keys"] == ROWS
    assert first["seconds"]["other"] > 0.04  # the shard that was begun and dropped
    total = table_status(out, "captions").bill
    assert (total["runs"], total["keys"]) == (2, ROWS)
    assert total["device_seconds"] == pytest.approx(
        first["device_seconds"] + second["device_seconds"], abs=0.002
    )


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(KeyboardInterrupt, "interrupted"), (SystemExit, "interrupted"), (ValueError, "failed")],
)
def test_only_an_error_is_billed_as_a_failure(tmp_path, out, error, outcome):
    work = prepare("captions", config_of(tmp_path, 0), out)
    reports = []
    with pytest.raises(error), metered(work, reports, time.monotonic()):
        reports.append(generate_shard(work, 0, get_engine(work.job.model)))
        raise error
    (bill,) = read_bills(work.plan.version)
    assert (bill["outcome"], bill["shards"]) == (outcome, 1)


def test_the_load_is_paid_by_the_run_it_was_for(tmp_path, out, monkeypatch):
    from pipeline.engines import echo

    original = echo.EchoEngine.__init__

    def slow(self, config):
        time.sleep(0.3)
        original(self, config)

    monkeypatch.setattr(echo.EchoEngine, "__init__", slow)
    config = config_of(tmp_path, 0)
    captions = generate_table("captions", config, out).bill
    # The same engine, with the same options, is another model of the configuration.
    explanations = generate_table("explanations", config, out).bill
    assert 0.3 <= captions["seconds"]["load"] < 0.6 and 0.3 <= explanations["seconds"]["load"] < 0.6
    again = generate_table("captions", config, out, new_version=True)
    assert again.bill is None


def test_a_bill_that_cannot_be_kept_or_read_harms_nothing(tmp_path, out, caplog):
    config = config_of(tmp_path, 0)
    generate_table("explanations", config, out)
    version = current_version(out, "explanations")
    (version / "bills" / "20000101T000000Z-broken.json").write_text("{")
    assert len(read_bills(version)) == 1 and "not a readable bill" in caplog.text
    assert table_status(out, "explanations").bill["runs"] == 1
    assert sum_bills([]) is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[1, 2]", "it holds a list, no JSON object"),
        ("null", "it holds a NoneType, no JSON object"),
        ('{"invoice": 7}', "without usable wall_seconds, device_seconds, keys"),
        ("{BILL}", "without usable rows, seconds"),
    ],
)
def test_a_file_among_the_bills_that_is_none_is_left_out_with_a_warning(tmp_path, out, caplog, content, says):
    summary = generate_table("explanations", config_of(tmp_path, 0), out)
    version = current_version(out, "explanations")
    if content == "{BILL}":
        content = json.dumps(summary.bill | {"rows": "many", "seconds": {"load": None}})
    (version / "bills" / "99990101T000000Z-foreign.json").write_text(content)
    assert read_bills(version) == [summary.bill]
    assert "foreign.json: not a bill of ours" in caplog.text and says in caplog.text
    assert table_status(out, "explanations").bill["runs"] == 1


def test_a_folder_of_bills_that_cannot_be_written_is_only_warned_about(tmp_path, out, caplog):
    config = config_of(tmp_path, 0)
    generate_table("captions", config, out)
    version = current_version(out, "captions")
    for path in [*version.glob("*marker.json"), *version.glob("bills/*")]:
        path.unlink()
    (version / "bills").rmdir()
    (version / "bills").write_text("a file where the folder should be")
    summary = generate_table("captions", config, out)
    assert summary.written == ROWS and summary.bill is not None and "could not be kept" in caplog.text


def test_counts_of_gates_add_up_by_flag():
    shards = [{"empty": {"raised": 2, "kept": 1}}, {}, {"empty": {"raised": 1}, "refusal": {"raised": 4}}]
    assert sum_gates(shards) == {"empty": {"raised": 3, "kept": 1}, "refusal": {"raised": 4}}


def test_flags_and_gates_stand_in_the_summary_and_the_status(tmp_path, out):
    loops = ["models.captioner.echo.loop_share=0.5", "captions.gates.policy.repetition=quarantine"]
    summary = generate_table("captions", config_of(tmp_path, 0, *loops), out)
    assert summary.flags == {"repetition": summary.quarantined} and summary.quarantined > 5
    assert table_status(out, "captions").gates == summary.gates
    assert json.loads(json.dumps(summary.as_dict()))["gates"]["repetition"]["raised"] == summary.quarantined
