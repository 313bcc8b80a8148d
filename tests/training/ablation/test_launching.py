from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from training.ablation.launching import Share, ask_to_stop, shares, start, train_command
from training.ablation.plan import PlannedRun
from training.config.sections import Config

RUN = PlannedRun("base", 0, Config(), Path("/abl/runs/base-seed0"))
CHILD = (
    "import signal, sys; signal.signal(15, lambda *_: sys.exit(7)); print('up', flush=True); signal.pause()"
)
LAUNCHER = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', sys.argv[1]]))"


@pytest.mark.parametrize(
    ("jobs", "devices", "wanted"),
    [
        (1, "", [(8, "")]),
        (3, "", [(2, "")] * 3),
        (2, "0123", [(4, "01"), (4, "23")]),
        (3, "0123", [(2, "0"), (2, "1"), (2, "23")]),
        (4, "01", [(2, "0"), (2, "1"), (2, "0"), (2, "1")]),
    ],
)
def test_the_machine_is_divided(jobs, devices, wanted):
    assert shares(jobs, 8, list(devices)) == [Share(threads, tuple(own)) for threads, own in wanted]
    assert shares(9, 2, ())[0].threads == 1


def test_the_launcher_gets_the_share():
    def words(share, launch=()):
        return " ".join(train_command(RUN, Path("c.yaml"), share, launch)[3:]).partition(" /")[0]

    assert words(Share(3)) == "--cpu --num_processes 1 --num_cpu_threads_per_process 3"
    assert words(Share(3, ("2",))) == "--num_processes 1 --num_machines 1"
    assert words(Share(3, ("0", "1"))).endswith(
        "--num_processes 2 --num_machines 1 --multi_gpu --main_process_port 0"
    )
    assert words(Share(3), ["--config_file", "f"]) == "--config_file f"
    assert train_command(RUN, Path("c.yaml"), Share(1), ())[-4:] == [
        "--config",
        "c.yaml",
        "--to",
        str(RUN.folder),
    ]


def test_the_trainer_behind_a_launcher_is_told_to_stop(tmp_path):
    with (tmp_path / "log").open("w+b") as log, (tmp_path / "lock").open("ab") as lock:
        share = Share(3, ("5",))
        process = start([sys.executable, "-c", LAUNCHER, CHILD], share, log, lock)
        while b"up" not in (tmp_path / "log").read_bytes():
            assert process.poll() is None
        assert Path(f"/proc/{process.pid}/fd/{lock.fileno()}").exists(), "the lock lives as long as the job"
        told = Path(f"/proc/{process.pid}/environ").read_text()
        assert "OMP_NUM_THREADS=3" in told and "CUDA_VISIBLE_DEVICES=5" in told
        ask_to_stop(process)
        assert process.wait(30) == 7, "the launcher saw its trainer end by itself"
        ask_to_stop(process)


def test_a_process_without_children_is_told_itself(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    other = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    try:
        ask_to_stop(process)
        assert process.wait(30) == -signal.SIGTERM
        assert other.poll() is None, "no other process of ours is told"
    finally:
        other.kill()
        other.wait()
