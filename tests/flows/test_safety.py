"""Who may talk to a server of ours: the loopback, or whoever knows the auth string."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from prefect.settings import PREFECT_SERVER_API_AUTH_STRING, temporary_settings

from flows.safety import is_loopback, may_listen, shown
from flows.serve import main
from flows.service import Service
from pipeline.errors import UsageError
from schemas import open_table
from tests.flows.building import make_table

AUTH = "admin:3b9c0f6f5e0a-of-this-test"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_the_loopback_needs_no_auth_string(host: str) -> None:
    assert is_loopback(host)
    may_listen(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "8.8.8.8", "example.org", ""])
def test_any_other_address_is_refused_without_an_auth_string(host: str) -> None:
    with pytest.raises(UsageError, match="PREFECT_SERVER_API_AUTH_STRING") as caught:
        may_listen(host)
    assert "openssl rand" in str(caught.value) and "PREFECT_API_AUTH_STRING" in str(caught.value)
    with temporary_settings({PREFECT_SERVER_API_AUTH_STRING: AUTH}):
        may_listen(host)


@pytest.mark.parametrize("given", ["", "admin", "admin:", " admin:x", "admin:x\n"])
def test_an_auth_string_that_cannot_work_is_refused_everywhere(given: str) -> None:
    with temporary_settings({PREFECT_SERVER_API_AUTH_STRING: given}):
        with pytest.raises(UsageError, match="user:password"):
            may_listen("127.0.0.1")


def test_serving_to_others_without_an_auth_string_ends_with_the_remedy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--host", "0.0.0.0"]) == 2
    assert "refusing to listen on 0.0.0.0" in capsys.readouterr().err


def test_the_parts_of_a_service_reach_it_and_are_let_in() -> None:
    with temporary_settings({PREFECT_SERVER_API_AUTH_STRING: AUTH}):
        service = Service("0.0.0.0", 4242)
        assert service.environment["PREFECT_API_URL"] == "http://127.0.0.1:4242/api"
        assert service.environment["PREFECT_API_AUTH_STRING"] == AUTH
        assert Service("::", 1).url == "http://[::1]:1"
    assert Service("::1", 1).url == "http://[::1]:1"


def test_a_url_is_shown_without_its_password() -> None:
    assert shown("https://me:secret@prefect.example:4200/api") == "https://prefect.example:4200/api"
    assert shown("http://127.0.0.1:4200/api") == "http://127.0.0.1:4200/api"


@pytest.mark.cluster
@pytest.mark.slow
def test_a_server_for_others_works_end_to_end_with_its_auth_string(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API_")}
    environment |= {"PREFECT_HOME": str(tmp_path / "home"), "PYTHONUNBUFFERED": "1"}
    log = tmp_path / "said"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.serve", "--host", "0.0.0.0", "--port", str(port)],
            env=environment | {"PREFECT_SERVER_API_AUTH_STRING": AUTH},
            stdout=stream,
            stderr=stream,
        )
    try:
        deadline = time.monotonic() + 300
        while "deployment run 'refresh/refresh'" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
        assert 'export PREFECT_API_AUTH_STRING="$PREFECT_SERVER_API_AUTH_STRING"' in log.read_text()
        url = f"http://127.0.0.1:{port}/api"
        assert httpx.post(f"{url}/flows/filter", json={}).status_code == 401
        table = make_table(tmp_path / "table", samples=6)
        run = subprocess.run(
            [
                *(
                    Path(sys.executable).with_name("prefect"),
                    "deployment",
                    "run",
                    "captions/captions",
                    "--watch",
                ),
                *("--param", f"config={table['config']}", "--param", f"out={table['out']}"),
            ],
            env=environment | {"PREFECT_API_URL": url, "PREFECT_API_AUTH_STRING": AUTH},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert run.returncode == 0, run.stdout + run.stderr + log.read_text()
        assert open_table(table["out"], "captions").num_rows == 6
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0, log.read_text()
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert tmp_path / "home/server.log" in kept
    assert not [path for path in kept if AUTH.partition(":")[2].encode() in path.read_bytes()]


@pytest.mark.cluster
@pytest.mark.slow
def test_a_command_runs_on_its_temporary_server_where_an_auth_string_is_set(tmp_path: Path) -> None:
    table = make_table(tmp_path, samples=6)
    result = subprocess.run(
        [sys.executable, "-m", "flows.captions", "--config", table["config"], "--out", table["out"]],
        env=os.environ | {"PREFECT_SERVER_API_AUTH_STRING": AUTH},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert open_table(table["out"], "captions").num_rows == 6
