"""examples/slurm/train.sbatch on a real Slurm: preempted, out of time, cancelled, wrong."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.training.engine.running import assert_same_run, run_config, write_split_world
from tests.training.launching import ROOT
from tests.training.machines import CPU, launch, send
from tests.training.slurm import REMEDY, Cluster, cluster, missing
from training.config import dump_config
from training.engine.checkpoint import checkpoints

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.slurm,
    pytest.mark.skipif(missing(), reason=REMEDY),
    pytest.mark.timeout(1500),
]

SCRIPT = "examples/slurm/train.sbatch"


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    with cluster() as found:
        yield found


@pytest.fixture(scope="module")
def config(towers: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("tables")
    write_split_world(folder / "out")
    tiny = run_config(
        towers,
        folder / "out",
        model={"fusion": {"dropout": 0.1}},
        train={"epochs": 4, "batch_size": 4, "eval_every": 10, "save_every": 50},
    )
    path = folder / "run.yaml"
    path.write_text(dump_config(tiny))
    return path


def submit(slurm: Cluster, config: Path, run_dir: Path, *more: str) -> str:
    """Submit the script as it is, with what this cluster has; return the job's number."""
    small = ["--gpus-per-node=0", "--cpus-per-task=1", f"--chdir={ROOT}"]
    said = slurm.call(
        *["sbatch", "--parsable", *small, f"--output={run_dir}.txt", *more, str(ROOT / SCRIPT)],
        CONFIG=str(config),
        DATA=str(config.parent / "out"),
        RUN=str(run_dir),
        SLURM_CONF=str(slurm.conf),
        GLOO_SOCKET_IFNAME="lo",
    )
    return said.strip()


def last_step(run_dir: Path) -> int:
    log = run_dir / "log.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return json.loads(lines[-2])["step"] if len(lines) > 1 else 0


def trainers(run_dir: Path) -> list[int]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "training/train.py" in words and str(run_dir) in words and "training.launch" not in words:
            found.append(process.pid)
    return found


def asked_to_stop(pids: list[int]) -> bool:
    """Tell whether a stop signal waits for each of the processes, which are halted, or has ended them."""
    bit = 1 << (signal.SIGTERM - 1)
    fields = ("SigPnd:", "ShdPnd:")
    pending = []
    for pid in pids:
        status = Path(f"/proc/{pid}/status")
        if not status.exists():
            continue
        lines = status.read_text().splitlines()
        pending.append(any(int(x.split()[1], 16) & bit for x in lines if x.startswith(fields)))
    return all(pending)


def wait_in_job(slurm: Cluster, job: str, what: Callable[[], bool], limit: float = 300) -> None:
    deadline = time.monotonic() + limit
    while not what():
        assert slurm.state(job) in ("RUNNING", "PENDING", "COMPLETING", "CONFIGURING")
        assert time.monotonic() < deadline, f"not within {limit:.0f} s"
        time.sleep(0.3)


def test_a_requeued_job_ends_like_an_uninterrupted_run(slurm: Cluster, config: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    words = [*CPU, "training/train.py", "--config", str(config), "--to", str(whole)]
    assert launch(words, tmp_path / "whole.txt").wait(300) == 0

    run_dir = tmp_path / "run"
    job = submit(slurm, config, run_dir, "--signal=TERM@60")
    said = Path(f"{run_dir}.txt")

    # Preempted by requeue.
    wait_in_job(slurm, job, lambda: last_step(run_dir) >= 3)
    slurm.call("scontrol", "requeue", job)
    wait_in_job(slurm, job, lambda: "attempt 2 " in said.read_text())
    preempted = checkpoints(run_dir)[-1]
    first = said.read_text()
    assert "the trainers ended with 3" in first and "back into the queue" not in first, "Slurm has done it"
    assert f"from {preempted.name}" in first

    # Out of time: the steps are halted, so that the run is still there when Slurm sends its warning.
    step = int(preempted.name[-8:])
    wait_in_job(slurm, job, lambda: last_step(run_dir) >= step + 2)
    halted = trainers(run_dir)
    assert len(halted) == 2
    send(halted, signal.SIGSTOP)
    try:
        elapsed = int(slurm.call("squeue", "--noheader", f"--job={job}", "--format=%M").split(":")[0])
        slurm.call("scontrol", "update", f"JobId={job}", f"TimeLimit={elapsed + 2}")
        wait_in_job(slurm, job, lambda: asked_to_stop(halted), limit=150)
    finally:
        send(halted, signal.SIGCONT)
    wait_in_job(slurm, job, lambda: "attempt 3 " in said.read_text())
    second = said.read_text().split("attempt 2 ")[1]
    assert "DUE TO TIME LIMIT" not in second and "stopped after optimizer step" in second, second
    assert "back into the queue" in second, "the script has done it"
    slurm.call("scontrol", "update", f"JobId={job}", "TimeLimit=60")

    slurm.wait_for(job, "COMPLETED")
    assert "the trainers ended with 0" in said.read_text()
    assert_same_run(run_dir, whole)


def test_a_cancelled_job_stays_cancelled(slurm: Cluster, config: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    job = submit(slurm, config, run_dir)
    said = Path(f"{run_dir}.txt")
    wait_in_job(slurm, job, lambda: last_step(run_dir) >= 2)
    slurm.call("scancel", job)
    slurm.wait_for(job, "CANCELLED")
    assert "the trainers ended with 3" in said.read_text()
    assert "back into the queue" not in said.read_text()
    assert checkpoints(run_dir), "what was trained is kept"


def test_a_job_with_a_wrong_setting_is_not_tried_again(slurm: Cluster, config: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    (tmp_path / "out").symlink_to(config.parent / "out")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(config.read_text().replace("save_every:", "save_evry:"))
    job = submit(slurm, wrong, run_dir)
    slurm.wait_for(job, "FAILED")
    said = Path(f"{run_dir}.txt").read_text()
    assert "save_evry" in said and "did you mean" in said
    assert "the trainers ended with 2" in said and "back into the queue" not in said
