"""The commands of docs/cluster.md, in their order, on a real server with real workers and a small table.

Left out: what needs Slurm (``srun``). Put in their place: the folders and the configuration, which here are
those of the test, the number of GPUs, and the server's address.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pipeline.__main__ import main
from schemas import open_table
from tests.builders import write_echo_config
from tests.flows.building import make_dgm4
from tests.flows.workers import ROOT, prefect_worker, wait_until
from tests.house.test_docs import FENCE

RUNBOOK = ROOT / "docs" / "cluster.md"


def commands() -> list[str]:
    """Return every line of the runbook's blocks, comments cut off."""
    text = RUNBOOK.read_text()
    lines = [line.split(" #")[0].strip() for block in FENCE.findall(text) for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("srun ")]


@pytest.mark.cluster
@pytest.mark.slow
def test_every_command_of_the_runbook_runs(api: Any, api_url: str, tmp_path: Path) -> None:
    config, data = write_echo_config(tmp_path), make_dgm4(tmp_path / "DGM4", rows=6)
    tables = tmp_path / "tables"
    assert main(["ingest", "--data", str(data), "--out", str(tables)]) == 0
    replaced = {
        "configs/dgm4.yaml": str(config),
        "/shared/DGM4": str(data),
        "/shared/tables": str(tables),
        "out/tables": str(tables),
        "out/demo": str(tables),
        "http://127.0.0.1:4200/api": api_url,
        "runs=16": "runs=1",
        "--runs 16": "--runs 1",
        ".venv/bin/python": sys.executable,
    }
    variables = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran: list[str] = []
    with ExitStack() as stack:
        for line in commands():
            for old, new in replaced.items():
                line = line.replace(old, new)
            if line.startswith("export "):
                variables |= dict(word.split("=", 1) for word in shlex.split(line)[1:])
                continue
            if worker := re.match(r"(?:\w+=\S+ )?prefect worker start --pool (\w+)", line):
                stack.enter_context(prefect_worker(api_url, worker[1], tmp_path, limit=1))
                continue
            done = subprocess.run(
                line, shell=True, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=240
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            ran.append(line)
        # `prefect deployment run` only asks for a run; it was taken by the worker of its pool.
        deployed = api.read_deployment_by_name("fan-out/captions")

        def ended() -> bool:
            runs = [run for run in api.read_flow_runs() if run.deployment_id == deployed.id]
            return bool(runs) and all(run.state.is_completed() for run in runs)

        wait_until(ended, "the run of fan-out/captions")
    assert sum("prefect " in line for line in ran) >= 6 and sum("-m flows" in line for line in ran) >= 3
    assert open_table(tables, "captions").num_rows == open_table(tables, "samples").num_rows
