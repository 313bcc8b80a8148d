"""The make targets: what they list, what they expand to, what they do when there is nothing to do."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TELEMETRY_OFF = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
}


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )


def dry_run(*arguments: str) -> list[list[str]]:
    """The words of each command that make would run, as a shell splits them."""
    return [shlex.split(line) for line in make("-n", *arguments).stdout.splitlines()]


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def commands_with(commands: list[list[str]], word: str) -> list[list[str]]:
    return [command for command in commands if word in command]


def phony_targets(root: Path) -> set[str]:
    return set(re.findall(r"^\.PHONY: (.+)$", (root / "Makefile").read_text(), re.MULTILINE))


def test_help_is_the_default_and_lists_every_target(root: Path) -> None:
    listed = set(re.findall(r"^  ([a-z-]+)  ", make().stdout, re.MULTILINE))
    assert listed == phony_targets(root)


def test_every_module_and_script_that_a_target_calls_exists(root: Path) -> None:
    text = (root / "Makefile").read_text()
    modules = set(re.findall(r"\$\(PYTHON_VENV\) -m ([a-z_.]+)", text))
    assert {"pipeline", "flows.captions", "demo.tiny.train"} <= modules
    assert [module for module in modules if importlib.util.find_spec(module) is None] == []
    called = set(re.findall(r"scripts/[a-z_]+\.(?:sh|py)", text))
    assert [script for script in called if not (root / script).exists()] == []


def test_every_rule_is_phony(root: Path) -> None:
    rules = set(re.findall(r"^([a-z-]+):(?!=)", (root / "Makefile").read_text(), re.MULTILINE))
    assert rules == phony_targets(root)


@pytest.mark.parametrize("variable", ["CONFIG", "DATA", "OUT", "ENGINE"])
def test_help_names_the_variables(variable: str) -> None:
    assert re.search(rf"^  {variable} ", make("help").stdout, re.MULTILINE)


@pytest.mark.parametrize(
    "folder", ["/data/with space", "/data/it's", '/data/"quoted" (1) & more', "relative/ä b"]
)
def test_paths_reach_the_commands_unchanged(folder: str) -> None:
    commands = dry_run("captions", f"DATA={folder}/in", f"OUT={folder}/out", f"CONFIG={folder}/c.yaml")
    (ingest,) = commands_with(commands, "ingest")
    (flow,) = commands_with(commands, "flows.captions")
    assert (option(ingest, "--data"), option(ingest, "--out")) == (f"{folder}/in", f"{folder}/out")
    assert (option(flow, "--config"), option(flow, "--out")) == (f"{folder}/c.yaml", f"{folder}/out")


def test_a_home_folder_is_expanded_where_the_shell_did_not() -> None:
    (ingest,) = commands_with(dry_run("ingest", "DATA=~/DGM4 v1"), "ingest")
    assert option(ingest, "--data") == f"{Path.home()}/DGM4 v1"


@pytest.mark.parametrize("flags", [(), ("-j2",)])
def test_both_tables_share_one_setup_one_ingest_and_one_end(flags: tuple[str, ...]) -> None:
    commands = dry_run(*flags, "captions", "explanations")
    order = [" ".join(command) for command in commands]
    steps = [
        "setup.sh",
        "demo_world.sh",
        "pipeline ingest",
        "flows.captions",
        "flows.explanations",
        "finish.sh",
    ]
    assert [step for line in order for step in steps if step in line] == steps
    assert commands[-1][-2:] == ["captions", "explanations"]


@pytest.mark.parametrize("table", ["captions", "explanations"])
def test_one_table_alone_is_ingested_generated_and_closed(table: str) -> None:
    commands = dry_run(table)
    assert len(commands_with(commands, "ingest")) == 1
    assert len(commands_with(commands, f"flows.{table}")) == 1
    assert commands[-1] == ["scripts/finish.sh", "out/demo", table]


@pytest.mark.parametrize("engine", ["vllm", "transformers", "auto"])
def test_an_engine_reaches_both_jobs_and_not_setup(engine: str) -> None:
    commands = dry_run("captions", "explanations", f"ENGINE={engine}")
    for table in ("captions", "explanations"):
        (flow,) = commands_with(commands, f"flows.{table}")
        assert option(flow, "--engine") == engine
    assert ["ENGINE=", "scripts/setup.sh", "--quiet"] in commands


@pytest.mark.parametrize("build", ["cpu", "gpu", "cdu"])
def test_a_build_reaches_setup_and_not_the_jobs(build: str) -> None:
    commands = dry_run("captions", f"ENGINE={build}")
    (flow,) = commands_with(commands, "flows.captions")
    assert "--engine" not in flow
    assert [f"ENGINE={build}", "scripts/setup.sh", "--quiet"] in commands
    from_environment = make("-n", "setup", ENGINE=build).stdout
    assert shlex.split(from_environment)[0] == f"ENGINE={build}"


def test_the_demo_world_is_drawn_only_without_data() -> None:
    assert commands_with(dry_run("ingest"), "scripts/demo_world.sh")
    assert not commands_with(dry_run("ingest", "DATA=/data/DGM4"), "scripts/demo_world.sh")


def test_another_data_set_does_not_land_in_the_demo_folder() -> None:
    (ingest,) = commands_with(dry_run("ingest", "DATA=/data/DGM4"), "ingest")
    assert option(ingest, "--out") == "out/DGM4-tables"


def test_the_environment_does_not_choose_the_folders() -> None:
    lines = make("-n", "ingest", OUT="/tmp/else", DATA="/tmp/else", CONFIG="/tmp/else").stdout
    assert "/tmp/else" not in lines


@pytest.mark.parametrize(("name", "value"), TELEMETRY_OFF.items())
def test_no_target_reports_usage(root: Path, name: str, value: str) -> None:
    exported = subprocess.run(
        ["make", "-f", "-", "show"],
        input=f"include {root / 'Makefile'}\nshow:\n\t@printenv {name}\n",
        env={key: text for key, text in os.environ.items() if key not in TELEMETRY_OFF},
        capture_output=True,
        text=True,
        check=True,
    )
    assert exported.stdout.strip() == value


def test_setup_does_nothing_the_second_time(root: Path) -> None:
    make("setup")
    stamp = root / ".venv" / ".setup-stamp"
    before = stamp.stat().st_mtime_ns
    started = time.monotonic()
    second = make("setup")
    assert "nothing to do" in second.stdout
    assert stamp.stat().st_mtime_ns == before
    # Unloaded it takes 0.04 s without a driver; with one, nvidia-smi answers in its own time.
    assert time.monotonic() - started < 10
    assert make("-s", "setup", "lint", "-n").returncode == 0
