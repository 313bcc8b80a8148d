"""examples/kubernetes/train.yaml: its fields, what becomes of each exit code, and its command itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.training.engine.running import assert_same_run, run_config, write_split_world
from tests.training.launching import ROOT
from tests.training.machines import CPU, Machines, end, launch, two_machines, wait_until
from training.config import dump_config
from training.engine.checkpoint import checkpoints

SERVICE, JOB = yaml.safe_load_all((ROOT / "examples" / "kubernetes" / "train.yaml").read_text())
POD = JOB["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
VALUES = {each["name"]: each.get("value") for each in CONTAINER["env"]}


@pytest.mark.parametrize("version", ["1.31", "1.37"])
@pytest.mark.parametrize("manifest", [SERVICE, JOB], ids=["service", "job"])
def test_kubernetes_knows_every_field(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_the_check_finds_a_wrong_field() -> None:
    wrong = yaml.safe_load(yaml.safe_dump(JOB))
    wrong["spec"]["podFailurePolicy"]["rules"][0]["onExitCode"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="onExitCode"):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


def fate(code: int, disrupted: bool = False) -> str:
    """Return what the Job does about a pod: the first rule that fits decides."""
    for rule in JOB["spec"]["podFailurePolicy"]["rules"]:
        codes = rule.get("onExitCodes", {"values": []})
        conditions = [each["type"] for each in rule.get("onPodConditions", [])]
        if code in codes["values"] or (disrupted and "DisruptionTarget" in conditions):
            assert codes.get("containerName", "train") == CONTAINER["name"]
            return rule["action"]
    return "Count"


def test_only_what_can_go_on_is_tried_again() -> None:
    assert fate(2) == "FailJob" and fate(2, disrupted=True) == "FailJob"
    assert fate(3) == fate(137, disrupted=True) == fate(1, disrupted=True) == "Ignore"
    assert fate(1) == fate(137) == "Count" and JOB["spec"]["backoffLimit"] > 0
    assert POD["restartPolicy"] == "Never", "podFailurePolicy asks for it"


def test_the_numbers_agree() -> None:
    spec = JOB["spec"]
    assert spec["completionMode"] == "Indexed"
    assert str(spec["completions"]) == str(spec["parallelism"]) == VALUES["NODES"]
    assert str(CONTAINER["resources"]["limits"]["nvidia.com/gpu"]) == VALUES["GPUS"]
    assert POD["terminationGracePeriodSeconds"] > int(VALUES["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"])
    assert (ROOT / VALUES["LAUNCH"]).is_file() and (ROOT / VALUES["CONFIG"]).is_file()
    host, _, domain = VALUES["MASTER_ADDR"].partition(".")
    assert host == f"{JOB['metadata']['name']}-0"
    assert domain == POD["subdomain"] == SERVICE["metadata"]["name"]
    assert SERVICE["spec"]["selector"] == {"job-name": JOB["metadata"]["name"]}
    assert {str(port["port"]) for port in SERVICE["spec"]["ports"]} == {VALUES["MASTER_PORT"]}


def test_the_pod_has_few_rights_and_no_secret_in_it() -> None:
    assert POD["securityContext"]["runAsNonRoot"] is True and POD["securityContext"]["runAsUser"] > 0
    assert CONTAINER["securityContext"]["allowPrivilegeEscalation"] is False
    assert CONTAINER["securityContext"]["capabilities"]["drop"] == ["ALL"]
    for each in CONTAINER["env"]:
        secret = any(word in each["name"] for word in ("KEY", "TOKEN", "PASSWORD", "SECRET"))
        assert secret == ("secretKeyRef" in each.get("valueFrom", {})), each["name"]
    (shm,) = [volume for volume in POD["volumes"] if volume["name"] == "shm"]
    assert shm["emptyDir"]["medium"] == "Memory"
    assert {"name": "shm", "mountPath": "/dev/shm"} in CONTAINER["volumeMounts"]


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with two_machines(port=29612) as found:
        yield found


def start_pod(machines: Machines, index: int, config: Path, run_dir: Path) -> subprocess.Popen[bytes]:
    """Run the container's command with its variables, the cluster's replaced by this machine's."""
    values = {name: value for name, value in VALUES.items() if value is not None and name != "HOME"}
    values |= {"GPUS": "1", "CONFIG": str(config), "DATA": str(config.parent / "out"), "RUN": str(run_dir)}
    values |= {"MASTER_ADDR": machines.address, "MASTER_PORT": str(machines.port)}
    values |= {"JOB_COMPLETION_INDEX": str(index), "GLOO_SOCKET_IFNAME": machines.interface}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with Path(f"{run_dir}-pod-{index}.txt").open("ab") as said:
        return subprocess.Popen(
            [*machines.enter[index], *CONTAINER["command"]],
            cwd=ROOT,
            env=os.environ | values | {"PATH": path},
            stdout=said,
            stderr=said,
        )


def last_step(run_dir: Path) -> int:
    log = run_dir / "log.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return json.loads(lines[-2])["step"] if len(lines) > 1 else 0


def codes(pods: list[subprocess.Popen[bytes]]) -> list[int]:
    try:
        return [pod.wait(300) for pod in pods]
    finally:
        end(pods)


@pytest.mark.cluster
@pytest.mark.slow
def test_a_drained_pod_interrupts_all_and_the_next_pods_go_on(
    machines: Machines, towers: str, tmp_path: Path
) -> None:
    write_split_world(tmp_path / "out")
    config, run_dir, whole = tmp_path / "run.yaml", tmp_path / "run", tmp_path / "whole"
    train = {"epochs": 3, "batch_size": 4, "eval_every": 10, "save_every": 50}
    tiny = run_config(towers, tmp_path / "out", model={"fusion": {"dropout": 0.1}}, train=train)
    config.write_text(dump_config(tiny))
    words = [*CPU, "training/train.py", "--config", str(config), "--to", str(whole)]
    assert launch(words, tmp_path / "whole.txt").wait(300) == 0

    pods = [start_pod(machines, index, config, run_dir) for index in (0, 1)]
    wait_until(lambda: last_step(run_dir) >= 3, pods)
    pods[1].send_signal(signal.SIGTERM)
    assert [fate(code) for code in codes(pods)] == ["Ignore", "Ignore"]
    assert checkpoints(run_dir), "saved within the grace period"

    assert codes([start_pod(machines, index, config, run_dir) for index in (0, 1)]) == [0, 0]
    assert_same_run(run_dir, whole)

    config.write_text(config.read_text().replace("save_every:", "save_evry:"))
    wrong = codes([start_pod(machines, index, config, tmp_path / "wrong") for index in (0, 1)])
    assert [fate(code) for code in wrong] == ["FailJob", "FailJob"]
