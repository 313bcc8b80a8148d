"""The checkout as `make setup` installs it: importable from anywhere, with its entry points."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

PACKAGES = ["schemas", "pipeline", "flows", "training", "demo", "benchmarks"]

LOOK = f"""
import importlib.metadata, importlib.util, json
points = importlib.metadata.entry_points(group="vllm.general_plugins")
print(json.dumps({{
    "origins": [importlib.util.find_spec(name).submodule_search_locations[0] for name in {PACKAGES}],
    "plugins": {{point.name: point.value for point in points}},
}}))
"""


def test_packages_and_entry_points_are_found_from_any_folder(root: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", LOOK], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["origins"] == [str(root / name) for name in PACKAGES]
    assert seen["plugins"].get("instructblip") == "pipeline.engines.vllm_instructblip:register"


def test_a_new_package_is_seen_without_another_setup(root: Path) -> None:
    """A path file names the checkout itself, not the packages of the day it was written."""
    files = list(Path(sysconfig.get_path("purelib")).glob("*dgm4_asap*.pth"))
    assert [file.read_text().strip() for file in files] == [str(root)]
