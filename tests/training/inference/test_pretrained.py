from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.training.data.building import photo
from tests.training.engine.running import run_config
from tests.training.inference.building import export, write_run
from tests.training.towers import tiny_towers
from training.config.sections import Config
from training.engine.evaluating import evaluate_checkpoint
from training.errors import DataError, TrainingError, UsageError
from training.inference import Detector, pretrained, save_pretrained
from training.inference.provenance import objective, towers_licence
from training.model import build_model

TEXT = "Person 3 smiles at the 4 gate in Lima"
FILES = {
    "README.md",
    "config.json",
    "model.safetensors",
    "towers/open_clip_config.json",
    "towers/tokenizer.json",
    "towers/tokenizer_config.json",
}


@pytest.fixture(scope="module")
def exported(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pretrained(run_dir, tmp_path_factory.mktemp("export") / "model")


def files_in(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_an_export_says_what_its_checkpoint_says(run_dir: Path, exported: Path) -> None:
    picture = photo(50, 30)
    assert Detector.from_pretrained(exported, "cpu")(picture, TEXT) == Detector.from_pretrained(
        run_dir, "cpu"
    )(picture, TEXT)


def test_an_export_holds_only_what_inference_needs(exported: Path) -> None:
    assert files_in(exported) == FILES
    names = load_file(exported / "model.safetensors").keys()
    assert not any("momentum" in name or "queue" in name or "exp_avg" in name for name in names)


def test_an_export_is_readable_by_others_and_names_no_folder_of_this_machine(
    exported: Path, run_dir: Path
) -> None:
    for name in FILES:
        assert (exported / name).stat().st_mode & 0o044 == 0o044, name
    for name in FILES - {"model.safetensors"}:
        content = (exported / name).read_text()
        assert str(run_dir.parent) not in content and "/tmp" not in content, name


def test_an_export_opens_elsewhere_without_the_towers_it_was_trained_from(
    small_world: Path, tmp_path: Path
) -> None:
    towers = tiny_towers(tmp_path / "here" / "towers")
    run = write_run(tmp_path / "here" / "run", run_config(towers, small_world))
    before = export(run, tmp_path / "here" / "model")(photo(50, 30), TEXT)
    (tmp_path / "here" / "model").rename(tmp_path / "there")
    shutil.rmtree(tmp_path / "here")
    assert Detector.from_pretrained(tmp_path / "there", "cpu")(photo(50, 30), TEXT) == before


def test_the_head_that_reads_explanations_is_left_out(towers: str, small_world: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", run_config(towers, small_world, loss={"lma": {"ied": 0.1}}))
    detector = export(run, tmp_path / "model")
    stored = load_file(run / "checkpoints" / "step-00000003" / "model.safetensors")
    left_out = stored.keys() - load_file(tmp_path / "model" / "model.safetensors").keys()
    assert left_out and all(name.startswith("explanation_head.") for name in left_out)
    assert detector(photo(50, 30), TEXT) == Detector.from_pretrained(run, "cpu")(photo(50, 30), TEXT)


def test_guided_attention_survives_the_export(towers: str, small_world: Path, tmp_path: Path) -> None:
    config = run_config(towers, small_world, loss={"mgca": {"mode": "bias", "beta": 9.0}})
    run = write_run(tmp_path / "run", config)
    detector = export(run, tmp_path / "model")
    assert detector.model.guided and detector.model.beta == 9.0
    assert detector(photo(50, 30), TEXT) == Detector.from_pretrained(run, "cpu")(photo(50, 30), TEXT)


def test_towers_of_a_named_model_keep_the_activation_of_their_weights(
    small_world: Path, tmp_path: Path
) -> None:
    config = run_config("ViT-S-32-alt", small_world, model={"image_size": 64, "pretrained": "openai"})
    source = pretrained.Source(tmp_path, config, pretrained.open_source.__globals__["Thresholds"](), False)
    pretrained._write_towers(source, tmp_path)
    described = json.loads((tmp_path / "open_clip_config.json").read_text())
    assert described["model_cfg"]["quick_gelu"] is True
    written = config.model_copy(
        update={
            "model": config.model.model_copy(update={"towers": f"local-dir:{tmp_path}", "pretrained": None})
        }
    )
    torch.manual_seed(0)
    mine = build_model(config, weights=False).eval()
    theirs = build_model(written, weights=False).eval()
    theirs.load_state_dict(mine.state_dict())
    image, ids = torch.randn(1, 3, 64, 64), torch.tensor([[1, 5, 9, 3]])
    with torch.no_grad():
        assert torch.equal(mine(image, ids).binary, theirs(image, ids).binary)


def test_the_card_is_filled_from_the_run(run_dir: Path, small_world: Path, tmp_path: Path) -> None:
    run = shutil.copytree(run_dir, tmp_path / "run")
    evaluate_checkpoint(run, small_world, "val", run / "val", draws=0)
    (run / "log.jsonl").write_text('{"step": 3, "time": 1700000000.5}\n{"step": 4, "time": 1800000000}\n{"st')
    card = (save_pretrained(run, tmp_path / "model") / "README.md").read_text()
    assert "| trained | 2023-11-14, step 3 |" in card
    assert "| train | 21 |" in card and "| val | 8 |" in card
    assert "| AUC | 75.00 |" in card
    metrics = json.loads((run / "val" / "metrics.json").read_text())
    assert "| split val, 8 rows | |" in card and f"| accuracy | {100 * metrics['acc']:.2f} |" in card
    assert "no licence note" in card and "fusion:" in card
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "other" and "dgm4" in front["tags"] and front["library_name"]
    assert re.search(r"\n{4,}", card) is None
    assert "{{" not in card and "None" not in card


def test_the_card_says_what_was_trained(
    run_dir: Path, towers: str, small_world: Path, tmp_path: Path
) -> None:
    off = {"lma": {"text": "none", "ied": 0.0}, "mgca": {"mode": "none"}, "pmm": {"mode": "none"}}
    run = write_run(tmp_path / "run", run_config(towers, small_world, loss=off))
    card = (save_pretrained(run, tmp_path / "baseline") / "README.md").read_text()
    assert (
        "the baseline objective L_DGM alone" in card and "ASAP" not in card.partition("## Configuration")[0]
    )
    full = objective(Config().loss)
    assert "LMA over captions and explanations, MGCA (distill) and PMM (infonce, hard negatives)" in full
    assert "all modules of ASAP" in full
    part = Config.model_validate({"loss": {"mgca": {"mode": "none"}, "pmm": {"mode": "none"}}})
    assert "LMA over captions and explanations: a part of ASAP" in objective(part.loss)


def test_the_licence_is_that_of_the_towers(root: Path, tmp_path: Path) -> None:
    demo = towers_licence(f"local-dir:{root / 'demo' / 'models' / 'clip'}", None)
    assert demo.tag == "apache-2.0" and "Apache-2.0" in demo.text
    assert towers_licence("ViT-B-16", "openai").tag == "mit"
    assert towers_licence(f"local-dir:{tmp_path}", None).tag == "other"
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# Towers\n")
    assert towers_licence(f"local-dir:{tmp_path}", None).tag == "cc-by-4.0"
    (tmp_path / "LICENSE").write_text("MIT License\n\nPermission is hereby granted, free of charge\n")
    found = towers_licence(f"local-dir:{tmp_path}", None)
    assert found.tag == "mit" and "MIT License (file LICENSE" in found.text


def test_an_export_can_be_exported_again(exported: Path, tmp_path: Path) -> None:
    again = save_pretrained(exported, tmp_path / "again")
    for name in FILES:
        assert (again / name).read_bytes() == (exported / name).read_bytes(), name


def test_a_folder_that_holds_something_is_not_written_over(
    exported: Path, run_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds something else than an export"):
        save_pretrained(run_dir, tmp_path, replace=True)
    copy = shutil.copytree(exported, tmp_path / "copy")
    with pytest.raises(UsageError, match="add --replace"):
        save_pretrained(run_dir, copy)
    (copy / "stale").touch()
    save_pretrained(run_dir, copy, replace=True)
    assert files_in(copy) == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "note.txt"]


def test_nothing_is_seen_of_an_export_that_failed(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pretrained, "fsync_file", full)
    with pytest.raises(TrainingError, match="could not be written: .*No space left"):
        save_pretrained(run_dir, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_damage_is_named(exported: Path, tmp_path: Path) -> None:
    def changed(name: str, change: dict) -> Path:
        folder = shutil.copytree(exported, tmp_path / name)
        tree = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(tree | change))
        return folder

    with pytest.raises(DataError, match="format version 99"):
        Detector.from_pretrained(changed("newer", {"format_version": 99}))
    with pytest.raises(DataError, match="not written by training/export.py"):
        Detector.from_pretrained(changed("other", {"format": "something"}))
    with pytest.raises(DataError, match="is damaged"):
        Detector.from_pretrained(changed("damaged", {"thresholds": {}}))
    with pytest.raises(DataError, match="has changed since it was written"):
        Detector.from_pretrained(changed("weights", {"weights_sha256": "0" * 64}))
    tree = json.loads((exported / "config.json").read_text())
    with pytest.raises(DataError, match=r"image_size is 33, no multiple of a patch's 8 pixels"):
        Detector.from_pretrained(changed("odd", {"model": tree["model"] | {"image_size": 33}}))
    (changed("tokens", {}) / "towers" / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="towers: the tokenizer's files are damaged"):
        Detector.from_pretrained(tmp_path / "tokens")
    (changed("without", {}) / "model.safetensors").unlink()
    with pytest.raises(DataError, match="model.safetensors is missing"):
        Detector.from_pretrained(tmp_path / "without")
