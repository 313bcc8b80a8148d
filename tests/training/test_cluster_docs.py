"""The commands of docs/cluster-training.md and of the launch files: parsed, and run where they can be."""

from __future__ import annotations

import re
import shlex
from argparse import Namespace
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser

from tests.house.test_docs import ROOT
from tests.training.engine.running import run_config, write_split_world
from tests.training.machines import end, launch
from training.config import dump_config
from training.engine.checkpoint import checkpoints
from training.train import parser

GUIDE = ROOT / "docs" / "cluster-training.md"
STARTS = ("accelerate launch ", "python -m training.launch ")
OF_GUIDE = [line.strip() for line in GUIDE.read_text().splitlines() if line.strip().startswith(STARTS)]
OF_FILES = [
    line.removeprefix("# ")
    for file in sorted((ROOT / "configs" / "accelerate").glob("*.yaml"))
    for line in file.read_text().splitlines()
    if line.removeprefix("# ").startswith(STARTS)
]


def read(line: str) -> tuple[Namespace, Namespace]:
    """Return the launcher's and the trainer's arguments of a command."""
    (start,) = [start for start in STARTS if line.startswith(start)]
    mine = launch_command_parser().parse_args(shlex.split(line.removeprefix(start)))
    assert mine.training_script == "training/train.py"
    return mine, parser().parse_args(mine.training_script_args)


@pytest.mark.parametrize("line", OF_GUIDE + OF_FILES)
def test_launchers_and_trainer_take_the_command(line: str) -> None:
    mine, trainers = read(line)
    assert (ROOT / mine.config_file).is_file() and (ROOT / trainers.config).is_file()


def test_the_guide_and_each_launch_file_have_a_command() -> None:
    assert len(OF_GUIDE) >= 4
    assert len(OF_FILES) == len(list((ROOT / "configs" / "accelerate").glob("*.yaml")))


def test_the_guide_s_variables_are_read_by_what_it_names() -> None:
    places = [*(ROOT / "examples").rglob("train.*"), *(ROOT / "training").rglob("*.py")]
    texts = "\n".join(path.read_text() for path in places)
    names = r"\b(?:TRAINING|TRAIN|CONFIG|DATA|RUN|LAUNCH)(?:_[A-Z_]+)?\b"
    ours = set(re.findall(names, GUIDE.read_text()))
    assert {"CONFIG", "DATA", "TRAINING_LOCK_WAIT", "TRAINING_LOST_AFTER", "TRAIN_ARGS"} <= ours
    assert [name for name in sorted(ours) if not re.search(rf"\b{name}\b", texts)] == []


@pytest.mark.cluster
@pytest.mark.slow
def test_the_guide_s_commands_for_two_machines_run_on_one_computer(towers: str, tmp_path: Path) -> None:
    both = [line for line in OF_GUIDE if "--machine_rank" in line]
    assert ["--machine_rank 0" in both[0], "--machine_rank 1" in both[1]] == [True, True]
    write_split_world(tmp_path / "out")
    config = tmp_path / "run.yaml"
    config.write_text(dump_config(run_config(towers, tmp_path / "out", train={"max_steps": 2})))
    here = {
        "--num_processes 16": "--num_processes 2 --main_process_port 29614",
        "HOST0": "127.0.0.1",
        "configs/training/dgm4.yaml": str(config),
        "--data OUT": f"--data {tmp_path / 'out'}",
        "--to RUN": f"--to {tmp_path / 'run'}",
    }
    started = []
    for rank, line in enumerate(both):
        for words, instead in here.items():
            assert words in line
            line = line.replace(words, instead)
        started.append(launch(shlex.split(line.removeprefix(STARTS[1])), tmp_path / f"said-{rank}.txt"))
    try:
        codes = [each.wait(300) for each in started]
        assert codes == [0, 0], (tmp_path / "said-0.txt").read_text()
    finally:
        end(started)
    assert len(list(checkpoints(tmp_path / "run")[-1].glob("rng-rank*"))) == 2
