"""Check docker/: hadolint, the compose specification, and our own rules for images and services.

    python scripts/check_docker.py

Prints one line per finding and exits 1 when there is one. Needs no container engine.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from compose_spec import PyOptions

ROOT = Path(__file__).resolve().parent.parent
DOCKER = ROOT / "docker"
COMPOSE = DOCKER / "compose.yaml"
MIN_GRACE_S = 20
SECRET = re.compile(r"(password|passwd|secret|token|api_?key|auth_string|credential)", re.IGNORECASE)
TAG = re.compile(r"[^:@\s]+:[\w.-]*\d[\w.-]*(@sha256:[0-9a-f]{64})?")
VARIABLE = re.compile(r"\$\{(\w+)(?::?([-?])([^}]*))?\}")


@dataclass
class Step:
    """One instruction of a Dockerfile: its name in capitals, its options, and the rest of the line."""

    name: str
    text: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        """The arguments: of the JSON form, or divided as a shell does."""
        return list(json.loads(self.text)) if self.text.startswith("[") else shlex.split(self.text)


def steps_of(dockerfile: Path) -> list[Step]:
    """Return the instructions of a Dockerfile, continued lines joined, comments left out."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.lstrip().startswith("#")]
    steps = []
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        name, _, text = line.strip().partition(" ")
        if not name:
            continue
        step = Step(name.upper(), " ".join(text.split()))
        while found := re.match(r"--([\w-]+)=(\S+)\s+", step.text):
            step.options[found[1]] = found[2]
            step.text = step.text[found.end() :]
        steps.append(step)
    return steps


def stages_of(dockerfile: Path) -> list[list[Step]]:
    """Return the steps of each stage; what stands before the first ``FROM`` belongs to none."""
    stages: list[list[Step]] = []
    for step in steps_of(dockerfile):
        if step.name == "FROM":
            stages.append([])
        if stages:
            stages[-1].append(step)
    return stages


def expanded(text: str, values: dict[str, str]) -> str:
    """Return text with ``${NAME}``, ``${NAME:-default}`` and ``${NAME:?message}`` filled in.

    Raises:
        ValueError: A required variable is missing; the message is the file's own.
    """

    def value(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        if values.get(name):
            return values[name]
        if kind == "?":
            raise ValueError(f"{name} {rest}")
        return rest or ""

    return VARIABLE.sub(value, text)


def let_through(path: PurePosixPath, ignore: str) -> bool:
    """Return whether a ``.dockerignore`` lets a file of the build context through: the last match decides."""
    kept = True
    for line in ignore.splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        negated = pattern.startswith("!")
        parts = pattern.lstrip("!").strip("/").split("/")
        # A pattern that matches a folder matches all that is in it.
        if any(_matches(path.parts[:end], parts) for end in range(1, len(path.parts) + 1)):
            kept = negated
    return kept


def _matches(path: tuple[str, ...], pattern: list[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_matches(path[start:], pattern[1:]) for start in range(len(path) + 1))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and _matches(path[1:], pattern[1:])


def check_dockerfile(path: Path) -> Iterator[str]:
    """Yield what breaks our rules for images."""
    steps = steps_of(path)
    arguments = {
        name: value for step in steps if step.name == "ARG" for name, _, value in [step.text.partition("=")]
    }
    aliases: set[str] = set()
    for step in steps:
        if step.name == "FROM":
            image, _, alias = step.text.partition(" AS ")
            image = expanded(image, arguments)
            if image not in aliases and (not TAG.fullmatch(image) or image.endswith(":latest")):
                yield f"the base image {image} names no version: write name:tag, or name:tag@sha256:..."
            aliases.add(alias)
        if step.name == "ADD":
            yield f"ADD {step.text}: ADD fetches and unpacks what it is given; use COPY"
        if step.name == "RUN" and re.search(r"\b(curl|wget|git clone)\b", step.text):
            yield f"RUN {step.text[:60]}: fetches what no requirement pins"
        if step.name == "RUN" and re.search(r"pip install (?!.*(-r |--requirement|--no-deps))", step.text):
            yield f"RUN {step.text[:60]}: installs packages that requirements/ does not pin"
        if step.name in ("ENV", "ARG"):
            for name, value in re.findall(r"(\w+)=(\S*)", step.text):
                if SECRET.search(name) and value:
                    yield f"{step.name} {name} has a value: a layer would hold a secret"
    last = stages_of(path)[-1]
    users = [step.text for step in last if step.name == "USER"]
    if not users or not re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]):
        yield "the image must end as a user other than root, by number: USER 10001:10001"
    health = [step for step in last if step.name == "HEALTHCHECK"]
    if not health or health[-1].text == "NONE":
        yield "the image has no HEALTHCHECK"
    environment = " ".join(step.text for step in last if step.name == "ENV")
    if "DO_NOT_TRACK=1" not in environment:
        yield "ENV lacks DO_NOT_TRACK=1: telemetry stays off"
    if "prefect" in path.read_text() and "PREFECT_SERVER_ANALYTICS_ENABLED=false" not in environment:
        if any("generate" in step.text or "server" in step.text for step in steps if step.name == "RUN"):
            yield "ENV lacks PREFECT_SERVER_ANALYTICS_ENABLED=false: telemetry stays off"


