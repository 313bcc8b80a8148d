from __future__ import annotations

import json

import pytest

from training.ablation.progress import Forecast, for_people, share_done
from training.config.sections import Config


def config(**train):
    return Config.model_validate({"train": train})


def test_the_share_is_that_of_the_last_whole_record(tmp_path):
    assert share_done(tmp_path, config(epochs=4)) == 0
    lines = [json.dumps({"step": step, "epoch": step / 10}) + "\n" for step in range(1, 21)]
    (tmp_path / "log.jsonl").write_text("".join(lines) + '{"step": 21, "ep')
    assert share_done(tmp_path, config(epochs=4)) == 0.5
    assert share_done(tmp_path, config(epochs=4, max_steps=25)) == 0.8
    assert share_done(tmp_path, config(epochs=1)) == 1


def test_the_forecast_is_the_rate_times_the_work_over_the_jobs():
    forecast = Forecast()
    assert forecast.seconds_left([(2.0, 0.0, 0.01)], 3, 2) is None
    assert forecast.seconds_left([(30.0, 0.0, 0.25)], 3, 2) == pytest.approx(120 * 3.75 / 2)
    assert forecast.seconds_left([(30.0, 0.5, 0.75)], 0, 1) == pytest.approx(120 * 0.25), "a resumed run"
    forecast.finished(100.0, 1.0)
    forecast.finished(25.0, 0.5)
    assert forecast.seconds_left([(1.0, 0.0, 0.0)], 4, 1) == pytest.approx(75 * 5)


def test_durations_read_well():
    assert for_people(None) == "time left not known yet"
    assert [for_people(seconds) for seconds in (0.2, 65, 840, 9000)] == [
        "about 1 s left", "about 65 s left", "about 14 min left", "about 2.5 h left",
    ]  # fmt: skip
