"""Which devices each worker gets, and requests that the devices cannot meet."""

from __future__ import annotations

import pytest

from pipeline.config import load_config
from pipeline.errors import UsageError
from pipeline.fleet import seats
from pipeline.fleet.seats import Seat, seats_for, visible_devices

CONFIG = """
captions: {model: captioner}
explanations: {model: chat}
models:
  captioner: {kind: instructblip, engine: transformers, path: models/blip, device: %s}
  chat: {kind: chat, engine: vllm, path: models/glm, vllm: {tensor_parallel_size: %d}}
"""


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Return a function that shares out the GPUs of a machine with a driver."""

    def share(table="captions", *, visible="0,1,2,3", workers="auto", device="auto", tensor_parallel=1):
        monkeypatch.setattr(seats, "has_nvidia_driver", lambda: visible is not None)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        path = tmp_path / "c.yaml"
        path.write_text(CONFIG % (device, tensor_parallel))
        return seats_for(load_config(path, [f"workers={workers}"]), table)

    return share


def test_auto_is_one_worker_per_visible_gpu_and_each_sees_its_own(asked):
    assert asked(visible="0,3,GPU-7f") == [
        Seat("worker-1", "0"),
        Seat("worker-2", "3"),
        Seat("worker-3", "GPU-7f"),
    ]


def test_a_model_that_is_shared_by_gpus_gets_as_many(asked):
    found = asked("explanations", tensor_parallel=2)
    assert [seat.devices for seat in found] == ["0,1", "2,3"]
    assert [seat.devices for seat in asked("explanations", visible="0,1,2", tensor_parallel=2)] == [None]


def test_without_gpus_auto_is_one_worker_and_a_number_is_taken_at_its_word(asked):
    assert asked(visible=None) == asked(visible="") == [Seat("worker-1")]
    assert asked(visible=None, workers=2) == [Seat("worker-1"), Seat("worker-2")]


def test_a_model_on_the_cpu_leaves_the_gpus_alone(asked):
    assert asked(device="cpu") == [Seat("worker-1")]
    assert asked(device="cpu", workers=2) == [Seat("worker-1"), Seat("worker-2")]


def test_more_workers_than_gpus_are_refused_with_what_would_fit(asked):
    with pytest.raises(
        UsageError, match=r"workers is 5, .*models.captioner, but 4 are visible .*=0,1,2,3.* 4 or"
    ):
        asked(workers=5)
    with pytest.raises(UsageError, match=r"workers is 3, each with 2 GPU.*set workers to 2 or to auto"):
        asked("explanations", workers=3, tensor_parallel=2)


def test_several_workers_on_one_named_device_are_refused(asked):
    with pytest.raises(UsageError, match=r"models.captioner.device is cuda:1, one device"):
        asked(device="cuda:1", workers=2)
    assert asked(device="cuda:1") == [Seat("worker-1")]


def test_what_follows_an_invalid_device_is_not_visible(monkeypatch):
    monkeypatch.setattr(seats, "has_nvidia_driver", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 0,-1,1")
    assert visible_devices() == ["2", "0"]
