"""SIGTERM at every kind of moment: exit code 3 within 20 s, nothing half-written, the next run resumes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.stopping import stop_on_signal
from schemas import layout
from tests.builders import write_echo_config, write_samples
from tests.pipeline.killing import rows_of

ROOT = Path(__file__).resolve().parents[2]

# A model that takes its time in one call into C, as a large load or a large batch does: no handler of Python
# runs before it returns. Here it is a mutex of the C library that is locked twice, which no signal wakes.
SLOW_C = """
import ctypes, sys
from pipeline.engines import echo
mutex, lock = ctypes.create_string_buffer(128), ctypes.CDLL(None).pthread_mutex_lock
def sleep():
    print("in the call", flush=True)
    lock(mutex), lock(mutex)
"""
IN_BATCH = (
    SLOW_C
    + """
answer, answered = echo.EchoEngine._answer, []
def slow(self, request):
    answered.append(request)
    if len(answered) == 15:
        sleep()
    return answer(self, request)
echo.EchoEngine._answer = slow
"""
)
IN_LOAD = (
    SLOW_C
    + """
echo.EchoEngine.__init__ = lambda self, config: sleep()
"""
)
MAIN = """
from pipeline.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def table(tmp_path):
    write_samples(tmp_path / "out", 30)
    config = write_echo_config(tmp_path)
    return tmp_path / "out", ["explanations", "--config", str(config), "--out", str(tmp_path / "out")]


def start(code: str, arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code + MAIN, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop_in_the_call(child: subprocess.Popen[str]) -> tuple[str, float]:
    assert child.stdout is not None and child.stdout.readline() == "in the call\n"
    time.sleep(0.2)
    started = time.monotonic()
    child.terminate()
    _, err = child.communicate(timeout=60)
    return err, time.monotonic() - started


def finishes(arguments: list[str]) -> bool:
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0


def test_a_long_batch_is_dropped(table):
    out, arguments = table
    child = start(IN_BATCH, arguments)
    err, seconds = stop_in_the_call(child)
    assert child.returncode == 3, err
    assert seconds < 20
    assert "stopped by SIGTERM in the middle of a batch, which is dropped" in err
    assert len(rows_of(out, "explanations")) == 10
    version = layout.current_version(out, "explanations")
    assert not (version / layout.CLAIMS_DIR).exists(), "its claims are given back, for workers elsewhere"
    assert finishes(arguments) and len(rows_of(out, "explanations")) == 30


def test_the_load_of_a_model_is_not_waited_for(table):
    out, arguments = table
    child = start(IN_LOAD, arguments)
    err, seconds = stop_in_the_call(child)
    assert child.returncode == 3, err
    assert seconds < 10
    assert not len(rows_of(out, "explanations"))


def test_export_is_interrupted_without_a_file(table, tmp_path):
    out, arguments = table
    assert finishes(arguments)
    target = tmp_path / "all.parquet"
    slow = SLOW_C.replace("lock(mutex), lock(mutex)", "import time; time.sleep(100)")
    slow += "import pyarrow.parquet as pq\npq.ParquetWriter.__init__ = lambda *a, **k: sleep()\n"
    child = start(slow, ["export", "--out", str(out), "--table", "explanations", "--to", str(target)])
    err, seconds = stop_in_the_call(child)
    assert child.returncode == 3 and seconds < 5
    assert "interrupted" in err and "Traceback" not in err and not target.exists()


def test_a_forked_process_does_not_stop_its_parent():
    with stop_on_signal() as stop:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        time.sleep(1.5)
        assert stop.signal is None


def test_within_another_request_it_is_the_same_one():
    with stop_on_signal() as outer:
        with stop_on_signal() as inner, inner.nothing_in_hand():
            assert inner is outer
            signal.raise_signal(signal.SIGTERM)
        assert outer.signal == signal.SIGTERM


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("engine", "more"),
    [
        # One batch with beams, which takes far longer than the time of grace.
        ("transformers", ["models.glm.batch_size=2000", "models.glm.generation.num_beams=8"]),
        ("vllm", ["models.glm.vllm.max_num_seqs=2"]),
    ],
)
def test_real_engines_end_in_time_in_the_middle_of_their_work(tmp_path, engine, more):
    if engine == "vllm":
        pytest.importorskip("vllm")
    write_samples(tmp_path / "out", 2000)
    settings = [word for value in ["explanations.shard_size=2000", *more] for word in ("--set", value)]
    command = ["explanations", "--config", str(ROOT / "configs/demo.yaml"), "--out", str(tmp_path / "out")]
    child = start("import sys\n", [*command, "--engine", engine, *settings])
    family: list[psutil.Process] = []
    try:
        assert child.stderr is not None
        assert any("model ready" in line for line in child.stderr), "the model was not loaded"
        time.sleep(4)
        family = psutil.Process(child.pid).children(recursive=True)
        assert child.poll() is None, "it was over before the signal"
        started = time.monotonic()
        child.terminate()
        child.communicate(timeout=60)
        assert child.returncode == 3 and time.monotonic() - started < 20
        assert not psutil.wait_procs(family, timeout=10)[1]
    finally:
        child.kill()
    assert not len(rows_of(tmp_path / "out", "explanations"))
