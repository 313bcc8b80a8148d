from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from training.config import Config, changed_keys, dump_config, load_config
from training.config.sections import TEMPERATURES
from training.errors import UsageError

TEXT = """\
name: small
data:
  out: out/tables
  train_splits: [train, extra]
model:
  towers: local-dir:demo/models/clip
  fusion:
    width: 64
    heads: 4
optim:
  lr_new: 3e-4
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "run.yaml").write_text(TEXT)
    return tmp_path


def load(project: Path, *overrides: str) -> Config:
    return load_config(project / "configs" / "run.yaml", overrides)


def refusal(project: Path, text: str, *overrides: str) -> str:
    (project / "configs" / "run.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        load(project, *overrides)
    return str(caught.value)


def dotted_keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from dotted_keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_the_keys_are_those_of_the_list() -> None:
    listed = (Path(__file__).parent / "keys.txt").read_text().split()
    assert list(dotted_keys(Config)) == listed, "a new or lost key is a change for users: edit keys.txt too"


def test_values_and_defaults(project: Path) -> None:
    config = load(project)
    assert (config.name, config.model.fusion.width, config.optim.lr_new) == ("small", 64, 3e-4)
    assert config.data.train_splits == ("train", "extra")
    assert config.train == Config().train


def test_an_empty_file_is_the_defaults(project: Path) -> None:
    (project / "configs" / "run.yaml").write_text("# nothing\n")
    assert load(project) == Config()


def test_relative_paths_start_at_the_project_root(project: Path) -> None:
    config = load(
        project, "data.image_root=images", "data.rows_cache=/abs/rows", "model.pretrained=w/clip.pt"
    )
    assert config.data.out == project / "out" / "tables"
    assert config.data.image_root == project / "images"
    assert config.data.rows_cache == Path("/abs/rows")
    assert config.data.image_cache is None
    assert config.model.towers == f"local-dir:{project}/demo/models/clip"
    assert config.model.pretrained == f"{project}/w/clip.pt"


def test_a_file_in_a_folder_below_configs_has_the_same_root(project: Path) -> None:
    (project / "configs" / "training").mkdir()
    (project / "configs" / "training" / "a.yaml").write_text(TEXT)
    assert load_config(project / "configs" / "training" / "a.yaml") == load(project)


def test_names_of_towers_and_tags_are_no_paths(project: Path) -> None:
    config = load(project, "model.towers=ViT-B-16", "model.pretrained=openai")
    assert (config.model.towers, config.model.pretrained) == ("ViT-B-16", "openai")


def test_overrides_are_yaml_and_applied_in_order(project: Path) -> None:
    config = load(
        project, "train.batch_size=8", "train.batch_size=16", "train.trackers=[]", "optim.clip_norm=null"
    )
    assert (config.train.batch_size, config.train.trackers, config.optim.clip_norm) == (16, (), None)


def test_a_dumped_configuration_loads_to_an_equal_one(project: Path) -> None:
    config = load(project, "train.seed=3", "data.image_cache=cache")
    (project / "resolved.yaml").write_text(dump_config(config))
    assert load_config(project / "resolved.yaml") == config


def test_extends_merges_sections_and_replaces_lists(project: Path) -> None:
    child = project / "configs" / "child.yaml"
    child.write_text("extends: run.yaml\ndata: {train_splits: [all]}\nmodel: {fusion: {heads: 8}}\n")
    config = load_config(child)
    assert config.data.train_splits == ("all",)
    assert (config.model.fusion.width, config.model.fusion.heads) == (64, 8)
    assert config.data.out == project / "out" / "tables"


def test_each_file_anchors_its_own_paths(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "mine.yaml").write_text(f"extends: {project}/configs/run.yaml\ndata: {{image_root: img}}\n")
    config = load_config(elsewhere / "mine.yaml")
    assert config.data.image_root == elsewhere / "img"
    assert config.data.out == project / "out" / "tables"


def test_a_circle_of_files_is_refused_with_its_members(project: Path) -> None:
    (project / "configs" / "b.yaml").write_text("extends: run.yaml\n")
    message = refusal(project, "extends: b.yaml\n")
    assert "circle" in message and message.count("run.yaml") == 2 and "b.yaml" in message


def test_a_missing_extended_file_is_named_with_the_one_that_wants_it(project: Path) -> None:
    message = refusal(project, "extends: bse.yaml\n")
    assert "bse.yaml, which" in message and "run.yaml extends" in message and "has run.yaml" in message


def test_a_fault_of_an_extended_file_is_placed_there(project: Path) -> None:
    (project / "configs" / "base.yaml").write_text("train:\n  epochs: 0\n")
    message = refusal(project, "extends: base.yaml\nname: x\n")
    assert "train.epochs" in message and "base.yaml, line 2" in message and "(got 0)" in message


@pytest.mark.parametrize(
    ("text", "overrides", "parts"),
    [
        ("optim:\n  lr_nw: 1\n", (), ["optim.lr_nw", "line 2", "got 1", "did you mean 'lr_new'?"]),
        ("zzz: 1\n", (), ["zzz", "line 1", "known keys: name, data, model"]),
        ("train:\n  precision: half\n", (), ["train.precision", "line 2", "'half'", "'bfloat16'"]),
        ("train: {trackers: [tensorbord]}\n", (), ["train.trackers.0", "line 1", "'tensorbord'"]),
        ("model:\n  fusion:\n    width: 10\n    heads: 3\n", (), ["model.fusion (", "line 2", "multiple of"]),
        ("name: a\nname: b\n", (), ["line 2", "name is set twice", "line 1"]),
        ("name: [\n", (), ["is not YAML", "line 2"]),
        ("- a\n", (), ["must hold the sections", "['a']"]),
        ("extends: [a.yaml]\n", (), ["line 1", "must name one file"]),
        ("train: {epochs: 2}\n", ("train.epochs=0",), ["train.epochs (--set train.epochs=0)", "(got 0)"]),
        ("", ("train.epochs",), ["--set 'train.epochs' is not of the form a.b=value"]),
        ("name: a\n", ("name.b=1",), ["name holds 'a', not a section"]),
        ("", ("name=[",), ["the value is not YAML"]),
        ("loss: {lma: {ied: 1, text: none}}\n", (), ["loss.lma.ied needs explanations"]),
        ("train: {lr_new: 1}\n", (), ["train.lr_new", "did you mean 'optim.lr_new'?"]),
        ("batch_size: 8\n", (), ["batch_size (", "did you mean 'train.batch_size'?"]),
        ("train: {lr_nw: 1}\n", (), ["did you mean 'optim.lr_new'?"]),
        (
            "model: {temperature: 1}\n",
            (),
            ["did you mean 'contrast.temperature' or 'loss.pmm.temperature'?"],
        ),
        ("optim: {betas: [0.9, 1.0]}\n", (), ["optim.betas", "each beta", "below 1"]),
        ("optim: {betas: [-0.1, 0.9]}\n", (), ["optim.betas", "at least 0"]),
        ("optim: {lr_new: .inf}\n", (), ["optim.lr_new", "finite number"]),
        ("optim: {lr_towers: .nan}\n", (), ["optim.lr_towers", "finite number"]),
        ("train: {epochs: true}\n", (), ["train.epochs", "true and false are no value", "(got True)"]),
        ("loss: {mgca: {mode: off}}\n", (), ["loss.mgca.mode", "needs quotes"]),
        ("contrast: {temperature: 0.7}\n", (), ["contrast (", "temperature 0.7 is outside 0.001 to 0.5"]),
        ("loss: {lma: {queue: true}}\ncontrast: {queue_size: 0}\n", (), ["contrast.queue_size is 0"]),
        (
            "loss: {mgca: {mode: none, guidance: predicted}}\n",
            (),
            ["loss.mgca (", "no effect with mode none"],
        ),
        (
            "loss:\n  dgm: {mac: 0, bic: 0, mlc: 0, box_l1: 0, box_giou: 0, tmg: 0}\n"
            "  lma: {text: none}\n  mgca: {weight: 0}\n  pmm: {mode: none}\n",
            (),
            ["loss (", "nothing would be trained"],
        ),
    ],
)
def test_faults_are_named(project: Path, text: str, overrides: tuple[str, ...], parts: list[str]) -> None:
    message = refusal(project, text, *overrides)
    assert [part for part in parts if part not in message] == [], message


def test_the_temperature_starts_where_the_model_keeps_it() -> None:
    from training.model.asap import TEMPERATURES as OF_THE_MODEL

    assert TEMPERATURES == OF_THE_MODEL


def test_one_loss_of_any_kind_is_enough(project: Path) -> None:
    none = [f"loss.dgm.{name}=0" for name in ("mac", "bic", "mlc", "box_l1", "box_giou", "tmg")]
    none += ["loss.lma.text=none", "loss.mgca.mode=none"]
    assert load(project, *none).loss.pmm.weight > 0


def test_a_missing_file_names_its_neighbours(project: Path) -> None:
    with pytest.raises(UsageError, match=r"rnu\.yaml does not exist; .*configs/ has run\.yaml"):
        load_config(project / "configs" / "rnu.yaml")


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("train.seed=1", ["train.seed: 0 -> 1"]),
        ("loss.pmm.hnp=false", ["loss.pmm.hnp: True -> False"]),
        ("data.workers=0", []),
        ("train.profile.enabled=true", []),
        ("data.out=elsewhere", []),
        ("data.image_cache=/cache", ["data.image_cache: None -> '/cache'"]),
    ],
)
def test_only_settings_that_change_results_count_as_changed(
    project: Path, override: str, changed: list[str]
) -> None:
    stored: dict[str, Any] = load(project).model_dump(mode="json")
    assert changed_keys(stored, load(project, override)) == changed
