from __future__ import annotations

import io
import json
import resource

import pytest
import torch

from training.engine.meters import Means, Progress, Speed, peak_memory_gib


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_means_count_each_name_on_its_own() -> None:
    means = Means()
    means.add({"bic": 1.0, "cap": 4.0})
    means.add({"bic": 2.0})
    assert means.read() == {"bic": 1.5, "cap": 4.0}
    assert means.read() == {}


def test_means_go_on_from_a_stored_state() -> None:
    means, other = Means(), Means()
    means.add({"bic": 0.1, "cap": 4.0})
    other.load_state_dict(json.loads(json.dumps(means.state_dict())))
    for each in (means, other):
        each.add({"bic": 0.2})
    assert other.read() == means.read()


def test_speed_and_waiting_share() -> None:
    clock = Clock()
    speed = Speed(clock)

    def loader():
        for item in range(2):
            clock.now += 3.0
            yield item
        clock.now += 2.0

    for _ in speed.waiting_for(loader()):
        clock.now += 1.0
        speed.add(40)
    assert speed.read() == {"speed/samples_per_s": 8.0, "speed/data_wait_share": 0.8}
    clock.now += 5.0
    assert speed.read() == {"speed/samples_per_s": 0.0, "speed/data_wait_share": 0.0}


def test_time_before_a_restart_does_not_count() -> None:
    clock = Clock()
    speed = Speed(clock)
    clock.now += 50.0
    speed.restart()
    speed.add(10)
    clock.now += 2.0
    assert speed.read()["speed/samples_per_s"] == 5.0


def test_memory_of_the_process_is_in_gib() -> None:
    peak = peak_memory_gib(torch.device("cpu"))
    assert peak == pytest.approx(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30, rel=0.05)


RECORD = {
    "loss/total": 1.23456,
    "grad_norm": 2.0,
    "speed/samples_per_s": 12.34,
    "speed/data_wait_share": 0.25,
}


def test_a_pipe_gets_one_plain_line_per_record() -> None:
    stream = io.StringIO()
    with Progress(20, done=4, stream=stream) as progress:
        progress.step()
        progress.show(RECORD)
        progress.step()
        progress.write("saved")
    assert stream.getvalue() == "step 5/20: loss 1.2346, grad 2.00, rows/s 12.3, wait 25%\nsaved\n"


def test_rates_and_terms_are_shown_terms_last() -> None:
    stream = io.StringIO()
    more = {"loss/bic": 0.5, "weighted/bic": 0.25, "lr/towers": 1e-5, "lr/new": 1e-4}
    with Progress(20, stream=stream) as progress:
        progress.show(more | RECORD)
    assert stream.getvalue() == (
        "step 0/20: loss 1.2346, grad 2.00, lr 1.0e-04, lr_towers 1.0e-05, rows/s 12.3, wait 25%, bic 0.500\n"
    )


def test_a_terminal_gets_a_bar() -> None:
    stream = Terminal()
    with Progress(20, done=4, stream=stream) as progress:
        progress.step()
        progress.show(RECORD)
        progress.write("saved")
    text = stream.getvalue()
    assert "5/20" in text and "loss=1.2346" in text and "wait=25%" in text and "saved\n" in text


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_other_ranks_show_nothing(stream: io.StringIO) -> None:
    with Progress(20, is_main=False, stream=stream) as progress:
        progress.step()
        progress.show(RECORD)
        progress.write("saved")
    assert stream.getvalue() == ""
