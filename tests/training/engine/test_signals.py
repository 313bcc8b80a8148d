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
