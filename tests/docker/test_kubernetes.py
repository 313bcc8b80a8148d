"""The manifests, and the job that Prefect's worker makes of our template, against Kubernetes' own schemas."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_asyncio.client import ApiClient, Configuration
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect_kubernetes.worker import KubernetesWorker, KubernetesWorkerJobConfiguration

FOLDER = Path(__file__).resolve().parents[2] / "docker/kubernetes"
TEMPLATE = json.loads((FOLDER / "base-job-template.json").read_text())
MANIFESTS = [
    pytest.param(manifest, id=f"{path.name}-{manifest['kind']}")
    for path in sorted(FOLDER.glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text())
]
VERSIONS = ["1.31.0", "1.37.0"]
AUTH = "admin:77b1-of-this-test"
SECRET = {"secretKeyRef": {"name": "dgm4-asap-api", "key": "auth-string"}}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", MANIFESTS)
def test_a_manifest_is_valid(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_an_invalid_manifest_is_refused() -> None:
    manifest = yaml.safe_load((FOLDER / "worker.yaml").read_text())
    manifest["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


def pods() -> list[dict[str, Any]]:
    return [
        param.values[0]["spec"]["template"]["spec"]
        for param in MANIFESTS
        if param.values[0]["kind"] in ("Deployment", "Job")
    ]


def test_no_pod_runs_as_root_and_no_secret_stands_in_a_manifest(as_in_the_deployment: None) -> None:
    assert len(pods()) == 2
    for pod in [*pods(), rendered({})["spec"]["template"]["spec"]]:
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 10001
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            variables = {entry["name"]: entry for entry in container["env"]}
            assert variables["PREFECT_API_AUTH_STRING"]["valueFrom"] == SECRET
    for path in FOLDER.iterdir():
        for manifest in yaml.safe_load_all(path.read_text()):
            if manifest.get("kind") == "Secret":
                assert set(manifest["stringData"].values()) == {""}


def test_the_template_has_all_that_prefects_own_has() -> None:
    own = KubernetesWorker.get_default_base_job_template()
    assert set(own["job_configuration"]) <= set(TEMPLATE["job_configuration"])
    assert set(own["variables"]["properties"]) <= set(TEMPLATE["variables"]["properties"])
    variables = set(TEMPLATE["variables"]["properties"])
    used = {word for word in variables if f'"{{{{ {word} }}}}"' in json.dumps(TEMPLATE["job_configuration"])}
    assert variables - used == set()


def test_the_names_in_the_template_are_those_of_the_manifests() -> None:
    names = {(param.values[0]["kind"], param.values[0]["metadata"]["name"]) for param in MANIFESTS}
    defaults = {name: field.get("default") for name, field in TEMPLATE["variables"]["properties"].items()}
    assert ("PersistentVolumeClaim", defaults["data_claim"]) in names
    assert ("Secret", defaults["api_secret"]) in names
    assert ("ServiceAccount", defaults["service_account_name"]) in names
    assert ("Namespace", defaults["namespace"]) in names


def rendered(job_variables: dict[str, Any]) -> dict[str, Any]:
    """The manifest that a worker sends to the cluster's API for one run of a deployment."""
    sent: list[dict[str, Any]] = []

    class Api(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sent.append(json.loads(body))
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    async def create(url: str) -> None:
        configuration = await KubernetesWorkerJobConfiguration.from_template_and_values(
            TEMPLATE, job_variables
        )
        configuration.prepare_for_flow_run(
            FlowRun(flow_id="0192d3a0-0000-7000-8000-000000000000", name="captions v-1")
        )
        worker = KubernetesWorker(work_pool_name="kubernetes")
        async with ApiClient(Configuration(host=url)) as client:
            await worker._create_job(configuration, client)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with temporary_settings(
            {PREFECT_API_URL: "https://prefect.example/api", PREFECT_API_AUTH_STRING: AUTH}
        ):
            asyncio.run(create(f"http://127.0.0.1:{server.server_port}"))
    finally:
        server.shutdown()
        server.server_close()
    return sent[0]


@pytest.fixture
def as_in_the_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's settings, as worker.yaml gives them."""
    for entry in pods()[1]["containers"][0]["env"] + pods()[0]["containers"][0]["env"]:
        if entry["name"].startswith("PREFECT_INTEGRATIONS"):
            monkeypatch.setenv(entry["name"], entry["value"])


@pytest.mark.parametrize("version", VERSIONS)
def test_the_job_of_a_run_is_valid_and_has_what_a_run_needs(as_in_the_deployment: None, version: str) -> None:
    job = rendered({"gpus": 2, "image": "registry.example/generate:2", "finished_job_ttl": 60})
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["image"] == "registry.example/generate:2"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert pod["terminationGracePeriodSeconds"] >= 20
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "dgm4-asap-data"}} in pod["volumes"]
    assert {"name": "data", "mountPath": "/data"} in container["volumeMounts"]
    assert AUTH not in json.dumps(job)
    variables = {entry["name"]: entry for entry in container["env"]}
    assert variables["PREFECT_API_AUTH_STRING"]["valueFrom"] == SECRET
    assert variables["PREFECT_API_URL"]["value"] == "https://prefect.example/api"
    # Prefect wants these two in the pod, where Kubernetes knows them not and drops them.
    assert (pod.pop("parallelism"), pod.pop("completions")) == (1, 1)
    kubernetes_validate.validate(job, version, strict=True)


def test_a_run_on_the_cpu_asks_for_no_gpu() -> None:
    job = rendered({"gpus": 0})
    assert job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 0
