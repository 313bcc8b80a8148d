from __future__ import annotations

import shutil

import pytest

from pipeline.config import load_config
from pipeline.retrying import retry_failed
from pipeline.run import generate_table
from tests.builders import write_echo_config, write_samples


def outage(share):
    return [f"models.chat.echo.outage_share={share}", "explanations.max_failed_share=0.5"]


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """Explanations of 40 samples in 4 shards, with failures of which a retry recovered some, and captions."""
    folder = tmp_path_factory.mktemp("whole")
    write_samples(folder / "out", 40, rows_per_shard=20)
    path = write_echo_config(folder)
    generate_table("captions", load_config(path), folder / "out")
    generate_table("explanations", load_config(path, outage(0.4)), folder / "out")
    retry_failed("explanations", load_config(path, outage(0.2)), folder / "out")
    return folder / "out", path


@pytest.fixture
def out(whole, tmp_path):
    """A copy of it that a test may damage."""
    shutil.copytree(whole[0], tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def config(whole):
    """The configuration that made it, with as many failures as in the first attempt."""
    return load_config(whole[1], outage(0.4))


@pytest.fixture
def config_of_retry(whole):
    """The configuration of the retry, with fewer failures."""
    return load_config(whole[1], outage(0.2))
