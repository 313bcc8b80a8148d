"""Forecasts by real pilots on the engine without a model, and the bills that follow them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.__main__ import main
from pipeline.config import load_config
from pipeline.costs.compare import against_forecast
from pipeline.costs.forecast import Scope, extrapolate, forecast_table
from pipeline.costs.pilot import Pilot
from pipeline.costs.price import Price
from pipeline.costs.sampling import SHARDS_LOOKED_AT, draw_rows, pending_entries, walk
from pipeline.costs.times import Times
from pipeline.engines import close_engines
from pipeline.errors import EXIT_INTERRUPTED, UsageError
from pipeline.jobs import make_job
from pipeline.jobs.explanations import ExplanationsJob
from pipeline.run import generate_table
from pipeline.shards.plan import PLAN_SCHEMA
from pipeline.stopping import StopRequest
from schemas import open_table
from tests.builders import ECHO_CONFIG, sample_row, write_samples

ROWS = 300
LATENCY = 0.005


@pytest.fixture(autouse=True)
def no_engine_of_another_test():
    close_engines()


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "echo.yaml"
    text = ECHO_CONFIG.replace("shard_size: 10", "shard_size: 50")
    path.write_text(text.replace("engine: echo}", f"engine: echo, echo: {{latency_s: {LATENCY}}}}}"))
    return path


@pytest.fixture
def out(tmp_path):
    write_samples(tmp_path / "out", ROWS, images=200)
    return tmp_path / "out"


def forecast(config, out, table="explanations", rows=100, devices=None, seed=0):
    return forecast_table(
        table,
        config,
        out,
        rows=rows,
        devices=devices,
        image_root=None,
        carry=True,
        seed=seed,
        stop=StopRequest(),
    )


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_nothing_is_written_into_the_table(config_file, out):
    config = load_config(config_file)
    before = files(out / "samples")
    made = forecast(config, out)
    assert not (out / "explanations").exists() and files(out / "samples") == before
    assert (made["rows"], made["pilot_rows"], made["shards"], made["exists"]) == (ROWS, 100, 6, False)
    generate_table("explanations", config, out)
    table = files(out / "explanations")
    done = forecast(config, out)
    assert done["rows"] == 0 and done["hours"] == {"estimate": 0.0, "low": 0.0, "high": 0.0}
    assert files(out / "explanations") == table
    assert not list((out / "cache").glob(".tmp-*"))


def test_the_forecast_is_near_the_time_the_rows_take_and_the_bill_stands_beside_it(config_file, out):
    config = load_config(config_file, ["price_per_device_hour=2.5"])
    made = forecast(config, out)
    assert made["seconds_per_row"]["estimate"] == pytest.approx(LATENCY, rel=0.5)
    assert made["hours"]["low"] < made["hours"]["estimate"] < made["hours"]["high"]
    assert made["cost"]["high"] == pytest.approx(2.5 * made["device_hours"]["high"])
    close_engines()
    beside = generate_table("explanations", config, out).bill["forecast"]
    assert beside["keys"] == ROWS and abs(beside["working"]["error_percent"]) < 50
    assert abs(beside["bytes_error_percent"]) < 10
    assert beside["device_seconds"]["estimate"] == pytest.approx(made["hours"]["estimate"] * 3600, rel=0.01)


def test_the_pending_entries_are_made_once(config_file, out, monkeypatch):
    made, plan = [], ExplanationsJob.plan
    monkeypatch.setattr(ExplanationsJob, "plan", lambda *args: made.append(1) or plan(*args))
    forecast(load_config(config_file), out)
    assert len(made) == 1


def test_entries_and_shards_of_the_whole_plan_are_drawn_with_equal_chance():
    size, count = 1000, 60
    keys = pa.array([f"{n}" for n in range(size)])

    def shards():
        for shard in range(count):
            same, rows = pa.array([shard] * size), pa.array(range(size))
            columns = {"shard": same, "key": keys, "input_file": same, "input_row": rows}
            yield pa.table(columns).select(PLAN_SCHEMA.names).cast(PLAN_SCHEMA)

    looked, drawn = Counter(), np.zeros(count)
    for seed in range(30):
        pending = walk(shards(), 200, seed)
        assert (pending.rows, pending.shards, len(pending.candidates)) == (size * count, count, 2000)
        places = pending.candidates.column("input_file").to_numpy().astype(int)
        assert (np.diff(places) >= 0).all() and len(pending.looked_at) == SHARDS_LOOKED_AT
        drawn += np.bincount(places, minlength=count)
        looked.update(table.column("input_file")[0].as_py() for table in pending.looked_at)
    # 60,000 draws over 60 shards: 1,000 each with a standard deviation of about 31.
    assert np.abs(drawn - 1000).max() < 160
    assert len(looked) == count and max(looked.values()) < 22  # 10 each, standard deviation 2.6


def test_the_same_seed_draws_the_same_rows_and_another_one_others(config_file, out):
    job = make_job("explanations", load_config(config_file))
    samples = open_table(out, "samples")

    def keys(seed):
        pending = walk(pending_entries(job, samples, None), 40, seed)
        drawn = draw_rows(job, samples, pending.candidates, 40, Path("/"), seed=seed)
        return [request.key for _, request in drawn]

    assert keys(1) == keys(1) and len(set(keys(1))) == 40
    assert keys(1) != keys(2)


def test_prompts_of_all_lengths_stand_in_the_pilot_as_in_the_table(config_file, tmp_path):
    from pipeline.shards.snapshot import write_snapshot
    from schemas.tables import SAMPLES

    rows = []
    for number in range(400):
        text = " ".join(["word"] * (500 if number % 20 == 0 else 5)) + f" {number}"
        rows.append(
            sample_row(number, "k", "a.png", fake_cls="orig", text=text, words=text.split(), fake_text_pos=[])
        )
    write_snapshot(tmp_path, "samples", [pa.Table.from_pylist(rows, schema=SAMPLES)], info={})
    job = make_job("explanations", load_config(config_file))
    samples = open_table(tmp_path, "samples")
    for seed in range(5):
        pending = walk(pending_entries(job, samples, None), 40, seed)
        drawn = draw_rows(job, samples, pending.candidates, 40, Path("/"), seed=seed)
        assert Counter(len(request.prompt) > 1000 for _, request in drawn) == {False: 38, True: 2}


def test_only_what_is_missing_is_forecast(config_file, out):
    config = load_config(config_file)
    generate_table("captions", config, out)
    version = next((out / "captions").glob("v-*"))
    for number in (1, 3):
        (version / f"shard-0000{number}.marker.json").unlink()
    made = forecast(config, out, table="captions")
    assert (made["rows"], made["shards"], made["exists"]) == (100, 2, True)


def pilot(seconds=0.1, batches=8, rows=25):
    return Pilot(
        rows=[rows] * batches,
        seconds=[seconds * rows] * batches,
        sizes=[100] * (rows * batches),
        data_bytes=50_000,
        empty_bytes=5_000,
        files=2,
        times=Times(generate=20.0),
        tokens_out=1000,
    )


def scope(workers=1, devices=1, shards=10):
    return Scope(
        rows=36_000,
        generated=1.0,
        shards=shards,
        workers=workers,
        devices=devices,
        fixed=100.0,
        price=Price(2.0, "EUR"),
    )


def test_numbers_of_a_known_pilot():
    made = extrapolate(pilot(), scope(), seed=0)
    # 36,000 rows of 0.1 s are an hour; 40,000 bytes of text in 200 rows, and ten files.
    assert made["hours"]["estimate"] == pytest.approx(1 + 100 / 3600)
    assert made["disk_bytes"]["estimate"] == 36_000 * 200 + 10 * 5_000
    assert made["cost"]["estimate"] == pytest.approx(2 * (1 + 100 / 3600))
    assert made["hours"]["low"] == pytest.approx(1 + 50 / 3600)


def test_devices_shorten_the_time_and_each_worker_starts_once():
    made = extrapolate(pilot(), scope(workers=5, devices=10), seed=0)
    assert made["hours"]["estimate"] == pytest.approx(0.2 + 100 / 3600)
    assert made["device_hours"]["estimate"] == pytest.approx(10 * (0.2 + 100 / 3600))
    # Ten shards for four workers: three rounds, of which the last has two.
    assert extrapolate(pilot(), scope(workers=4), seed=0)["hours"]["estimate"] == pytest.approx(
        0.3 + 100 / 3600
    )


def test_devices_that_cannot_be_shared_out_are_refused(config_file, out):
    overrides = ["models.chat.engine=vllm", "models.chat.vllm.tensor_parallel_size=2"]
    overrides += [f"models.chat.path={out}"]
    (out / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="--devices 3: a worker of chat needs 2 devices"):
        forecast(load_config(config_file, overrides), out, devices=3)


def test_a_bill_for_a_part_is_set_against_that_part():
    made = extrapolate(pilot(), scope(), seed=0) | {"made": "now", "rows": 36_000}
    seconds = {"load": 90.0, "decode": 0.0, "generate": 400.0, "gates": 0.0, "write": 0.0, "other": 5.0}
    bill = {"keys": 3600, "carried": 0, "generated": 3600, "devices": 1, "loads": 1, "seconds": seconds}
    bill |= {"device_seconds": 495.0, "bytes": 800_000}
    beside = against_forecast(bill, made)
    assert beside["device_seconds"]["estimate"] == pytest.approx(100 + 360)
    assert beside["error_percent"] == pytest.approx(100 * (495 / 460 - 1), abs=0.1)
    assert beside["inside"] and not beside["working"]["inside"]
    assert beside["working"]["error_percent"] == pytest.approx(11.1)
    without_load = against_forecast(bill | {"loads": 0}, made)
    assert without_load["device_seconds"]["estimate"] == pytest.approx(360)
    assert against_forecast(bill, None) is None and against_forecast(bill | {"keys": 0}, made) is None


def test_the_command_forecasts_both_tables_each_in_a_process_of_its_own(config_file, out, capfd):
    arguments = ["forecast", "--config", str(config_file), "--out", str(out), "--rows", "40"]
    assert main([*arguments, "--set", "price_per_device_hour=2", "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert list(result["tables"]) == ["captions", "explanations"]
    for name in ("hours", "device_hours", "disk_bytes", "cost"):
        parts = [table[name]["estimate"] for table in result["tables"].values()]
        assert result[name]["estimate"] == pytest.approx(sum(parts))
        assert result[name]["low"] <= result[name]["estimate"] <= result[name]["high"]
    assert main([*arguments, "--table", "captions"]) == 0
    assert "captions: 200 rows to write" in capfd.readouterr().out


def test_an_error_of_a_table_is_said_once_and_ends_the_command(config_file, out, capfd):
    arguments = ["forecast", "--config", str(config_file), "--out", str(out / "nowhere")]
    assert main(arguments) == 2
    assert capfd.readouterr().err.count("Run `python -m pipeline ingest") == 1


def test_a_stop_ends_the_pilot_and_leaves_nothing(config_file, out):
    command = [sys.executable, "-m", "pipeline", "forecast", "--config", str(config_file), "--out", str(out)]
    slow = ["--set", "models.captioner.echo.latency_s=1"]
    with subprocess.Popen([*command, *slow], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list((out / "cache").glob(".tmp-forecast-*")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == EXIT_INTERRUPTED and "stopped by SIGTERM" in errors
    assert not list((out / "cache").glob(".tmp-*")) and not (out / "forecasts").exists()
    assert os.listdir(out / "cache") in ([], ["weights.json"])


def test_rows_that_are_carried_over_or_shared_cost_no_time(config_file, out):
    config = load_config(config_file)
    generate_table("explanations", config, out)
    other = load_config(config_file, ["explanations.prompts.description=caption-v1"])
    made = forecast(other, out)
    # A quarter of the samples is unmanipulated, another has its face swapped: one prompt for all of them now.
    assert made["rows"] == ROWS and made["generated_share"] == pytest.approx(6 / ROWS)
    apart = forecast_table(
        "explanations",
        other,
        out,
        rows=20,
        devices=None,
        image_root=None,
        carry=False,
        seed=0,
        stop=StopRequest(),
    )
    assert apart["generated_share"] == pytest.approx((6 + 150) / ROWS)
    assert apart["hours"]["estimate"] > made["hours"]["estimate"]
    summary = generate_table("explanations", other, out, new_version=True)
    assert summary.generated == 6 and summary.bill["generated"] == 6
