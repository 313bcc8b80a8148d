from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from training.config.sections import ProfileConfig
from training.engine.profiler import Profiler


def run(config: ProfileConfig, folder: Path, is_main: bool = True) -> None:
    with Profiler(config, folder, is_main) as profiler:
        for _ in range(6):
            torch.ones(8, 8) @ torch.ones(8, 8)
            profiler.step()


@pytest.mark.filterwarnings("ignore:Profiler won.t be using warmup")
@pytest.mark.parametrize(("start", "steps"), [(0, 2), (1, 2), (3, 1)])
def test_only_the_chosen_steps_are_recorded(tmp_path: Path, start: int, steps: int) -> None:
    run(ProfileConfig(enabled=True, start=start, steps=steps), tmp_path)
    (file,) = (tmp_path / "profile").iterdir()
    assert file.name == f"steps-{start}-{start + steps}.pt.trace.json"
    events = [event.get("name") for event in json.loads(file.read_text())["traceEvents"]]
    assert events.count("aten::mm") == steps


def test_nothing_is_written_unless_enabled_and_on_rank_0(tmp_path: Path) -> None:
    run(ProfileConfig(), tmp_path)
    run(ProfileConfig(enabled=True, start=0), tmp_path, is_main=False)
    assert not list(tmp_path.iterdir())
