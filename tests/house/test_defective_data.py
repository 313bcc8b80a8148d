"""The quickstart on a folder with every known defect: it finishes, and each defect is in quarantine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from schemas import open_table
from schemas.vocabulary import QUARANTINE_REASONS
from tests.pipeline.ingest.defects import write_defective_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_every_planted_defect_is_set_aside_under_its_code_and_the_rest_gets_its_texts(
    root: Path, tmp_path: Path
) -> None:
    planted = write_defective_folder(tmp_path / "DGM4")
    out = tmp_path / "out"
    command = ["make", "captions", "explanations", f"DATA={planted.data}", f"OUT={out}"]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=500)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]

    rows = open_table(out, "quarantine").to_polars()
    found = {(Path(row["source_file"]).name, row["source_row"]): row["reason"] for row in rows.to_dicts()}
    assert found == planted.expected
    assert set(found.values()) == set(QUARANTINE_REASONS), "a code is planted nowhere"
    assert all(json.loads(row["raw"]) is not Ellipsis and row["message"] for row in rows.to_dicts())

    samples = open_table(out, "samples").to_polars()
    assert len(samples) + planted.duplicates + len(rows) == planted.rows
    assert open_table(out, "explanations").num_rows == len(samples)
    assert open_table(out, "captions").num_rows == samples["image_key"].n_unique()
