"""training.launch: the trainer's exit code comes back, and signals reach the trainers once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.training.machines import CPU, end, launch, send, tree_of

pytestmark = pytest.mark.slow

SCRIPT = """
import faulthandler, os, signal, sys, time
from pathlib import Path

folder = Path(sys.argv[1])
mine = folder / os.environ.get("RANK", "0")
stops = []
signal.signal(signal.SIGTERM, lambda *_: stops.append(1))
faulthandler.register(signal.SIGUSR1)
mine.write_text(str(os.getpid()))
while not stops:
    time.sleep(0.05)
time.sleep(1)
(folder / f"stops-{mine.name}").write_text(str(len(stops)))
raise SystemExit(int(sys.argv[2]))
"""
ALONE = ("--config_file", "configs/accelerate/single-gpu.yaml", "--cpu")


def start(
    folder: Path, launcher: tuple[str, ...], code: int = 3
) -> tuple[subprocess.Popen[bytes], list[int]]:
    """Start the script above and return its processes once they are ready."""
    (folder / "script.py").write_text(SCRIPT)
    started = launch([*launcher, str(folder / "script.py"), str(folder), str(code)], folder / "said.txt")
    files = [folder / str(rank) for rank in range(2 if launcher == CPU else 1)]
    deadline = time.monotonic() + 120
    while not all(file.exists() and file.read_text() for file in files):
        assert started.poll() is None and time.monotonic() < deadline, (folder / "said.txt").read_text()
        time.sleep(0.1)
    return started, [int(file.read_text()) for file in files]


@pytest.mark.parametrize(("launcher", "whom"), [(ALONE, "launcher"), (CPU, "launcher twice"), (CPU, "all")])
def test_a_stop_signal_reaches_each_trainer_and_its_code_comes_back(
    tmp_path: Path, launcher: tuple[str, ...], whom: str
) -> None:
    started, trainers = start(tmp_path, launcher)
    try:
        for _ in range(2 if whom == "launcher twice" else 1):
            send(tree_of(started) if whom == "all" else [started.pid], signal.SIGTERM)
            time.sleep(0.3)
        assert started.wait(60) == 3
        for rank in range(len(trainers)):
            stops = (tmp_path / f"stops-{rank}").read_text()
            assert stops == "1" or whom == "all", "no trainer is hurried"
    finally:
        end([started])


@pytest.mark.parametrize(("launcher", "code"), [(ALONE, 2), (CPU, 2), (CPU, 1), (CPU, 0)])
def test_every_exit_code_comes_back(tmp_path: Path, launcher: tuple[str, ...], code: int) -> None:
    started, trainers = start(tmp_path, launcher, code)
    send(trainers, signal.SIGTERM)
    assert started.wait(60) == code


def test_a_killed_trainer_is_told_from_one_that_ended(tmp_path: Path) -> None:
    started, trainers = start(tmp_path, CPU)
    os.kill(trainers[1], signal.SIGKILL)
    assert started.wait(60) == 128 + signal.SIGKILL
    assert not any(Path(f"/proc/{trainer}").exists() for trainer in trainers)


def test_each_trainer_can_be_asked_where_it_is(tmp_path: Path) -> None:
    started, _ = start(tmp_path, CPU)
    try:
        started.send_signal(signal.SIGUSR1)
        said = tmp_path / "said.txt"
        deadline = time.monotonic() + 30
        while said.read_text().count("most recent call first") < 2:
            assert started.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        end([started])


def test_a_launcher_that_waits_for_another_machine_can_be_stopped(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    with socket.create_server(("127.0.0.1", 0)) as other:
        words = ["--config_file", "configs/accelerate/multi-node.yaml", "--num_processes", "2"]
        words += ["--machine_rank", "1", "--main_process_ip", "127.0.0.1"]
        words += ["--main_process_port", str(other.getsockname()[1])]
        started = launch([*words, str(tmp_path / "script.py"), str(tmp_path), "0"], tmp_path / "said.txt")
        try:
            other.settimeout(120)
            other.accept()  # torch has found the other machine, which never answers
            started.send_signal(signal.SIGTERM)
            assert started.wait(30) == 3
            assert "stopped before the trainers were started" in (tmp_path / "said.txt").read_text()
        finally:
            end([started])
