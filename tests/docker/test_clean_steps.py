"""Each image's install and start steps, run from a clean folder, and the three images at work together.

Left out or replaced, because no container engine runs here: apt steps; the CUDA builds of the GPU
requirements (the CPU requirements are installed); copies of packages (links into uv's cache) and their
bytecode; ports, which are free ones of this machine. The rest is what the Dockerfiles and ``compose.yaml``
say, as the user that they name.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from benchmarks.kills.composed import free_ports
from schemas import open_table
from scripts.check_docker import COMPOSE, compose
from tests.docker.clean import REMEDY, ROOT, Image, build, possible

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.skipif(not possible(), reason=REMEDY),
]

AUTH = "admin:c2f8a1-for-this-test"
SECRETS = {"DATABASE_PASSWORD_FILE": "a", "API_AUTH_STRING_FILE": "b"}


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="images-"))
    folder.chmod(0o755)
    for name in ("data", "run/secrets", "bytecode"):
        (folder / name).mkdir(parents=True)
    for name in ("data", "bytecode"):
        os.chown(folder / name, 10001, 10001)
    secret = folder / "run/secrets/api_auth_string"
    secret.write_text(f"{AUTH}\n")
    secret.chmod(0o444)
    yield folder
    subprocess.run(["rm", "-rf", "--one-file-system", folder], check=True)


@pytest.fixture(scope="module")
def images(place: Path) -> dict[str, Image]:
    # uv asks a registry only for what its cache lacks; `make setup` has filled it.
    cache = Path(os.environ.get("UV_CACHE_DIR", Path.home() / ".cache/uv")).parent
    cache.mkdir(parents=True, exist_ok=True)
    arguments = {"ENGINE": "cpu", "UV_LINK_MODE": "symlink", "UV_COMPILE_BYTECODE": "0"}
    found: dict[str, Image] = {}
    for name in ("server", "generate", "train"):
        image = build(ROOT / f"docker/{name}.Dockerfile", place / name, arguments, cache)
        image.mounts += [(str(place / "run"), "/run"), (str(place / "bytecode"), "/bytecode")]
        # What UV_COMPILE_BYTECODE does while an image is built.
        image.environment |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": "/bytecode"}
        if name != "server":
            image.mounts.append((str(place / "data"), "/data"))
        found[name] = image
    return found


@pytest.fixture(scope="module")
def services(place: Path, images: dict[str, Image]) -> Iterator[dict[str, Any]]:
    """Server, deployments and worker, started with what their images and ``compose.yaml`` say."""
    api, health = free_ports(2)
    given = compose(COMPOSE, SECRETS)["services"]
    url = f"http://127.0.0.1:{api}/api"
    environments = {
        "server": images["server"].environment
        | {
            "PREFECT_SERVER_API_AUTH_STRING_FILE": given["server"]["environment"][
                "PREFECT_SERVER_API_AUTH_STRING_FILE"
            ],
            "PREFECT_SERVER_API_HOST": "127.0.0.1",
            "PREFECT_SERVER_API_PORT": str(api),
            "HEALTH_URL": f"{url}/health",
        }
    }
    for name in ("deploy", "worker"):
        environments[name] = images["generate"].environment | {
            **given[name]["environment"],
            "PREFECT_API_URL": url,
            "PREFECT_WORKER_WEBSERVER_PORT": str(health),
            "HEALTH_URL": f"http://127.0.0.1:{health}/health",
        }
    processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(service: str, image: Image, command: list[str]) -> subprocess.Popen[bytes]:
        with (place / f"{service}.log").open("wb") as log:
            processes[service] = subprocess.Popen(
                image.argv([*image.entrypoint, *command]),
                env=environments[service],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return processes[service]

    def healthy(service: str, image: Image) -> bool:
        return image.run(image.health, environment=environments[service]).returncode == 0

    def wait(condition: Callable[[], bool], *needed: str) -> None:
        deadline = time.monotonic() + 300
        while not condition():
            said = "\n".join((place / f"{name}.log").read_text()[-3000:] for name in needed)
            assert all(processes[name].poll() is None for name in needed), said
            assert time.monotonic() < deadline, said
            time.sleep(0.5)

    try:
        assert not healthy("server", images["server"])
        start("server", images["server"], images["server"].command)
        wait(lambda: healthy("server", images["server"]), "server")
        deployed = start("deploy", images["generate"], given["deploy"]["command"])
        assert deployed.wait(300) == 0, (place / "deploy.log").read_text()
        assert not healthy("worker", images["generate"])
        start("worker", images["generate"], given["worker"]["command"])
        wait(lambda: healthy("worker", images["generate"]), "worker")
        yield {"url": url, "wait": wait, "processes": processes, "place": place}
    finally:
        for name in ("worker", "server"):
            if name in processes and processes[name].poll() is None:
                family = psutil.Process(processes[name].pid).children(recursive=True)
                processes[name].send_signal(signal.SIGTERM)
                _, alive = psutil.wait_procs([psutil.Process(processes[name].pid), *family], timeout=20)
                for each in alive:
                    each.kill()


def run_in(image: Image, *command: str) -> str:
    result = image.run([*image.entrypoint, *command])
    assert result.returncode == 0, result.stdout
    return result.stdout


def test_no_step_runs_as_root_and_nothing_but_the_named_files_is_in_an_image(
    images: dict[str, Image],
) -> None:
    for name, image in images.items():
        assert run_in(image, "id", "-u").strip() == "10001", name
        found = {path.relative_to(image.root).as_posix() for path in (image.root / "app").rglob("*")}
        assert not [
            path for path in found if ".git" in path or "secret" in path.rpartition("/")[2] or path == "tests"
        ]
        assert image.run(["touch", "/opt/venv/probe"]).returncode != 0, (
            f"{name}: the user may change its packages"
        )
        # Neither linters nor tests nor, for the server, torch.
        packages = {path.name for path in (image.root / "opt/venv/lib").glob("python*/site-packages/*")}
        assert not packages & {"pytest", "mypy", "ruff", "selenium", "kubernetes_validate"}, name
    assert not (images["server"].root / "app").exists()
    assert not list((images["server"].root / "opt/venv/lib").glob("python*/site-packages/torch"))


def test_what_is_installed_is_what_the_requirements_pin(images: dict[str, Image]) -> None:
    allowed = {
        pinned(line)
        for name in ("cpu", "bootstrap")
        for line in (ROOT / f"requirements/{name}.txt").read_text().split()
    }
    listed = "import importlib.metadata as m; [print(f'{d.name}=={d.version}') for d in m.distributions()]"
    for name, image in images.items():
        found = {pinned(line) for line in run_in(image, "python", "-c", listed).splitlines()}
        # What `python -m venv` brings, and the checkout.
        own = {line for line in found if line.partition("==")[0] in ("pip", "dgm4-asap")} | {
            "setuptools==65.5.0"
        }
        assert len(found) > 40 and found - allowed - own == set(), name


def pinned(line: str) -> str:
    """``name==version`` with the name as indexes normalize it."""
    name, _, version = line.partition("==")
    return f"{re.sub('[-_.]+', '-', name).lower()}=={version}"


def test_the_images_generate_and_train_on_the_demo(images: dict[str, Image], place: Path) -> None:
    generate, train = images["generate"], images["train"]
    run_in(generate, "python", "-m", "demo.newsroom", "--samples", "60", "--out", "/data/world", "--quiet")
    run_in(generate, "python", "-m", "pipeline", "ingest", "--data", "/data/world", "--out", "/data/out")
    run_in(
        generate,
        "python",
        "-m",
        "pipeline",
        "captions",
        "--config",
        "configs/demo.yaml",
        "--out",
        "/data/out",
    )
    run_in(
        generate,
        "python",
        "-m",
        "pipeline",
        "explanations",
        "--config",
        "configs/demo.yaml",
        "--out",
        "/data/out",
    )
    assert open_table(place / "data/out", "explanations").num_rows == 60
    # vLLM finds our model by the entry point of the checkout's metadata.
    found = run_in(
        generate,
        "python",
        "-c",
        "import importlib.metadata as m; print(m.entry_points(group='vllm.general_plugins'))",
    )
    assert "instructblip" in found
    said = run_in(
        train,
        *("accelerate", "launch", "training/train.py", "--config", "configs/training/demo.yaml"),
        *(
            "--data",
            "/data/out",
            "--to",
            "/data/run",
            "--set",
            "train.max_steps=2",
            "--set",
            "train.batch_size=8",
        ),
    )
    assert list((place / "data/run").rglob("*.safetensors")), said


def test_a_deployment_runs_in_the_workers_image(services: dict[str, Any], images: dict[str, Image]) -> None:
    place: Path = services["place"]
    run_in(
        images["generate"],
        "python",
        "-m",
        "demo.newsroom",
        "--samples",
        "40",
        "--out",
        "/data/small",
        "--quiet",
    )
    run_in(
        images["generate"],
        "python",
        "-m",
        "pipeline",
        "ingest",
        "--data",
        "/data/small",
        "--out",
        "/data/texts",
    )
    settings = {PREFECT_API_URL: services["url"], PREFECT_API_AUTH_STRING: AUTH}
    with temporary_settings(settings), get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("captions/captions")
        parameters = {"config": "configs/demo.yaml", "out": "/data/texts"}
        run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters).id
        services["wait"](lambda: client.read_flow_run(run).state.is_final(), "server", "worker")
        assert client.read_flow_run(run).state.is_completed(), (place / "worker.log").read_text()[-5000:]
    assert open_table(place / "data/texts", "captions").num_rows > 0
    for log in place.glob("*.log"):
        assert AUTH.partition(":")[2] not in log.read_text(errors="replace"), log.name
