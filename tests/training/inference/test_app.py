"""The page of ``make app`` in a real browser."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.training.data.building import photo
from training.app import main
from training.errors import UsageError
from training.inference import Detector
from training.inference.app import judge, read_examples

TEXT = "Person 3 smiles at the 4 gate in Lima"


@pytest.fixture(scope="module")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("uploads")
    return folder


@pytest.fixture(scope="module")
def address(run_dir: Path, small_world: Path, root: Path, uploads: Path) -> Iterator[str]:
    """The page, served by the command on any free port; what visitors gave it must not outlive it."""
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(uploads)}
    command = [sys.executable, "training/app.py", "--checkpoint", str(run_dir), "--port", "0"]
    command += ["--examples", str(small_world), "--split", "val", "--device", "cpu"]
    server = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    first = server.stdout.readline()
    yield first.split()[0] if first else ""
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) in (0, -signal.SIGTERM)
    assert [*uploads.rglob("p.png"), *uploads.rglob("own.png")] == []


def found(browser: Any, selector: str) -> Any:
    return WebDriverWait(browser, 60).until(lambda b: b.find_elements(By.CSS_SELECTOR, selector))[0]


def test_a_visitor_sees_what_the_detector_says(
    browser: Any, address: str, run_dir: Path, tmp_path: Path
) -> None:
    photo(80, 60, 5).save(tmp_path / "p.png")
    verdict = Detector.from_pretrained(run_dir, "cpu")(tmp_path / "p.png", TEXT)
    browser.get(address)
    found(browser, "#picture input[type=file]").send_keys(str(tmp_path / "p.png"))
    found(browser, "#text textarea").send_keys(TEXT)
    found(browser, "#picture img")
    found(browser, "#judge").click()
    told = found(browser, "#verdict .verdict[data-p-fake]")
    assert float(told.get_attribute("data-p-fake")) == pytest.approx(verdict.p_fake, abs=1e-5)
    assert ("Not manipulated" in told.text) is not verdict.is_fake
    assert len(told.find_elements(By.CSS_SELECTOR, ".words > *")) == len(TEXT.split())
    assert len(told.find_elements(By.CSS_SELECTOR, "mark")) == len(verdict.flagged)
    found(browser, "#found img")
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map(entry => entry.name)"
    )
    assert [name for name in loaded if not name.startswith((address, "data:", "blob:"))] == []
    severe = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert severe == []


def test_a_missing_picture_and_an_empty_text_are_explained(
    browser: Any, address: str, tmp_path: Path
) -> None:
    photo(80, 60).save(tmp_path / "p.png")
    browser.get(address)
    found(browser, "#judge").click()
    assert "Give a picture" in found(browser, "#verdict [role=alert]").text
    found(browser, "#picture input[type=file]").send_keys(str(tmp_path / "p.png"))
    found(browser, "#picture img")
    found(browser, "#judge").click()
    WebDriverWait(browser, 60).until(
        lambda b: "the text is empty" in b.find_element(By.CSS_SELECTOR, "#verdict").text
    )


def test_other_hosts_are_forbidden_by_the_page_itself(address: str) -> None:
    import httpx

    policy = httpx.get(address, trust_env=False).headers["content-security-policy"]
    assert policy.startswith("default-src 'self'") and "http" not in policy


def call(address: str, path: str) -> str:
    """Ask the page to judge a file that lies on the server; returns the stream of events."""
    import httpx

    url = f"{address}/gradio_api/call/judge"
    picture = {"path": path, "meta": {"_type": "gradio.FileData"}}
    asked = httpx.post(url, json={"data": [picture, TEXT]}, trust_env=False)
    return httpx.get(f"{url}/{asked.json()['event_id']}", trust_env=False, timeout=60).text


def test_a_file_that_nobody_uploaded_is_not_read(
    address: str, uploads: Path, small_world: Path, tmp_path: Path
) -> None:
    import httpx

    photo(80, 60, 5).save(tmp_path / "secret.png")
    for path in (tmp_path / "secret.png", small_world / "images" / "0.jpg"):
        told = call(address, str(path))
        assert "event: error" in told and "verdict" not in told
        assert not list(uploads.rglob("secret.png"))
        assert httpx.get(f"{address}/gradio_api/file={path}", trust_env=False).status_code in (403, 404)
    files = {"files": ("own.png", (tmp_path / "secret.png").read_bytes())}
    (own,) = httpx.post(f"{address}/gradio_api/upload", files=files, trust_env=False).json()
    assert "data-p-fake" in call(address, own), "what was uploaded is judged"


def test_a_name_that_only_points_here_is_refused(address: str) -> None:
    import httpx

    port = address.rpartition(":")[2]
    for host, code in (("evil.example", 400), (f"evil.example:{port}", 400), (f"localhost:{port}", 200)):
        assert httpx.get(address, headers={"Host": host}, trust_env=False).status_code == code, host


def test_the_server_listens_on_this_machine_only_by_default(address: str) -> None:
    import psutil

    port = int(address.rpartition(":")[2])
    listening = {
        each.laddr.ip
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.laddr.port == port
    }
    assert listening == {"127.0.0.1"}


def test_an_example_is_judged_though_nobody_uploaded_it(browser: Any, address: str) -> None:
    browser.get(address)
    found(browser, ".gallery-item, table tbody tr").click()
    found(browser, "#picture img")
    found(browser, "#judge").click()
    found(browser, "#verdict .verdict[data-p-fake]")


def test_without_gradio_the_remedy_is_told(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["--checkpoint", str(run_dir), "--port", "0", "--device", "cpu"]) == 2
    told = capsys.readouterr().err
    assert "the page needs Gradio" in told and "make setup" in told and "Traceback" not in told


def test_examples_are_one_per_kind_with_their_pictures(small_world: Path, tmp_path: Path) -> None:
    examples = read_examples(small_world, "val")
    assert 1 < len(examples) <= 6 and all(Path(image).is_file() and text for image, text in examples)
    with pytest.raises(UsageError, match="--examples"):
        read_examples(tmp_path)
    with pytest.raises(UsageError, match="no split 'nowhere'"):
        read_examples(small_world, "nowhere")


def test_a_visitor_is_told_no_path_of_the_server(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "p.jpg").write_text("no picture")
    shown, told = judge(Detector.from_pretrained(run_dir, "cpu"), str(tmp_path / "p.jpg"), TEXT)
    assert shown is None and "p.jpg does not decode" in told and str(tmp_path) not in told


def test_a_port_in_use_is_named(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--checkpoint", str(run_dir), "--port", str(port)]) == 2
    assert f"cannot listen on 127.0.0.1, port {port}" in capsys.readouterr().err
