"""The commands of docs/cluster-ray.md, run as they stand there, with small tables and a free port."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.shards.verify import verify
from schemas import open_table
from tests.flows.building import make_table
from tests.flows.ray_nodes import TABLE, free_port

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "cluster-ray.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def home() -> Iterator[Path]:
    """A home folder, which Ray keeps its token and its sockets in; whatever was started with it ends."""
    # The path of a socket has at most 107 bytes.
    home = Path(tempfile.mkdtemp(prefix="ray-"))
    try:
        yield home
    finally:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("HOME") == str(home):
                    process.send_signal(signal.SIGKILL)
        shutil.rmtree(home, ignore_errors=True)


def test_the_commands_start_a_cluster_of_two_nodes_and_write_a_table_on_it(
    home: Path, tmp_path: Path
) -> None:
    arguments = make_table(tmp_path, samples=12)
    changes = {
        "configs/demo.yaml": arguments["config"],
        "out/tables": arguments["out"],
        "6379": str(free_port()),
        "$HEAD": "127.0.0.1",
    }
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PREFECT_"))
    }
    environment |= {"HOME": str(home), "RAY_TMPDIR": str(home)}
    alone, head, node, run = BLOCK.findall(DOCUMENT.read_text("utf-8"))
    assert "ray.address" not in alone, "the first block needs no cluster"
    said = ""
    for block in (head, node, run):
        for old, new in changes.items():
            block = block.replace(old, new)
        done = subprocess.run(
            ["bash", "-euc", block], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
    assert "Ray cluster: 2 nodes" in said
    assert (home / ".ray" / "auth_token").stat().st_size > 20
    assert open_table(arguments["out"], TABLE).num_rows == 12
    assert verify(Path(arguments["out"]), deep=True).ok
