from __future__ import annotations

import hashlib

import pytest

from pipeline.config.models import CaptionsConfig, ExplanationsConfig
from pipeline.errors import UsageError
from pipeline.prompts import load_prompt
from pipeline.prompts.template import FOLDER

VARIABLES = {
    "caption-v1": set(),
    "manipulation-pair-v1": {"original_text", "text"},
    "manipulation-marked-v1": {"marked_text"},
    "description-v1": {"text"},
}
HOSTILE = [
    "{{ 7 * 7 }}",
    "{% raw %}",
    "{# gone #}",
    "$5 ${HOME}",
    "{0} }{",
    '"quoted" & <b>',
    "100%s %d",
    "a\nb",
]


def test_the_shipped_templates_are_the_ones_that_the_jobs_use_by_default():
    shipped = {path.stem for path in FOLDER.glob("*.txt")}
    used = {*CaptionsConfig.default_prompts.values(), *ExplanationsConfig.default_prompts.values()}
    assert shipped == used == set(VARIABLES)


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("value", HOSTILE)
def test_values_pass_through_untouched(name, value):
    values = {variable: f"<{value}>" for variable in VARIABLES[name]}
    rendered = load_prompt(name).render(**values)
    assert rendered.count(f"<{value}>") == len(values)
    assert rendered == rendered.strip() and "{{" not in rendered.replace(value, "")


@pytest.mark.parametrize("name", [name for name in VARIABLES if VARIABLES[name]])
def test_a_variable_that_is_not_given_is_an_error(name):
    with pytest.raises(
        UsageError, match=f"prompt template {name}: .* is undefined; the variables here are: other"
    ):
        load_prompt(name).render(other="x")


def test_the_prompts_are_those_that_the_tiny_models_were_trained_on():
    pair = load_prompt("manipulation-pair-v1").render(original_text="A cat.", text="A dog.")
    assert pair == (
        'Original news text: "A cat."\nManipulated news text: "A dog."\n'
        "Name the words that were changed, and say in one or two English sentences where and how the "
        "manipulated text differs from the original."
    )
    assert load_prompt("caption-v1").render() == "Give the caption of this picture"


def test_the_id_carries_the_hash_of_the_files_bytes():
    prompt = load_prompt("caption-v1")
    digest = hashlib.sha256((FOLDER / "caption-v1.txt").read_bytes()).hexdigest()
    assert (prompt.sha, prompt.prompt_id) == (digest, f"caption-v1:{digest[:8]}")


def test_a_users_own_file_is_a_template(tmp_path):
    path = tmp_path / "mine-v2.txt"
    path.write_text("Say it in French: {{ text }}\n")
    prompt = load_prompt(str(path))
    assert prompt.prompt_id.startswith("mine-v2:")
    assert prompt.render(text="chat") == "Say it in French: chat"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"one\n{{ text", "line 2"),
        (b"{% for %}", "line 1"),
    ],
)
def test_a_template_that_cannot_be_used_names_file_and_fault(tmp_path, content, message):
    path = tmp_path / "mine.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        load_prompt(str(path))
    assert str(path) in str(caught.value)


def test_an_unknown_id_gets_the_nearest_known_one(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'caption-v1'?"):
        load_prompt("caption-v2")
    with pytest.raises(UsageError, match="known ids: caption-v1, description-v1"):
        load_prompt("zzz")
    with pytest.raises(UsageError, match="No such file"):
        load_prompt(str(tmp_path / "mine.txt"))
