"""The checks of scripts/check_files.py: they hold for this checkout, and find what is planted."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def check_files(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_files", root / "scripts" / "check_files.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_this_checkout_passes(check_files: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_files.main([]) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    "line",
    [
        "mirror: https://packages.our-company.internal/simple",  # host ok
        "see http://build7.lan:8080/job/1",  # host ok
        "url = https://wheels.some-mirror.net/x.whl",  # host ok
        "PREFECT_API_URL=http://10.1.2.3:4200/api",  # host ok
        "ssh 192.168.0.17",  # host ok
        "host: nas.corp",  # host ok
    ],
)
def test_a_private_host_is_found(check_files: ModuleType, tmp_path: Path, line: str) -> None:
    path = tmp_path / "notes.md"
    path.write_text(f"first\n{line}\n")
    assert check_files.main([str(path)]) == 1
    (finding,) = list(check_files.check_file(path))
    assert f"{path}:2: host " in finding


@pytest.mark.parametrize(
    "line",
    [
        "https://arxiv.org/abs/2412.12718",
        "http://127.0.0.1:4200/api and http://localhost:4200",
        "http://example.com/a.jpg",
        "nvidia-cufile==10.4.0.35",
        "http://$HOST:$PORT/api",
        "box 10.0 20.0, version 1.2.3",
    ],
)
def test_a_public_host_is_let_through(check_files: ModuleType, line: str) -> None:
    assert list(check_files.private_hosts(line)) == []


def test_a_large_file_and_a_long_module_are_found(check_files: ModuleType, tmp_path: Path) -> None:
    large, long = tmp_path / "weights.bin", tmp_path / "long.py"
    large.write_bytes(bytes(check_files.MAX_BYTES + 1))
    long.write_text("x = 1\n" * (check_files.MAX_MODULE_LINES + 1))
    assert ["1,000,001 bytes" in finding for finding in check_files.check_file(large)] == [True]
    assert ["401 lines" in finding for finding in check_files.check_file(long)] == [True]


def test_models_that_outgrow_a_clone_are_found(check_files: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "model.safetensors").write_bytes(bytes(check_files.MAX_MODELS_BYTES))
    assert list(check_files.check_models(tmp_path)) == []
    (tmp_path / "config.json").write_text("{}")
    assert len(list(check_files.check_models(tmp_path))) == 1


def scripts(root: Path) -> list[Path]:
    return [*sorted((root / "scripts").glob("*.sh")), root / ".ci" / "run"]


def test_shell_scripts_parse_and_are_executable(root: Path) -> None:
    assert len(scripts(root)) > 3
    for script in scripts(root):
        subprocess.run(["bash", "-n", script], check=True)
        assert os.access(script, os.X_OK), script


def test_shell_scripts_stop_at_unset_variables_and_failed_pipes(root: Path) -> None:
    for script in scripts(root):
        wanted = "set -uo pipefail" if script.name == "run" else "set -euo pipefail"
        assert f"\n{wanted}\n" in script.read_text(), script
