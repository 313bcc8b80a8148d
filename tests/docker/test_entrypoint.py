"""The images' entry point: secrets come from files, and a server never starts open."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
AUTH = "admin:0f3a-of-this-test"


def entry(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(
        ["/bin/sh", ROOT / "docker/entrypoint.sh", *command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_secret_is_read_from_its_file_and_the_command_takes_the_shells_place(tmp_path: Path) -> None:
    file = tmp_path / "auth"
    file.write_text(f"{AUTH}\n")
    result = entry("sh", "-c", "echo $PREFECT_API_AUTH_STRING $PREFECT_API_AUTH_STRING_FILE.; exit 7",
                   PREFECT_API_AUTH_STRING_FILE=str(file))  # fmt: skip
    assert (result.returncode, result.stdout) == (7, f"{AUTH} .\n")


@pytest.mark.parametrize(
    ("content", "words"), [(None, "cannot read"), ("", "is empty"), ("CHANGE-ME", "placeholder")]
)
def test_a_secret_that_is_missing_or_was_never_made_is_an_error(
    tmp_path: Path, content: str | None, words: str
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content)
    result = entry("echo", "started", PREFECT_SERVER_DATABASE_PASSWORD_FILE=str(file))
    assert result.returncode == 2 and "started" not in result.stdout
    assert words in result.stderr and "PREFECT_SERVER_DATABASE_PASSWORD" in result.stderr


SERVER = ("prefect", "server", "start")


@pytest.mark.parametrize("given", [{}, {"PREFECT_SERVER_API_AUTH_STRING": "admin"}])
def test_a_server_that_others_reach_does_not_start_without_an_auth_string(given: dict[str, str]) -> None:
    result = entry(*SERVER, PREFECT_SERVER_API_HOST="0.0.0.0", **given)
    assert result.returncode == 2
    assert "refusing to listen on 0.0.0.0" in result.stderr
    assert "PREFECT_SERVER_API_AUTH_STRING_FILE" in result.stderr


def test_a_server_on_a_database_wants_its_password() -> None:
    result = entry(*SERVER, PREFECT_SERVER_DATABASE_HOST="database")
    assert result.returncode == 2 and "PREFECT_SERVER_DATABASE_PASSWORD_FILE" in result.stderr


def test_a_container_is_unhealthy_where_its_page_does_not_answer() -> None:
    command = [sys.executable, ROOT / "docker/healthy.py"]
    given = os.environ | {"HEALTH_URL": "http://127.0.0.1:9/api/health"}
    assert subprocess.run(command, env=given, check=False).returncode == 1
    without = {name: value for name, value in os.environ.items() if name != "HEALTH_URL"}
    assert subprocess.run(command, env=without, check=False).returncode == 0


@pytest.mark.parametrize(
    ("states", "healthy"),
    [({1: "S 0"}, True), ({1: "T 0"}, False), ({1: "Z 0", 5: "Z 1"}, False), ({1: "S 0", 5: "T 1"}, True),
     ({1: "T 0", 5: "S 0"}, False)],
)  # fmt: skip
def test_a_container_whose_processes_stand_still_is_unhealthy(
    tmp_path: Path, states: dict[int, str], healthy: bool
) -> None:
    sys.path.insert(0, str(ROOT / "docker"))
    try:
        from healthy import moving  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    for number, state in states.items():
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "stat").write_text(f"{number} (a (b) c) {state} 1 1")
    assert moving(tmp_path) is healthy
