from __future__ import annotations

import json
import os
import shutil

import pytest

from pipeline.engines.weights import weights_hash
from pipeline.errors import UsageError


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "model"
    (folder / "qformer_tokenizer").mkdir(parents=True)
    for name in ("model.safetensors", "config.json", "qformer_tokenizer/vocab.txt", "chat_template.jinja"):
        (folder / name).write_text(name)
    return folder


def test_moving_the_folder_or_adding_a_readme_changes_nothing(folder, tmp_path):
    before = weights_hash(folder)
    (folder / "README.md").write_text("hello")
    (folder / "pytorch_model.bin").write_text("old weights")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "download.json").write_text("{}")
    assert weights_hash(folder) == before
    folder.rename(tmp_path / "elsewhere")
    assert weights_hash(tmp_path / "elsewhere") == before


@pytest.mark.parametrize("name", ["model.safetensors", "qformer_tokenizer/vocab.txt", "chat_template.jinja"])
def test_any_file_that_decides_texts_changes_the_hash(folder, name):
    before = weights_hash(folder)
    (folder / name).write_text("changed")
    assert weights_hash(folder) != before


def test_contents_that_change_places_change_the_hash(folder):
    before = weights_hash(folder)
    (folder / "config.json").write_text("chat_template.jinja")
    (folder / "chat_template.jinja").write_text("config.json")
    assert weights_hash(folder) != before


def test_cached_hashes_are_used_and_never_survive_a_change(folder, tmp_path):
    cache = tmp_path / "cache" / "weights.json"
    first = weights_hash(folder, cache)
    content = json.loads(cache.read_text())
    assert len(content) == 4
    fake = {key: "0" * 64 for key in content}
    cache.write_text(json.dumps(fake))
    assert weights_hash(folder, cache) != first, "the cache was not read"
    for path in folder.rglob("*.*"):
        os.utime(path, ns=(1, 1))
    assert weights_hash(folder, cache) == first


@pytest.mark.parametrize("content", ["", "[1]", "{", "\0"])
def test_a_damaged_cache_is_rebuilt(folder, tmp_path, content):
    cache = tmp_path / "weights.json"
    cache.write_text(content)
    assert weights_hash(folder, cache) == weights_hash(folder)
    assert len(json.loads(cache.read_text())) == 4


def test_a_cache_that_cannot_be_written_is_no_error(folder, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    assert weights_hash(folder, tmp_path / "file" / "weights.json") == weights_hash(folder)
    assert "could not keep weight hashes" in caplog.text


def test_missing_and_empty_folders_are_named(folder, tmp_path):
    with pytest.raises(UsageError, match="nowhere does not exist"):
        weights_hash(tmp_path / "nowhere")
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(UsageError, match="holds no checkpoint"):
        weights_hash(folder)
