from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from pipeline.engines.installed import installed_build
from tests import checkpoints
from tests.pipeline.engines.vllm_instructblip import vllm_side

# Engines start within 30 s, but a busy machine has been seen to take ten times as long.
PATIENCE_S = 1500


@pytest.fixture(scope="session")
def vllm():
    """Calls a function of ``vllm_side`` in a process that has vLLM, and returns what it returns.

    One process for all modules: it imports vLLM once, which takes longer than to start one of these engines.
    """
    build = installed_build()
    if build is None or build.kind != "cpu":
        pytest.skip("compares float32 on a CPU, and the installed vLLM is not built for one")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=vllm_side.set_up) as pool:
        process = pool.submit(os.getpid).result(timeout=PATIENCE_S)

        def call(function, *given, **named):
            try:
                return pool.submit(function, *given, **named).result(timeout=PATIENCE_S)
            except TimeoutError:
                os.kill(process, signal.SIGKILL)  # else leaving the pool would wait for it
                raise

        yield call


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Return the folder of a small random checkpoint that vLLM can run on a CPU, by layout."""
    root = tmp_path_factory.mktemp("checkpoints")

    def build(layout):
        if not (root / layout).exists():
            checkpoints.instructblip_llama(root / layout, layout, head_dim=32)
        return root / layout

    return build


@pytest.fixture(scope="session")
def pictures():
    """Return pictures of differing sizes, uint8 [height, width, 3]."""
    rng = np.random.default_rng(5)
    sizes = ((40, 60), (28, 28), (200, 31), (64, 300), (17, 90), (333, 222))
    coarse = [rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), np.uint8) for height, width in sizes]
    grown = [np.kron(small, np.ones((8, 8, 1), np.uint8)) for small in coarse]
    return [big[:height, :width] for big, (height, width) in zip(grown, sizes, strict=True)]


@pytest.fixture
def python():
    """Run code in a fresh interpreter and return what it prints."""

    def run(code):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run
