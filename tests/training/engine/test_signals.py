from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from training.engine.signals import StopSignal

ROOT = Path(__file__).resolve().parents[3]

LOOP = """
import time
from training.engine.signals import StopSignal

with StopSignal() as stop:
    print("ready", flush=True)
    for step in range(1000):
        time.sleep(0.05)
        if stop.agreed():
            print("saved", flush=True)
            break
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_loop_at_a_step(number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", LOOP], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "saved\n")


WAITING = """
import contextlib, os, signal, sys, time
import torch.distributed as dist
from training.engine.signals import StopSignal
from training.failures import tell_failure

rank, how = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{sys.argv[3]}", rank=rank, world_size=2)
with StopSignal() if rank == 0 or how == "silence" else contextlib.nullcontext():
    pids = [None, None]
    dist.all_gather_object(pids, os.getpid())
    if rank == 0:
        dist.barrier()
    if how == "silence":
        time.sleep(13)  # long enough for a sign of life
        os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(1)
    tell_failure(1) if how == "failure" else os.kill(pids[0], signal.SIGTERM)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("failure", 1, "rank 0: ended, because another process of the run has failed"),
        ("silence", 3, "rank 0: no sign of life from rank 1 for 14 s; ended, go on from the last checkpoint"),
        ("signal", 3, "rank 0: the processes did not agree within 1 s of the stop signal"),
    ],
)
def test_a_process_does_not_wait_for_ever_in_a_collective(
    tmp_path: Path, how: str, code: int, said: str
) -> None:
    both = [
        subprocess.Popen(
            [sys.executable, "-c", WAITING, str(rank), how, str(tmp_path / "rendezvous")],
            cwd=ROOT,
            env=os.environ | {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "1", "TRAINING_LOST_AFTER": "14"},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # The system hangs up a group in which a process is halted and whose leader ends: pytest's own.
            start_new_session=True,
        )
        for rank in (0, 1)
    ]
    try:
        _, error = both[0].communicate(timeout=100)
        # The other one is still there and never came to the barrier.
        assert both[1].poll() is None
        assert both[0].returncode == code and said in error
    finally:
        for process in both:
            process.kill()
            process.wait()


def test_a_second_interrupt_does_not_wait() -> None:
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with StopSignal() as stop:
        assert signal.getsignal(signal.SIGTERM) != before[0]
        assert not stop.agreed()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
