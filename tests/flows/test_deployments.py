"""``prefect.yaml`` and the forms that Prefect makes of the flows' parameters."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from flows.captions import captions
from flows.explanations import explanations
from flows.fan_out import fan_out
from flows.refresh import refresh
from flows.serve import DEPLOYMENTS
from flows.serve import deployments as deployments_to_run

FLOWS = {"captions": captions, "explanations": explanations, "refresh": refresh}


def entries() -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in yaml.safe_load(DEPLOYMENTS.read_text())["deployments"]}


def test_each_flow_has_a_deployment_whose_schedule_is_off(root: Path) -> None:
    found = entries()
    assert set(found) == set(FLOWS)
    for name, entry in found.items():
        flow = load_flow_from_entrypoint(str(root / entry["entrypoint"]))
        assert flow.name == name
        assert [schedule["active"] for schedule in entry["schedules"]] == [False]
        assert entry["concurrency_limit"]["limit"] == 1 and entry["tags"]
        flow.validate_parameters(entry["parameters"])
        assert (root / entry["parameters"]["config"]).is_file()
    assert [name for name, _ in deployments_to_run()] == [f"{name}/{name}" for name in FLOWS]


def test_prefect_yaml_names_no_folder_of_a_machine() -> None:
    text = DEPLOYMENTS.read_text()
    assert "directory:" not in text
    for entry in entries().values():
        assert not any(str(value).startswith(("/", "~")) for value in entry["parameters"].values())


@pytest.mark.parametrize("name", [*FLOWS, "fan-out"])
def test_every_parameter_is_typed_and_described_in_the_form(name: str) -> None:
    flow = {**FLOWS, "fan-out": fan_out}[name]
    fields = parameter_schema(flow).properties
    assert list(fields) == list(inspect.signature(flow.fn).parameters)
    for field, schema in fields.items():
        assert schema.get("description"), f"{name}: {field} has no description"
        assert "type" in schema or "anyOf" in schema
