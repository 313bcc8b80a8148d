"""Two machines on this one: network namespaces of their own, joined by a cable, each with a launcher."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.training.launching import ROOT

MULTI_NODE = ("--config_file", "configs/accelerate/multi-node.yaml", "--num_processes", "2")
CPU = ("--config_file", "configs/accelerate/cpu.yaml", "--num_cpu_threads_per_process", "1")


@dataclass(frozen=True)
class Machines:
    """Where the launcher of each machine is started, and how the other one reaches it."""

    enter: tuple[tuple[str, ...], ...]
    address: str
    interface: str
    port: int

    def start(
        self, rank: int, arguments: list[str], stderr: Path, **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start one machine's part of a training."""
        meet = ["--machine_rank", str(rank), "--main_process_ip", self.address]
        meet += ["--main_process_port", str(self.port)]
        return launch(
            [*MULTI_NODE, *meet, "training/train.py", *arguments],
            stderr,
            self.enter[rank],
            GLOO_SOCKET_IFNAME=self.interface,
            **environment,
        )

    def start_both(
        self, arguments: list[str], folder: Path, **environment: str
    ) -> list[subprocess.Popen[bytes]]:
        """Start both machines' parts; they write ``machine-0.txt`` and ``machine-1.txt`` into the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        return [self.start(rank, arguments, folder / f"machine-{rank}.txt", **environment) for rank in (0, 1)]


def launch(
    arguments: list[str], stderr: Path, enter: tuple[str, ...] = (), **environment: str
) -> subprocess.Popen[bytes]:
    """Start ``python -m training.launch ARGUMENTS``."""
    with stderr.open("wb") as stream:
        return subprocess.Popen(
            [*enter, sys.executable, "-m", "training.launch", *arguments],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=stream,
            env=os.environ | {"TRAINING_LOST_AFTER": "30"} | environment,
        )


@contextlib.contextmanager
def two_machines(port: int) -> Iterator[Machines]:
    """Make two machines; without root or `ip`, both are this one and meet on the loopback interface."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        yield Machines(((), ()), "127.0.0.1", "lo", port)
        return
    names = [f"trainer{os.getpid()}-{rank}" for rank in (0, 1)]
    cables = [f"cable{os.getpid()}{end}" for end in "ab"]
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip("link", "add", cables[0], "type", "veth", "peer", "name", cables[1])
        for rank, (name, cable) in enumerate(zip(names, cables, strict=True)):
            _ip("link", "set", cable, "netns", name, "name", "eth0")
            _ip("-n", name, "addr", "add", f"10.99.0.{rank + 1}/24", "dev", "eth0")  # host ok
            for device in ("lo", "eth0"):
                _ip("-n", name, "link", "set", device, "up")
        enter = tuple(("ip", "netns", "exec", name) for name in names)
        yield Machines(enter, "10.99.0.1", "eth0", port)  # host ok
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


def tree_of(launcher: subprocess.Popen[bytes]) -> list[int]:
    """Return the launcher and everything below it."""
    try:
        process = psutil.Process(launcher.pid)
        return [process.pid, *(child.pid for child in process.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def end(launchers: list[subprocess.Popen[bytes]]) -> None:
    """Leave nothing behind, whatever the test has found."""
    for launcher in launchers:
        send(tree_of(launcher), signal.SIGKILL)
        launcher.wait()


def wait_until(
    what: Callable[[], bool], launchers: list[subprocess.Popen[bytes]], limit: float = 200
) -> None:
    """Wait for something that is to happen while the launchers run."""
    deadline = time.monotonic() + limit
    while not what():
        for launcher in launchers:
            assert launcher.poll() is None, f"the launcher ended with {launcher.returncode} too early"
        assert time.monotonic() < deadline, f"not within {limit:.0f} s"
        time.sleep(0.05)
