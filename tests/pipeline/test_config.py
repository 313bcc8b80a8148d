from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pipeline.config import engine_overrides, fingerprint_fields, load_config
from pipeline.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((ROOT / "configs").glob("*.yaml"))

TEXT = """\
captions:
  model: eye
  shard_size: 10
explanations:
  model: mouth
models:
  eye:
    kind: instructblip
    path: models/eye
    generation:
      max_new_tokens: 8
  mouth:
    kind: chat
    path: models/mouth
"""


@pytest.fixture
def project(tmp_path):
    """A project folder with configs/run.yaml and two model folders, whose files are only hashed here."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "run.yaml").write_text(TEXT)
    for name in ("eye", "mouth"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "model.safetensors").write_text(name)
    (tmp_path / "models" / "eye" / "preprocessor_config.json").write_text('{"size": 224}')
    return tmp_path


@pytest.fixture
def load(project):
    return lambda *overrides: load_config(project / "configs" / "run.yaml", overrides)


def refusal(project, text=TEXT, *overrides):
    path = project / "configs" / "run.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_config(path, overrides)
    assert str(path) in str(caught.value) or "--set" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_configuration_is_valid(path):
    sections = yaml.safe_load(path.read_text())
    if "captions" in sections:
        config = load_config(path)
        assert Path(config.model_for("captions").path).is_absolute()


def test_both_generation_configurations_are_shipped():
    assert {"demo", "dgm4"} <= {path.stem for path in SHIPPED}


def test_the_dgm4_presets_are_those_of_the_method():
    models = load_config(ROOT / "configs" / "dgm4.yaml").models
    assert set(models) == {
        "instructblip-vicuna-7b",
        "instructblip-flan-t5-xl",
        "glm-4-9b-chat",
        "glm-4-9b-0414",
        "chatglm3-6b",
    }
    assert models["chatglm3-6b"].engine == "vllm"
    assert {model.engine for name, model in models.items() if name != "chatglm3-6b"} == {"auto"}
    for name, model in models.items():
        assert model.path == str(ROOT / "models" / name) and not model.trust_remote_code


def test_every_field_has_a_description():
    from pipeline.config.models import RunConfig, Section

    def sections(kind):
        yield kind
        for field in kind.model_fields.values():
            for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
                if isinstance(part, type) and issubclass(part, Section):
                    yield from sections(part)

    found = list(sections(RunConfig))
    assert len(set(found)) == 11
    for kind in found:
        for name, field in kind.model_fields.items():
            assert field.description, f"{kind.__name__}.{name}"


def test_defaults_are_filled_in_and_values_kept(load):
    config = load()
    assert (config.captions.shard_size, config.explanations.shard_size) == (10, 1000)
    assert config.captions.prompts == {"caption": "caption-v1"}
    assert config.model_for("captions").generation.max_new_tokens == 8
    assert not config.model_for("explanations").generation.do_sample


def test_relative_paths_start_at_the_folder_that_holds_configs(load, project):
    assert load().models["eye"].path == str(project / "models" / "eye")


def test_a_file_outside_a_configs_folder_is_its_own_root(project):
    other = project / "mine.yaml"
    other.write_text(TEXT)
    assert load_config(other).models["eye"].path == str(project / "models" / "eye")


def test_a_revision_makes_the_path_a_hub_id(load):
    pinned = load("models.eye.path=org/model", "models.eye.revision=abc").models["eye"]
    assert (pinned.path, pinned.revision) == ("org/model", "abc")


def test_overrides_are_yaml_and_applied_in_order(load):
    config = load(
        "models.mouth.batch_size=4",
        "models.mouth.batch_size=2",
        "models.mouth.generation.do_sample=true",
        "models.mouth.generation.temperature=0.5",
        "explanations.prompts.pair=my-pair.txt",
        "captions.prompts={caption: caption-v1}",
    )
    assert config.models["mouth"].batch_size == 2
    assert config.models["mouth"].generation.temperature == 0.5
    assert config.explanations.prompts["pair"].endswith("/my-pair.txt")
    assert config.explanations.prompts["description"] == "description-v1"


@pytest.mark.parametrize("override", ["batch_size", "=3", "a..b=3", ".a=3"])
def test_an_override_of_another_form_is_refused(project, override):
    assert "is not of the form a.b=value" in refusal(project, TEXT, override)


def test_an_override_with_broken_yaml_or_below_a_value_is_refused(project):
    assert "the value is not YAML" in refusal(project, TEXT, "models.eye.device=[cpu")
    assert "shard_size holds 10, not a section" in refusal(project, TEXT, "captions.shard_size.x=1")


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_known_one(project):
    message = refusal(project, TEXT.replace("max_new_tokens", "max_new_token"))
    assert "models.eye.generation.max_new_token (line 11): unknown key" in message
    assert "did you mean 'max_new_tokens'?" in message


def test_an_unknown_key_without_a_near_one_lists_the_known_ones(project):
    message = refusal(project, TEXT, "captions.zzz=1")
    assert "captions.zzz" in message and "known keys: model, prompts, shard_size" in message


def test_several_faults_are_reported_at_once(project):
    message = refusal(project, TEXT.replace("shard_size: 10", "shard_size: none"), "models.eye.kind=image")
    assert "captions.shard_size (line 3)" in message and "got 'none'" in message
    assert "models.eye.kind" in message and "'instructblip' or 'chat'" in message


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["captions.model=eyes"], "captions.model is 'eyes', which is not in models; did you mean 'eye'?"),
        (["captions.model=mouth"], "of kind 'chat', but captions needs a model of kind 'instructblip'"),
        (["captions.prompts.capton=x"], "prompts has 'capton'; the uses of this job are caption"),
        (["models.eye.generation.temperature=2"], "temperature has no effect without do_sample: true"),
        (
            ["models.eye.generation.do_sample=true", "models.eye.generation.num_beams=2"],
            "cannot be combined with num_beams",
        ),
        (["models.eye.path=null"], "path is needed by engine: transformers"),
        (["models.eye.revision=' '"], "revision is empty"),
        (["models.eye.batch_size=0"], "greater than or equal to 1"),
        (["captions.max_failed_share=5%"], "captions.max_failed_share"),
        (["models.eye.device=gpu"], "models.eye.device"),
        (["models.a.b={kind: chat}"], "models.a"),
    ],
)
def test_values_that_cannot_work_are_refused(project, overrides, message):
    assert message in refusal(project, TEXT, *overrides)


def test_a_missing_section_is_named_with_what_it_is(project):
    message = refusal(project, TEXT.replace("explanations:\n  model: mouth\n", ""))
    assert "explanations: missing; set it (the explanation job)" in message


def test_yaml_errors_name_the_line(project):
    assert "is not YAML: line 3" in refusal(project, "captions:\n  model: eye\n a: b: c\n")
    assert "sets captions.model twice, in lines 2 and 3" in refusal(
        project, "captions:\n  model: eye\n  model: mouth\n"
    )


@pytest.mark.parametrize("text", ["", "just text", "- a\n- b\n"])
def test_a_file_without_sections_is_refused(project, text):
    assert "must hold the sections captions, explanations, models" in refusal(project, text)


def test_a_missing_file_names_those_that_are_there(project):
    with pytest.raises(UsageError, match=r"other.yaml does not exist; .* has .*run.yaml"):
        load_config(project / "configs" / "other.yaml")


def fields(config, job="captions"):
    return fingerprint_fields(config, job)


def test_the_fingerprint_is_flat_json_and_equal_for_equal_runs(load):
    first = fields(load())
    assert first == fields(load()) == json.loads(json.dumps(first))
    assert all(isinstance(value, str | int | float | bool) for value in first.values())


@pytest.mark.parametrize(
    "override",
    [
        "models.eye.batch_size=3",
        "models.eye.device=cpu",
        "models.eye.decode_threads=2",
        "models.eye.vllm.quantization=fp8",
        "captions.shard_size=3",
        "captions.max_failed_share=0.5",
        "models.eye.generation.seed=7",
        "models.mouth.generation.max_new_tokens=9",
    ],
)
def test_what_does_not_change_texts_is_not_in_the_fingerprint(load, override):
    assert fields(load(override)) == fields(load())


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("models.eye.generation.max_new_tokens=9", "generation.max_new_tokens"),
        ("models.eye.generation.num_beams=2", "generation.num_beams"),
        ("models.eye.dtype=bfloat16", "dtype"),
        ("models.eye.engine=vllm", "engine"),
        ("models.eye.path=models/mouth", "weights"),
        ("captions.prompts.caption=description-v1", "prompt.caption"),
    ],
)
def test_what_changes_texts_is_in_the_fingerprint(load, override, field):
    before, after = fields(load()), fields(load(override))
    assert field in {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_of_vllms_options_only_the_quantisation_changes_texts(load):
    vllm = "models.eye.engine=vllm"
    before = fields(load(vllm))
    same = (
        "tensor_parallel_size=2",
        "gpu_memory_utilization=0.5",
        "kv_cache_gib=2",
        "max_model_len=512",
        "enable_prefix_caching=false",
        "max_num_seqs=8",
        "enforce_eager=true",
        "in_flight=9",
    )
    for option in same:
        assert fields(load(vllm, f"models.eye.vllm.{option}")) == before, option
    assert fields(load(vllm, "models.eye.vllm.quantization=fp8")) == before | {"vllm.quantization": "fp8"}


def test_an_engine_that_is_not_chosen_yet_has_no_fingerprint(load):
    with pytest.raises(ValueError, match="engine of captions is not chosen"):
        fields(load("models.eye.engine=auto"))


def test_an_unknown_option_of_vllm_names_the_nearest(project):
    message = refusal(project, TEXT, "models.eye.vllm.tensor_parallel=2")
    assert "unknown key; did you mean 'tensor_parallel_size'?" in message


def test_the_engine_of_the_command_line_replaces_that_of_the_jobs_model(project):
    path = project / "configs" / "run.yaml"
    overrides = engine_overrides(path, ["captions.shard_size=3"], ["captions"], "vllm")
    config = load_config(path, overrides)
    assert config.model_for("captions").engine == "vllm" and config.captions.shard_size == 3
    assert config.model_for("explanations").engine == "transformers"
    both = load_config(path, engine_overrides(path, [], ["captions", "explanations"], "auto"))
    assert {model.engine for model in both.models.values()} == {"auto"}
    assert engine_overrides(path, ["a.b=1"], ["captions"], None) == ["a.b=1"]


def test_the_seed_counts_when_sampling(load):
    sampling = "models.eye.generation.do_sample=true"
    assert fields(load(sampling)) != fields(load(sampling, "models.eye.generation.seed=7"))


def test_weights_prompt_bytes_and_image_preprocessing_count_and_the_folders_name_does_not(project, load):
    (project / "own.txt").write_text("What is this?")
    config = load("captions.prompts.caption=own.txt")
    before = fields(config)
    (project / "models" / "eye").rename(project / "models" / "moved")
    moved = load("captions.prompts.caption=own.txt", "models.eye.path=models/moved")
    assert fields(moved) == before
    (project / "models" / "moved" / "preprocessor_config.json").write_text('{"size": 256}')
    changed = fields(moved)
    assert {name for name in before if before[name] != changed[name]} == {"weights", "image_preprocessing"}


def test_a_hub_model_is_named_by_id_and_revision(load):
    found = fields(load("models.eye.path=org/model", "models.eye.revision=abc"))
    assert (found["model"], found["revision"]) == ("org/model", "abc") and "weights" not in found


def test_a_missing_model_folder_is_a_usage_error(load):
    with pytest.raises(UsageError, match="gone does not exist"):
        fields(load("models.eye.path=models/gone"))
