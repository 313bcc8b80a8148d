from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.training.metrics.cases import GOLDEN, golden, some
from training.metrics.__main__ import main


def test_the_command_prints_the_golden_figures_as_json(root):
    command = [sys.executable, "-m", "training.metrics", "--predictions", str(GOLDEN), "--json"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    for name, value in golden()[1].items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-6, err_msg=name)
    assert found["rows"] == 600 and found["by_type"]["groups"]["joint"]["rows"] == 78
    assert found["notes"] == ["no token_word: the word figures count every token as a word"]


def test_the_table_shows_percent(capsys):
    assert main(["--predictions", str(GOLDEN)]) == 0
    shown = capsys.readouterr().out
    assert "AUC                 75.67" in shown and "text only" in shown and "note: no token_word" in shown


def test_saved_predictions_are_read_again(tmp_path, capsys):
    path = tmp_path / "saved"
    some(18).save(path)
    assert main(["--predictions", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 18


def test_help_names_every_array(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    shown = capsys.readouterr().out
    assert stopped.value.code == 0
    assert all(name in shown for name in some(1).arrays())


def save(path, **changes):
    arrays = some(9).arrays() | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"logits_token": None, "fake_cls": None}, "lacks fake_cls, logits_token; it has logits_binary"),
        ({"logits_binary": np.zeros((9, 3))}, "logits_binary has shape (9, 3), not (9, 2)"),
        ({"logits_binary": np.full((9, 2), np.nan)}, "logits_binary, row 0 (and 8 more rows): [nan nan]"),
        ({"fake_cls": np.array(["orig"] * 9, dtype=object)}, "strings as a numpy string array"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path, capsys, changes, words):
    path = tmp_path / "bad.npz"
    save(path, **changes)
    assert main(["--predictions", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}") and words in error and error.count("\n") == 1


@pytest.mark.parametrize("compressed", [False, True])
def test_damage_anywhere_in_a_file_is_one_clear_line_or_harmless(tmp_path, capsys, compressed):
    path = tmp_path / "damaged.npz"
    (np.savez_compressed if compressed else np.savez)(path, **some(9).arrays())
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for trial in range(120):
        content = bytearray(whole)
        for place in random.integers(0, len(whole), random.integers(1, 5)):
            content[place] = random.integers(0, 256)
        path.write_bytes(content[: random.integers(1, len(whole))] if trial % 4 == 0 else content)
        code = main(["--predictions", str(path), "--json"])
        error = capsys.readouterr().err
        assert code == 0 or (code == 2 and error.startswith("error: ") and error.count("\n") == 1), error


@pytest.mark.parametrize("word", [2**62, 1_000_001, -2])
def test_word_indices_out_of_range_are_refused(tmp_path, capsys, word):
    words = some(9).token_word.astype(np.int64)
    words[4, 1] = word
    save(tmp_path / "words.npz", token_word=words)
    assert main(["--predictions", str(tmp_path / "words.npz")]) == 2
    error = capsys.readouterr().err
    assert "token_word, row 4" in error and "-1 (no word) to 1,000,000" in error


def test_a_save_that_fails_leaves_the_file_of_before(tmp_path, monkeypatch):
    path = tmp_path / "saved.npz"
    some(9).save(path)
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        some(18).save(path)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["saved.npz"]


@pytest.mark.parametrize("content", [None, b"", b"not a zip file", b"PK\x03\x04 cut"])
def test_a_missing_or_broken_file_is_one_clear_line(tmp_path, capsys, content):
    path = tmp_path / "broken.npz"
    if content is not None:
        path.write_bytes(content)
    assert main(["--predictions", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}") and error.count("\n") == 1


def test_a_single_array_is_refused(tmp_path, capsys):
    with (tmp_path / "one.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    assert main(["--predictions", str(tmp_path / "one.npz")]) == 2
    assert "is no npz file" in capsys.readouterr().err


def test_arrays_that_are_not_read_are_named(tmp_path, capsys):
    path = tmp_path / "more.npz"
    save(path, token_words=np.zeros(3))
    assert main(["--predictions", str(path), "--json"]) == 0
    assert "not read: token_words" in capsys.readouterr().err
