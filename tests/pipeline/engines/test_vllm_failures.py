"""Real vLLM that is killed, refused what it needs, or left behind by the process that started it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import transformers

from pipeline.config import RunConfig
from pipeline.engines import EngineDead, Request, close_engines, get_engine
from pipeline.errors import UsageError
from pipeline.run import generate_table, prepare
from schemas import open_table
from tests import checkpoints
from tests.builders import write_samples
from tests.pipeline.engines.conftest import by_key
from tests.pipeline.engines.deadly import LITTLE_MEMORY, NO_GUARD, on_path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _closed():
    close_engines()
    yield
    close_engines()


def hosts() -> list[psutil.Process]:
    """The processes that run vLLM for this process, or for none any more."""
    found = []
    for process in psutil.process_iter(["cmdline", "ppid"]):
        if "pipeline.engines.vllm_host" in (process.info["cmdline"] or []) and process.status() != "zombie":
            found.append(process)
    return [process for process in found if process.info["ppid"] in (os.getpid(), 1)]


def gone(pid: int, seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie":
            return True
        time.sleep(0.05)
    return False


def kill_at(engine, places):
    """Return what passes results on and kills vLLM's process by SIGKILL after so many of them."""
    left, killed = list(places), []

    def watch(results):
        for count, result in enumerate(results):
            yield result
            # Answers that were on their way before the death still come; they are not the next life's.
            if left and count >= left[0] and engine.pid not in killed:
                left.pop(0)
                killed.append(engine.pid)
                os.kill(engine.pid, signal.SIGKILL)

    return watch, killed


def test_a_killed_engine_is_started_again_for_its_unfinished_rows_as_often_as_it_gets_on(bench, tmp_path):
    """Killed once, then twice while it writes one shard: no row is lost or blamed."""
    write_samples(tmp_path, 60)
    chat = bench.config(
        "glm-wide",
        engine="vllm",
        dtype="float32",
        generation={"max_new_tokens": 48},
        vllm={"max_num_seqs": 4},
    )
    run = RunConfig.model_validate(
        {
            "captions": {"model": "eye"},
            "explanations": {"model": "chat", "shard_size": 40},
            "models": {"chat": chat, "eye": {"kind": "instructblip", "engine": "echo"}},
        }
    )
    work = prepare("explanations", run, tmp_path)
    samples = work.job.samples_of(work.samples, work.plan.entries(0))
    requests = [work.job.request(sample, tmp_path) for sample in samples]
    expected = by_key(bench.engine("glm-wide", generation={"max_new_tokens": 48}).generate(requests))

    engine = get_engine(chat)
    watch, killed = kill_at(engine, [10])
    found = by_key(watch(engine.generate(requests)))
    assert len(found) == 40 and engine.pid != killed[0] and gone(killed[0])
    assert sum(found[key].text != expected[key].text for key in expected) <= 1

    watch, killed = kill_at(engine, [5, 12])
    engine_generate = engine.generate
    engine.generate = lambda requests: watch(engine_generate(requests))
    summary = generate_table("explanations", run, tmp_path)
    assert len(killed) == 2 and all(gone(pid) for pid in killed)
    assert (summary.written, summary.failed) == (60, 0)
    rows = open_table(tmp_path, "explanations").to_polars()
    texts = dict(zip(rows["sample_id"], rows["explanation"], strict=True))
    assert sum(texts[key] != expected[key].text for key in expected) <= 1
    close_engines()
    assert not hosts()


POISON = "A flag poison299"


@pytest.fixture(scope="module")
def poisoned(bench):
    """A GLM whose tokenizer knows words that the embedding has no rows for, not even as padding."""
    folder = checkpoints.glm(bench.root / "glm-poisoned", head_dim=32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"poison{n}" for n in range(300)])
    tokenizer.save_pretrained(folder)
    return str(folder)


def starts(caplog):
    return sum("starting it again" in message for message in caplog.messages)


def test_a_row_that_kills_vllm_is_found_and_fails_alone(bench, poisoned, monkeypatch, tmp_path, caplog):
    requests = bench.requests("glm-wide", 10)
    expected = by_key(bench.engine("glm-wide").generate(requests))
    requests[7] = dataclasses.replace(requests[7], prompt=POISON)
    on_path(monkeypatch, tmp_path / "path", NO_GUARD)
    with bench.vllm("glm-wide", path=poisoned, vllm={"max_num_seqs": 4}) as engine:
        found = by_key(engine.generate(requests))
        again = by_key(engine.generate(bench.requests("glm-wide", 4)))
    failed = {key: result.failure for key, result in found.items() if result.failure}
    assert failed.keys() == {"key-7"} and len(found) == 10
    assert (failed["key-7"].error_class, failed["key-7"].permanent) == ("engine_error", False)
    assert "died each time it had this row" in failed["key-7"].message
    assert "index out of range" in failed["key-7"].message, failed
    assert sum(found[key].text != expected[key].text for key in found.keys() - failed.keys()) <= 1
    assert not any(result.failure for result in again.values())
    # Two deaths of all rows, one of the group, at most three of its halves, one of the row alone.
    assert 3 <= starts(caplog) <= 7


