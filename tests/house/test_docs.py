"""The documents: their links, commands, options and paths exist, and what is generated is up to date."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
IDS = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
OURS = ("schemas", "pipeline", "flows", "demo", "benchmarks")
PATH = re.compile(
    r"(?:configs|docs|scripts|schemas|pipeline|flows|demo|requirements|tests|benchmarks)/[\w./-]*\w"
)

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)


def code_of(document: Path) -> list[str]:
    """Every line of code in a document: of its blocks, continued lines joined, and of its inline code."""
    text = COMMENT.sub("", document.read_text("utf-8"))
    blocks = [block.replace("\\\n", " ") for block in FENCE.findall(text)]
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line] + INLINE.findall(FENCE.sub("", text))


def words_of(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def module_calls(document: Path) -> list[list[str]]:
    """``[module, argument...]`` of every ``python -m module ...`` in a document."""
    calls = []
    for line in code_of(document):
        words = words_of(line)
        for index in range(len(words) - 2):
            if re.search(r"(^|/)python3?$", words[index]) and words[index + 1] == "-m":
                calls.append(words[index + 2 :])
    return calls


@cache
def help_of(*command: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", *command, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, f"{command}: {result.stderr}"
    return result.stdout


@each_document
def test_links_lead_to_files(document: Path) -> None:
    text = COMMENT.sub("", document.read_text("utf-8"))
    local = [link.split("#")[0] for link in LINK.findall(text) if not re.match(r"https?:|#|mailto:", link)]
    assert [link for link in local if not (document.parent / link).exists()] == []


@each_document
def test_named_files_exist(document: Path) -> None:
    named = {path for line in code_of(document) for path in PATH.findall(line) if "out/" not in line}
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@each_document
def test_make_commands_name_targets(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set()
    for line in code_of(document):
        words = words_of(line)
        if words and words[0] == "make":
            named |= {word for word in words[1:] if re.fullmatch(r"[a-z-]+", word) and word[0] != "-"}
    assert named - targets == set()


@each_document
def test_python_commands_exist_and_take_their_options(document: Path) -> None:
    for module, *arguments in module_calls(document):
        assert importlib.util.find_spec(module), f"python -m {module}"
        if module.split(".")[0] not in OURS or "COMMAND" in arguments:
            continue
        # `pipeline` has sub-commands, the other modules are commands by themselves.
        command = (module, arguments[0]) if module == "pipeline" else (module,)
        options = [word.split("=")[0].strip("[]") for word in arguments if word.lstrip("[").startswith("--")]
        text = help_of(*command) if options or module == "pipeline" else ""
        assert [option for option in options if option not in text] == [], " ".join([module, *arguments])


@each_document
def test_file_is_plain_and_its_lines_are_short(document: Path) -> None:
    lines = document.read_text("utf-8").splitlines()
    prose = [line for line in lines if "](http" not in line and not line.startswith(("|", "    "))]
    assert [line for line in prose if len(line) > 125] == []


def test_the_contracts_show_the_tables_as_declared() -> None:
    script = ROOT / "scripts" / "document_tables.py"
    result = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_the_first_screen_of_the_readme_shows_the_two_commands() -> None:
    screen = (ROOT / "README.md").read_text("utf-8").splitlines()[:40]
    assert any(line.startswith("make captions explanations") for line in screen)
    assert any(line.startswith("make test") for line in screen)
