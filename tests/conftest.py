"""What every test needs: no telemetry, no network, few threads, and a browser where there is one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Set before anything imports torch, transformers or Prefect; subprocesses of the tests inherit it.
os.environ.update(
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY="false",
    DO_NOT_TRACK="1",
    VLLM_NO_USAGE_STATS="1",
    RAY_USAGE_STATS_ENABLED="0",
    HF_HUB_DISABLE_TELEMETRY="1",
    GRADIO_ANALYTICS_ENABLED="False",
    SE_AVOID_STATS="true",
    SE_OFFLINE="true",
    HF_HUB_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    OMP_NUM_THREADS="1",
)
# Under `make test` the outer make's flags and variables would reach every make that a test runs.
for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
    os.environ.pop(name, None)

from benchmarks.kills.postgres import REMEDY as POSTGRES_REMEDY  # noqa: E402 - after the environment
from benchmarks.kills.postgres import programs as postgres_programs  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMEDRIVER = shutil.which("chromedriver")
BROWSER_REMEDY = "needs Chromium and its driver: apt-get install chromium chromium-driver"


def pytest_configure(config: pytest.Config) -> None:
    """Give every test process a Prefect home of its own, so that none touches the user's server and runs."""
    home = tempfile.mkdtemp(prefix="prefect-home-")
    os.environ["PREFECT_HOME"] = home
    os.environ.pop("PREFECT_API_URL", None)
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the browser, and skip what this machine cannot run, with the remedy."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)
    browser_missing = not (CHROMIUM and CHROMEDRIVER)
    # CI sets REQUIRE_BROWSER after it has installed Chromium: there a missing browser must fail, not skip.
    if browser_missing and os.environ.get("REQUIRE_BROWSER") != "1":
        for item in items:
            if item.get_closest_marker("browser"):
                item.add_marker(pytest.mark.skip(reason=BROWSER_REMEDY))
    if not postgres_programs() and os.environ.get("REQUIRE_POSTGRES") != "1":
        for item in items:
            if item.get_closest_marker("postgres"):
                item.add_marker(pytest.mark.skip(reason=POSTGRES_REMEDY))
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if gpu_items and not _has_cuda():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say at the end which browser tests were left out: a green run without them is a smaller promise."""
    skipped = terminalreporter.stats.get("skipped", [])
    left_out = sorted({report.nodeid for report in skipped if "browser" in report.keywords})
    if left_out:
        terminalreporter.write_sep("-", "browser tests left out")
        terminalreporter.write_line(f"{len(left_out)} left out; {BROWSER_REMEDY}")
        for nodeid in left_out:
            terminalreporter.write_line(f"  {nodeid}")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium of 1280 x 900 with an empty profile, shared by the tests of one module."""
    if not (CHROMIUM and CHROMEDRIVER):
        pytest.fail(BROWSER_REMEDY)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1280,900",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(flag)
    # Console errors of the page are what most browser tests want to see.
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(executable_path=CHROMEDRIVER))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout root, where commands are run from."""
    return ROOT


def _has_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())