def test_a_device_with_too_little_memory_gets_fewer_rows_at_once_and_loses_none(
    bench, monkeypatch, tmp_path, caplog
):
    requests = bench.requests("glm-wide", 24)
    expected = by_key(bench.engine("glm-wide").generate(requests))
    on_path(monkeypatch, tmp_path / "path", LITTLE_MEMORY.replace("ROWS", "3"))
    with bench.vllm("glm-wide", vllm={"max_num_seqs": 4, "in_flight": 8}) as engine:
        found = by_key(engine.generate(requests))
    assert not any(result.failure for result in found.values()), found
    assert sum(found[key].text != expected[key].text for key in found) <= 1
    assert "going on with batches of 4" in caplog.text and "going on with batches of 2" in caplog.text
    assert starts(caplog) <= 3


def test_an_engine_closed_by_another_thread_ends_the_call(bench):
    engine = get_engine(bench.config("glm-wide", engine="vllm", generation={"max_new_tokens": 100}))
    results = engine.generate(bench.requests("glm-wide", 8))
    next(results)
    engine.close()
    with pytest.raises(EngineDead, match="closed while it was generating"):
        list(results)
    assert gone(engine.pid) and not hosts()


def test_an_engine_that_cannot_be_started_again_is_dead_and_blames_no_row(bench, tmp_path):
    folder = shutil.copytree(bench.folder("glm-wide"), tmp_path / "model")
    config = bench.config("glm-wide", engine="vllm", path=str(folder), generation={"max_new_tokens": 100})
    engine = get_engine(config)
    results = engine.generate(bench.requests("glm-wide", 8))
    (folder / "model.safetensors").rename(tmp_path / "away")
    os.kill(engine.pid, signal.SIGKILL)
    with pytest.raises(EngineDead, match="could not be started again.*run the same command"):
        list(results)
    assert not hosts()
    (tmp_path / "away").rename(folder / "model.safetensors")
    found = by_key(engine.generate(bench.requests("glm-wide", 2)))
    assert len(found) == 2 and not any(result.failure for result in found.values())


def test_a_cache_that_holds_no_prompt_is_refused_at_the_start(bench):
    small = {"kv_cache_gib": 0.0001, "max_model_len": 256}
    with pytest.raises(UsageError, match=r"attention cache is too small: raise vllm.kv_cache_gib \(0.0001\)"):
        get_engine(bench.config("glm-wide", engine="vllm", vllm=small))
    assert not hosts()


def test_a_model_that_vllm_does_not_know_is_refused_at_the_start(bench, tmp_path):
    folder = shutil.copytree(bench.folder("glm-wide"), tmp_path / "unknown")
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"architectures": ["NobodysForCausalLM"]}))
    with pytest.raises(
        UsageError, match="NobodysForCausalLM.*does not know the model; set engine: transformers"
    ) as e:
        get_engine(bench.config("glm-wide", engine="vllm", path=str(folder)))
    assert len(str(e.value)) < 600 and not hosts()


PARENT = """
import sys
from pipeline.config import ModelConfig
from pipeline.engines.vllm import VllmEngine
from pipeline.engines.vllm_process import HostProcess
start = HostProcess._wait_until_ready
def tell(host):
    print(host.pid, flush=True)
    return start(host)
HostProcess._wait_until_ready = tell
engine = VllmEngine(ModelConfig.model_validate_json(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("how", "when"), [(signal.SIGTERM, "loading"), (signal.SIGKILL, "loading"), ("the end", "serving")]
)
def test_vllm_ends_with_the_process_that_started_it(bench, how, when):
    config = bench.config("glm-wide", engine="vllm").model_dump_json()
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, config],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = int(parent.stdout.readline())
    if when == "serving":
        assert parent.stdout.readline() == "ready\n"
    else:
        time.sleep(2)  # in the middle of importing
    assert psutil.pid_exists(pid)
    if how == "the end":
        parent.stdin.close()
        assert parent.wait(30) == 0
    else:
        parent.send_signal(how)
        assert parent.wait(30) == -how
    assert gone(pid)


def outcomes(results):
    failures = {key: result.failure for key, result in results.items()}
    return {key: failure and (failure.error_class, failure.permanent) for key, failure in failures.items()}


def test_unreadable_images_among_others_fail_alone_and_captions_are_those_of_transformers(bench, tmp_path):
    name = "instructblip-wide"
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "cut.jpg").write_bytes(bench.images[0].read_bytes()[:300])
    good = bench.requests(name, 20)
    bad = [
        Request("gone", "A yellow flag", tmp_path / "gone.jpg"),
        Request("text", "A yellow flag", tmp_path / "text.jpg"),
        Request("cut", "A yellow flag", tmp_path / "cut.jpg"),
        Request("none", "A yellow flag"),
        Request("empty", " ", bench.images[0]),
        dataclasses.replace(good[0], key="long", prompt="harbour bridge " * 400),
    ]
    mixed = [*good[:3], *bad[:4], *good[3:], *bad[4:]]
    expected = by_key(bench.engine(name, decode_threads=2).generate(mixed))
    with bench.vllm(name, decode_threads=2, vllm={"max_num_seqs": 4}) as engine:
        found = by_key(engine.generate(mixed))
    outcome = {
        key: (r.failure and (r.failure.error_class, r.failure.permanent)) for key, r in expected.items()
    }
    assert {
        key: (r.failure and (r.failure.error_class, r.failure.permanent)) for key, r in found.items()
    } == outcome
    assert str(tmp_path / "gone.jpg") in found["gone"].failure.message
    texts = [request.key for request in good]
    assert len({expected[key].text for key in texts}) == 8
    assert sum(found[key] != expected[key] for key in texts) <= 1