def hadolint(path: Path) -> Iterator[str]:
    """Yield what hadolint finds."""
    command = [str(Path(sys.executable).with_name("hadolint")), "--no-color", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        yield from (result.stdout + result.stderr).strip().splitlines()


def compose(path: Path = COMPOSE, values: dict[str, str] | None = None) -> dict[str, Any]:
    """Return a compose file with its variables filled in, checked against the compose specification.

    Raises:
        ValueError: It does not hold to the specification, or a required variable is missing.
    """
    text = expanded(path.read_text(), values or {})
    parsed = PyOptions(apply_merge=True).from_yaml(text)
    parsed.validate()
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def check_services(found: dict[str, Any]) -> Iterator[str]:
    """Yield what breaks our rules for services."""
    for name, service in found["services"].items():
        if "build" not in service and not TAG.fullmatch(service["image"]):
            yield f"{name}: the image {service['image']} names no version"
        for port in service.get("ports", []):
            if not str(port).startswith("127.0.0.1:"):
                yield f"{name}: the port {port} is not published on the loopback"
            if name == "database":
                yield f"{name}: Postgres is published; only the server talks to it"
        for variable, value in dict(service.get("environment") or {}).items():
            if SECRET.search(variable) and not variable.endswith("_FILE") and value:
                yield f"{name}: {variable} has a value; name a file of /run/secrets in {variable}_FILE"
        if service.get("privileged") or service.get("network_mode") == "host":
            yield f"{name}: privileged, or on the host's network"
        if "no-new-privileges:true" not in service.get("security_opt", []):
            yield f"{name}: security_opt lacks no-new-privileges:true"
        grace = str(service.get("stop_grace_period", "10s"))
        if name != "deploy" and int(grace.rstrip("s")) < MIN_GRACE_S:
            yield f"{name}: stop_grace_period is {grace}; a run needs {MIN_GRACE_S}s (docs/operations.md)"
    for name, secret in found.get("secrets", {}).items():
        if set(secret) != {"file"}:
            yield f"secret {name}: comes from a file, not from {', '.join(secret)}"


def main() -> int:
    """Check all and print the findings; return 1 when there are some, 0 otherwise."""
    findings: list[str] = []
    files = sorted(DOCKER.glob("*.Dockerfile"))
    for path in files:
        findings += [
            f"{path.relative_to(ROOT)}: {each}" for each in (*check_dockerfile(path), *hadolint(path))
        ]
    given = {"DATABASE_PASSWORD_FILE": "secrets/a", "API_AUTH_STRING_FILE": "secrets/b"}
    for path in sorted(DOCKER.glob("compose*.yaml")):
        try:
            found = compose(path, given)
        except ValueError as error:
            findings.append(f"{path.relative_to(ROOT)}: {error}")
            continue
        if path == COMPOSE:
            findings += [f"{path.relative_to(ROOT)}: {each}" for each in check_services(found)]
    print(
        "\n".join(findings)
        if findings
        else f"docker/: {len(files)} Dockerfiles and the compose files are fine"
    )
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
