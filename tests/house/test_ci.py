"""The script that CI runs: all its steps are run and reported, and one failure fails it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

STEPS = ["make setup", "make setup", "make lint", "make captions explanations", "make test"]


@pytest.fixture
def ci(root: Path, tmp_path: Path):
    """Runs a copy of .ci/run with a `make` that notes its arguments and fails where asked to."""
    checkout, tools, notes = tmp_path / "checkout", tmp_path / "bin", tmp_path / "notes"
    (checkout / ".ci").mkdir(parents=True)
    tools.mkdir()
    shutil.copy(root / ".ci" / "run", checkout / ".ci" / "run")
    tool(tools / "make", f'echo "make $*" >> {notes}\n[[ "$*" != "$FAIL" ]]')
    for name in ("chromium", "chromedriver"):
        tool(tools / name, "exit 0")
    # Whatever this machine lacks, the test installs nothing on it.
    tool(tools / "apt-get", "exit 0")

    def run(fail: str = "") -> tuple[int, str, list[str]]:
        environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "FAIL": fail}
        command = ["bash", str(checkout / ".ci" / "run")]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        return result.returncode, result.stdout, notes.read_text().splitlines()

    return run


def tool(path: Path, body: str) -> None:
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(0o755)


def test_all_steps_pass(ci) -> None:
    code, output, calls = ci()
    assert (code, calls) == (0, STEPS)
    assert "CI: all steps passed" in output


@pytest.mark.parametrize(
    ("fail", "step"), [("lint", "lint"), ("captions explanations", "quickstart"), ("test", "tests")]
)
def test_a_failed_step_fails_the_run_after_the_others_ran(ci, fail: str, step: str) -> None:
    code, output, calls = ci(fail)
    assert (code, calls) == (1, STEPS)
    assert f"<== {step}: FAILED (1)" in output
    assert output.rstrip().endswith(f": {step}")


def test_nothing_is_run_without_an_environment(ci) -> None:
    code, _, calls = ci("setup")
    assert (code, calls) == (1, ["make setup"])
