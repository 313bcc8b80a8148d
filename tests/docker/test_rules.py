"""Our rules for images and services: they hold, and a breach of each is found."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from scripts.check_docker import (
    COMPOSE,
    DOCKER,
    check_dockerfile,
    check_services,
    compose,
    hadolint,
    let_through,
    steps_of,
)

ROOT = Path(__file__).resolve().parents[2]
GIVEN = {"DATABASE_PASSWORD_FILE": "secrets/a", "API_AUTH_STRING_FILE": "secrets/b"}
BREACHES = [
    ("USER 10001:10001\n", "", "other than root"),
    ("USER 10001:10001\n", "USER 0:0\n", "other than root"),
    (":3.11.13-slim-bookworm\n", "\n", "names no version"),
    (":3.11.13-slim-bookworm\n", ":latest\n", "names no version"),
    ("HEALTHCHECK", "LABEL", "no HEALTHCHECK"),
    ("COPY requirements requirements", "ADD https://example.org/a.tar.gz /", "ADD"),
    ("WORKDIR /build", "RUN curl -O https://example.org/a.sh && sh a.sh", "no requirement pins"),
    ("WORKDIR /build", "RUN pip install prefect", "does not pin"),
    ("ENV PATH", "ENV PREFECT_API_AUTH_STRING=admin:secret PATH", "would hold a secret"),
    ("DO_NOT_TRACK=1", "TRACK=0", "telemetry"),
]


def test_what_is_in_docker_passes_the_check() -> None:
    result = subprocess.run(
        [sys.executable, "scripts/check_docker.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(("old", "new", "words"), BREACHES)
def test_a_breach_in_a_dockerfile_is_found(tmp_path: Path, old: str, new: str, words: str) -> None:
    text = (DOCKER / "server.Dockerfile").read_text()
    assert old in text
    path = tmp_path / "Dockerfile"
    path.write_text(text.replace(old, new))
    assert any(words in finding for finding in check_dockerfile(path)), list(check_dockerfile(path))


def test_hadolint_reads_the_files(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text("FROM python\nRUN cd /tmp && sudo apt-get install gcc\n")
    found = " ".join(hadolint(path))
    assert "DL3006" in found and "DL3004" in found


@pytest.mark.parametrize("missing", GIVEN)
def test_starting_without_a_secret_is_an_error_that_names_the_remedy(missing: str) -> None:
    with pytest.raises(ValueError, match=rf"{missing} .*docker/\.env\.example"):
        compose(values={name: value for name, value in GIVEN.items() if name != missing})


def test_what_the_compose_specification_does_not_know_is_refused(tmp_path: Path) -> None:
    text = COMPOSE.read_text()
    for old, new in (("stop_grace_period: 30s", "stop_grace_period: soon"), ("init: true", "initt: true")):
        path = tmp_path / "compose.yaml"
        path.write_text(text.replace(old, new))
        with pytest.raises(ValueError, match="soon|initt"):
            compose(path, GIVEN)
    path.write_text(text.replace("networks: [workers]", "networks: [elsewhere]"))
    with pytest.raises(ValueError, match="elsewhere"):
        compose(path, GIVEN)


@pytest.mark.parametrize(
    ("service", "change", "words"),
    [
        ("server", {"ports": ["4200:4200"]}, "loopback"),
        ("database", {"ports": ["127.0.0.1:5432:5432"]}, "Postgres is published"),
        ("database", {"image": "postgres"}, "names no version"),
        ("database", {"environment": {"POSTGRES_PASSWORD": "prefect"}}, "POSTGRES_PASSWORD has a value"),
        ("worker", {"stop_grace_period": "10s"}, "a run needs 20s"),
        ("worker", {"privileged": True}, "privileged"),
        ("worker", {"security_opt": []}, "no-new-privileges"),
    ],
)
def test_a_breach_in_the_services_is_found(service: str, change: dict[str, Any], words: str) -> None:
    found = compose(values=GIVEN)
    assert list(check_services(found)) == []
    found["services"][service] |= change
    assert any(words in finding for finding in check_services(found))


def test_a_secret_with_a_value_in_the_file_is_found() -> None:
    found = compose(values=GIVEN)
    found["secrets"]["api_auth_string"] = {"environment": "AUTH"}
    assert any("api_auth_string" in finding for finding in check_services(found))


def test_the_workers_serve_a_pool_that_prefect_yaml_names() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    pools = {entry["work_pool"]["name"] for entry in deployments}
    assert compose(values=GIVEN)["services"]["worker"]["environment"]["WORK_POOL"] in pools
    assert compose(values=GIVEN | {"WORK_POOL": "other"})["services"]["worker"]["command"][4] == "other"
    assert re.search(r"^WORK_POOL=(\S+)$", (DOCKER / ".env.example").read_text(), re.MULTILINE)[1] in pools  # type: ignore[index]


def test_every_variable_of_the_example_is_used_and_holds_no_secret() -> None:
    example = (DOCKER / ".env.example").read_text()
    names = re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)
    used = "".join(path.read_text() for path in DOCKER.glob("compose*.yaml"))
    assert names and [name for name in names if f"${{{name}:" not in used and name != "COMPOSE_FILE"] == []
    for line in example.splitlines():
        if re.match(r"[A-Z_]*(PASSWORD|AUTH)", line):
            assert line.partition("=")[2].startswith("./secrets/"), line


def test_git_ignores_what_holds_secrets() -> None:
    for name in ("docker/.env", "docker/secrets/api_auth_string"):
        assert subprocess.run(["git", "check-ignore", "-q", name], cwd=ROOT, check=False).returncode == 0, (
            name
        )


def test_nothing_but_what_is_named_goes_into_the_build_context() -> None:
    ignore = (ROOT / ".dockerignore").read_text()
    for name in (
        "flows/serve.py",
        "docker/entrypoint.sh",
        "requirements/gpu.txt",
        "demo/models/glm/config.json",
    ):
        assert let_through(PurePosixPath(name), ignore), name
    for name in (
        *(
            ".git/config",
            "docker/.env",
            "docker/secrets/database_password",
            ".venv/bin/python",
            "out/a.parquet",
        ),
        *("tests/conftest.py", "flows/__pycache__/a.pyc", "a.egg-info/PKG-INFO", "configs/.env", "notes.txt"),
    ):
        assert not let_through(PurePosixPath(name), ignore), name
    for path in DOCKER.glob("*.Dockerfile"):
        for step in steps_of(path):
            if step.name == "COPY" and "from" not in step.options:
                for source in step.words[:-1]:
                    assert (ROOT / source).exists(), f"{path.name}: COPY {source}"


@pytest.mark.parametrize("image", ["server", "generate", "train"])
def test_all_that_an_image_asks_for_is_pinned_for_both_engines(image: str) -> None:
    asked = {
        re.split(r"[=<>\[; ]", line)[0].lower()
        for line in (ROOT / f"requirements/images/{image}.in").read_text().splitlines()
        if line and not line.startswith("#")
    }
    for engine in ("cpu", "gpu"):
        pins = (ROOT / f"requirements/{engine}.txt").read_text().lower().replace("_", "-")
        assert asked - {line.partition("==")[0] for line in pins.splitlines()} == set()


def test_all_images_start_from_one_base_that_matches_compose() -> None:
    bases = {
        step.text.partition("=")[2]
        for path in DOCKER.glob("*.Dockerfile")
        for step in steps_of(path)
        if step.name == "ARG" and step.text.startswith("PYTHON_IMAGE=")
    }
    assert len(bases) == 1
    assert bases == {compose(values=GIVEN)["services"]["server"]["build"]["args"]["PYTHON_IMAGE"]}


def test_the_secrets_that_the_document_makes_are_those_that_compose_and_the_entry_point_take(
    tmp_path: Path,
) -> None:
    document = (ROOT / "docs/cluster-server.md").read_text()
    block = next(
        text for text in re.findall(r"```sh\n(.*?)```", document, re.DOTALL) if "mkdir -m 700" in text
    )
    lines = [line for line in block.splitlines() if not line.startswith("docker compose")]
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/.env.example").write_text((DOCKER / ".env.example").read_text())
    subprocess.run(["/bin/sh", "-euc", "\n".join(lines)], cwd=tmp_path, check=True)
    made = (tmp_path / "docker/.env").read_text().splitlines()
    values = dict(line.split("=", 1) for line in made if re.match(r"[A-Z]", line))
    files = compose(values=values)["secrets"]
    for name, secret in files.items():
        path = tmp_path / "docker" / secret["file"]
        assert path.stat().st_mode & 0o777 == 0o444 and path.parent.stat().st_mode & 0o777 == 0o700
        assert len(path.read_text().strip()) >= 48, name
    assert re.fullmatch(
        r"admin:\w{48}\n", (tmp_path / "docker" / files["api_auth_string"]["file"]).read_text()
    )
    # The example says the same.
    example = (DOCKER / ".env.example").read_text()
    assert all(line in example for line in lines if "secrets" in line)
