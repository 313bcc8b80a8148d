"""``python -m flows.serve``: a Prefect server, a work pool, the deployments and a worker on this machine.

Everything listens on the loopback unless told otherwise, and ends with this command. On other addresses it
wants an auth string (``PREFECT_SERVER_API_AUTH_STRING``).
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from flows.local_server import ROOT
from flows.safety import CLIENT_VARIABLE, SERVER_VARIABLE, client_settings
from flows.service import PartFailed, Service, Stopped
from pipeline.errors import EXIT_OK, PipelineError, UsageError

EXIT_BROKEN = 1
DEPLOYMENTS = ROOT / "prefect.yaml"


def _make_pool(url: str, name: str) -> None:
    settings = {PREFECT_API_URL: f"{url}/api", **client_settings()}
    with temporary_settings(settings), get_client(sync_client=True) as client:
        with contextlib.suppress(ObjectAlreadyExists):
            client.create_work_pool(
                WorkPoolCreate(
                    name=name,
                    type="process",
                    description="Processes on this machine, one at a time: a model fills its device.",
                    concurrency_limit=1,
                )
            )


def _free(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UsageError(
                f"cannot listen on {host}:{port} ({error.strerror}); is another server running there? "
                "Choose another with --port (make serve ARGS='--port 4300')"
            ) from error


def deployments(path: Path = DEPLOYMENTS) -> list[tuple[str, dict[str, str]]]:
    """Return ``flow/deployment`` and parameters of each deployment in ``prefect.yaml``."""
    entries = yaml.safe_load(path.read_text())["deployments"]
    return [(f"{e['entrypoint'].rpartition(':')[2]}/{e['name']}", e["parameters"]) for e in entries]


def _say_how(service: Service) -> None:
    lines = [
        "",
        f"Prefect is at {service.url}; Ctrl-C ends server, worker and runs.",
        "In another terminal:",
        f"  export PREFECT_API_URL={service.url}/api",
    ]
    if client_settings():
        lines.append(f'  export {CLIENT_VARIABLE}="${SERVER_VARIABLE}"  # the value that this server has')
    for name, parameters in deployments():
        given = " ".join(f"--param {key}={value}" for key, value in parameters.items() if value is not True)
        lines.append(f"  .venv/bin/prefect deployment run '{name}' {given}")
    print("\n".join([*lines, ""]), flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal comes; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.serve",
        description="Start a Prefect server, a work pool, the deployments of prefect.yaml and a worker here.",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help=f"address to listen on (default: this machine only); any other needs {SERVER_VARIABLE}",
    )
    parser.add_argument("--port", type=int, default=4200, help="port to listen on (default: 4200)")
    args = parser.parse_args(argv)
    pool = yaml.safe_load(DEPLOYMENTS.read_text())["deployments"][0]["work_pool"]["name"]
    log_file = get_current_settings().home / "server.log"
    try:
        service = Service(args.host, args.port)
        _free(args.host, args.port)
        log_file.parent.mkdir(parents=True, exist_ok=True)
        with service.until_stopped():
            print(f"starting a Prefect server at {service.url}, its log: {log_file} ...", flush=True)
            with log_file.open("wb") as log:
                service.start(
                    "server", "server", "start", "--host", args.host, "--port", str(args.port), log=log
                )
            service.wait_until_healthy()
            _make_pool(service.url, pool)
            service.start(
                "worker", "worker", "start", "--pool", pool, "--type", "process", "--install-policy", "never"
            )
            service.deploy(DEPLOYMENTS)
            _say_how(service)
            service.wait()
    except Stopped:
        print("stopped", flush=True)
        return EXIT_OK
    except (PipelineError, PartFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, PipelineError) else EXIT_BROKEN
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
