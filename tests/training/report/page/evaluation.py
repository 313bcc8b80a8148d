"""A saved evaluation of a model that was hardly trained, over texts that look like markup."""

from __future__ import annotations

from pathlib import Path

from tests.training.data.building import write_captions, write_explanations, write_rows, write_world
from tests.training.engine.running import open_loop, run_config
from training.engine.evaluating import evaluate_checkpoint

NASTY = (
    "<script>window.hacked=1</script> smiles",
    '"><img src=x onerror=window.hacked=2> frowns {{ 7 * 7 }}',
    "</style><b>bold</b> &amp; 'quoted' \x00\x07 text",
)
TEST_ROWS = 27


def trained(towers: str, folder: Path) -> tuple[Path, Path]:
    """Train for two steps; return the tables and the run. 27 rows are of split test."""
    out, run = folder / "tables", folder / "run"
    rows = write_world(out, 21 + TEST_ROWS)
    for number, row in enumerate(rows):
        row["split"] = "train" if number < 21 else "test"
        row["text"] = f"{NASTY[number % len(NASTY)]} in {number}"
        row["words"] = row["text"].split()
    write_rows(out, rows)
    write_captions(out, rows)
    write_explanations(out, rows)
    train = {"max_steps": 2, "eval_every": 100}
    config = run_config(towers, out, data={"val_split": "test", "limit": 10}, train=train)
    open_loop(config, run).train()
    return out, run


def evaluated(towers: str, folder: Path) -> Path:
    """Return the folder of an evaluation with 50 draws."""
    out, run = trained(towers, folder)
    to = folder / "evaluation"
    evaluate_checkpoint(run, out, "test", to, draws=50)
    return to
