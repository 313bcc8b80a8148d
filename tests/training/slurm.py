"""A Slurm cluster of two nodes on this machine, with daemons of its own that end with the test."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

COMMANDS = ("slurmctld", "slurmd", "munged", "sbatch")
REMEDY = "needs root and Slurm: apt-get install --no-install-recommends slurmctld slurmd slurm-client munge"
KILL_WAIT = 90
_PR_SET_PDEATHSIG = 1

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job is not started again before its credential has expired.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmctldPort={controller}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
KillWait={kill_wait}
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=2
NodeName=node[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port={nodes} CPUs=1 RealMemory=1000
PartitionName=all Nodes=node[1-2] Default=YES State=UP
"""


def missing() -> bool:
    """Tell whether a cluster cannot be had here."""
    return os.geteuid() != 0 or not all(shutil.which(command) for command in COMMANDS)


@dataclass(frozen=True)
class Cluster:
    """The cluster; its commands find it through SLURM_CONF."""

    conf: Path

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"SLURM_CONF": str(self.conf)}

    def call(self, *command: str, **environment: str) -> str:
        """Run a command of Slurm and return what it prints."""
        done = subprocess.run(
            command, env=self.environment | environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def state(self, job: str) -> str:
        shown = self.call("scontrol", "show", "job", job)
        return shown.partition("JobState=")[2].split()[0]

    def wait_for(self, job: str, *states: str, limit: float = 300) -> None:
        deadline = time.monotonic() + limit
        while (state := self.state(job)) not in states:
            assert time.monotonic() < deadline, f"job {job} is {state} instead of {states}"
            time.sleep(0.3)


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Start the daemons, and end them and every job."""
    # Not below pytest's folder, whose path is too long for a socket and closed to others.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        folder.chmod(0o755)
        (folder / "state").mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        controller, first, second = _free_ports()
        text = CONF.format(
            host=socket.gethostname().split(".")[0],
            folder=folder,
            controller=controller,
            nodes=f"[{first},{second}]",
            kill_wait=KILL_WAIT,
        )
        found = Cluster(folder / "slurm.conf")
        found.conf.write_text(text)
        munge = ["munged", "--force", "--foreground", "--key-file", str(key)]
        munge += ["--socket", f"{folder}/munge.socket", "--pid-file", f"{folder}/munged.pid"]
        munge += ["--log-file", f"{folder}/munged.log", "--seed-file", f"{folder}/seed"]
        daemons.append(_daemon(munge, found))
        _wait(lambda: (folder / "munge.socket").exists(), folder)
        daemons.append(_daemon(["slurmctld", "-D", "-c"], found))
        daemons += [_daemon(["slurmd", "-D", "-N", node], found) for node in ("node1", "node2")]
        _wait(lambda: _idle(found) == 2, folder)
        yield found
    finally:
        _end(daemons, folder)
        shutil.rmtree(folder, ignore_errors=True)


def _idle(found: Cluster) -> int:
    listing = ["sinfo", "--noheader", "--Node", "--states=idle", "--format=%N"]
    done = subprocess.run(listing, env=found.environment, capture_output=True, text=True)
    return len(done.stdout.split())


def _free_ports() -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in sockets]
    return [ports[0], *sorted(ports[1:])]


def _daemon(command: list[str], found: Cluster) -> subprocess.Popen[bytes]:
    libc = ctypes.CDLL(None)
    with (found.conf.parent / f"{'-'.join(command[::3])[:20].replace('/', '')}.txt").open("wb") as said:
        return subprocess.Popen(
            command,
            env=found.environment,
            stdout=said,
            stderr=said,
            # A killed pytest leaves no daemon either.
            preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
        )


def _wait(what: Callable[[], bool], folder: Path, limit: float = 60) -> None:
    deadline = time.monotonic() + limit
    while not what():
        said = "\n".join(file.read_text()[-800:] for file in sorted(folder.glob("*.txt")))
        assert time.monotonic() < deadline, f"Slurm does not start:\n{said}"
        time.sleep(0.2)


def _end(daemons: list[subprocess.Popen[bytes]], folder: Path) -> None:
    for daemon in reversed(daemons):
        daemon.kill()
        daemon.wait()
    # Steps are no children of their daemon, and what they run is none of ours. A job knows the cluster by its
    # variable, a step, which has no variables, by its socket.
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and _belongs(process, str(folder)):
                process.kill()
                process.wait(20)


def _belongs(process: psutil.Process, folder: str) -> bool:
    if process.name() == "slurmstepd":
        return any(str(each.laddr).startswith(folder) for each in process.net_connections("unix"))
    return process.environ().get("SLURM_CONF", "").startswith(folder)
