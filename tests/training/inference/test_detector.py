from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.special import expit, softmax

from schemas import open_table
from tests.training.data.building import photo
from tests.training.engine.running import run_config
from tests.training.inference.building import write_run
from training.engine.evaluating import evaluate_checkpoint
from training.errors import DataError, UsageError
from training.inference import Detector, Verdict
from training.inference.overlay import open_picture
from training.metrics import Predictions
from training.metrics.boxes import corners
from training.metrics.reading import load

TEXT = "Person 3 smiles at the 4 gate in Lima"
CASES = {
    "default": {},
    "guided": {"loss": {"mgca": {"mode": "bias"}}},
    "with-explanation-head": {"loss": {"lma": {"ied": 0.1}}},
    "boxes-on-negatives": {"loss": {"dgm": {"box_on_negatives": True}}},
    "few-words": {"data": {"max_words": 4}},
    "half-precision": {"train": {"precision": "bfloat16"}},
}


@pytest.fixture(scope="module")
def detector(run_dir: Path) -> Detector:
    return Detector.from_pretrained(run_dir, "cpu")


def rows_of(out: Path, split: str) -> list[dict]:
    """The rows of a split in the order in which they are evaluated."""
    rows = open_table(out, "samples").to_arrow().to_pylist()
    return sorted((row for row in rows if row["split"] == split), key=lambda row: row["sample_id"])


def assert_same(verdict: Verdict, found: Predictions, n: int, limit: float) -> None:
    assert verdict.p_fake == pytest.approx(softmax(found.logits_binary[n])[1], abs=limit)
    np.testing.assert_allclose(list(verdict.types.values()), expit(found.logits_multilabel[n]), atol=limit)
    width, height = verdict.image_size
    box = found.box_pred_cxcywh[n : n + 1]
    if not box.any():
        assert verdict.box is None
    else:
        assert verdict.box is not None
        expected = corners(box).clip(0, 1)[0]
        np.testing.assert_allclose(
            np.array(verdict.box) / [width, height, width, height], expected, atol=limit
        )
    tokens = softmax(found.logits_token[n], axis=-1)[:, 1]
    for word, (_, p) in enumerate(verdict.words):
        assert p == pytest.approx(tokens[found.token_word[n] == word].max(), abs=limit)
    assert len(verdict.words) == found.token_word[n].max() + 1


@pytest.mark.parametrize("case", CASES)
def test_verdicts_are_the_evaluated_predictions(
    case: str, towers: str, small_world: Path, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", run_config(towers, small_world, **copy.deepcopy(CASES[case])))
    evaluate_checkpoint(run, small_world, "val", tmp_path / "val")
    found, _ = load(tmp_path / "val" / "predictions.npz")
    rows = rows_of(small_world, "val")
    pairs = [(small_world / "images" / row["image_path"], row["text"]) for row in rows]
    # Batches of another size than the evaluation's: padding must not matter.
    verdicts = Detector.from_pretrained(run, "cpu").batch(pairs, batch_size=3)
    # Half precision rounds differently for every batch size.
    limit = 0.05 if case == "half-precision" else 1e-5
    for n, verdict in enumerate(verdicts):
        assert_same(verdict, found, n, limit)
    assert len({round(v.p_fake, 5) for v in verdicts}) > 4


def test_some_rows_have_a_box_and_some_do_not(detector: Detector, small_world: Path) -> None:
    rows = rows_of(small_world, "train")
    pairs = [(small_world / "images" / row["image_path"], row["text"]) for row in rows]
    kinds = {verdict.box is None for verdict in detector.batch(pairs)}
    assert kinds == {True, False}


def test_a_picture_in_memory_is_judged_like_its_file(detector: Detector, tmp_path: Path) -> None:
    picture = photo(90, 60)
    picture.save(tmp_path / "p.png")
    before = picture.tobytes()
    assert detector(picture, TEXT) == detector(str(tmp_path / "p.png"), TEXT)
    assert picture.tobytes() == before


def test_the_box_refers_to_the_upright_picture(detector: Detector, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(90, 60).save(tmp_path / "turned.png", exif=exif)
    assert detector(tmp_path / "turned.png", TEXT).image_size == (60, 90)
    with Image.open(tmp_path / "turned.png") as picture:
        assert detector(picture, TEXT) == detector(tmp_path / "turned.png", TEXT)


@pytest.mark.parametrize("suffix", ["tif", "png", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_any_orientation_in_any_format_gives_the_upright_picture(
    orientation: int, suffix: str, detector: Detector, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = photo(90, 60)
    stored.save(tmp_path / f"p.{suffix}", exif=exif, **({"quality": 100} if suffix == "jpg" else {}))
    turned = (60, 90) if orientation >= 5 else (90, 60)
    verdict = detector(tmp_path / f"p.{suffix}", TEXT)
    assert verdict.image_size == turned == open_picture(tmp_path / f"p.{suffix}").size
    upright = open_picture(tmp_path / f"p.{suffix}")
    assert detector(upright, TEXT).p_fake == pytest.approx(verdict.p_fake, abs=1e-5)


def test_a_text_of_which_no_word_is_read_gets_no_verdict(detector: Detector) -> None:
    with pytest.raises(
        DataError, match=r"no word of the text can be read: .*put spaces into it or remove it"
    ):
        detector(photo(40, 40), "x" * 99 + " and more")
    assert detector(photo(40, 40), "short " + "x" * 99).words_not_read == 1


def test_a_stream_keeps_the_order_and_yields_errors_in_place(detector: Detector, small_world: Path) -> None:
    good = small_world / "images" / "0.jpg"
    pairs = [(good, "one"), ("nowhere.jpg", "two"), (good, " "), (good, "four")]
    found = list(detector.stream(pairs, batch_size=2))
    assert [type(each).__name__ for each in found] == ["Verdict", "DataError", "DataError", "Verdict"]
    assert found[3].words[0][0] == "four"
    assert "nowhere.jpg: no such image file" in str(found[1])
    assert "the text is empty" in str(found[2])
    with pytest.raises(DataError, match="pair 1: nowhere.jpg"):
        detector.batch(pairs)
    assert list(detector.stream([])) == []


def test_a_file_that_is_no_image_is_named(detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "p.jpg").write_text("no picture")
    with pytest.raises(DataError, match=r"p\.jpg does not decode as an image .* save it as JPEG or PNG"):
        detector(tmp_path / "p.jpg", TEXT)


def test_words_that_do_not_fit_are_counted(detector: Detector) -> None:
    verdict = detector(photo(40, 40), " ".join(["word"] * 60))
    assert len(verdict.words) + verdict.words_not_read == 60
    assert verdict.words_not_read > 0


def test_a_verdict_is_plain_json(detector: Detector) -> None:
    verdict = detector(photo(40, 40), "Ten “curly” words")
    told = json.loads(json.dumps(verdict.to_dict()))
    assert told["types"].keys() == {"face_swap", "face_attribute", "text_swap", "text_attribute"}
    assert [word["word"] for word in told["words"]] == ["Ten", "“curly”", "words"]
    assert [n for n, word in enumerate(told["words"]) if word["flagged"]] == list(verdict.flagged)
    assert told["is_fake"] is (told["p_fake"] > told["thresholds"]["fake"])


@pytest.mark.parametrize("path", ["checkpoints/step-00000003", "."])
def test_a_checkpoint_opens_like_its_run(path: str, run_dir: Path, detector: Detector) -> None:
    other = Detector.from_pretrained(run_dir / path, "cpu")
    assert other(photo(40, 40), TEXT) == detector(photo(40, 40), TEXT)


def test_what_cannot_be_opened_is_named(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere does not exist"):
        Detector.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="holds no model"):
        Detector.from_pretrained(tmp_path)
    with pytest.raises(UsageError, match="--device warp"):
        Detector.from_pretrained(run_dir, "warp")
    with pytest.raises(UsageError, match="config.yaml is a file; give the folder"):
        Detector.from_pretrained(run_dir / "config.yaml")
    broken = shutil.copytree(run_dir / "checkpoints" / "step-00000003", tmp_path / "broken")
    listing = (broken / "files.json").read_text()
    (broken / "files.json").write_text(json.dumps(json.loads(listing) | {"model.safetensors": "abc"}))
    with pytest.raises(DataError, match=r"files.json is damaged: no SHA-256 of model.safetensors"):
        Detector.from_pretrained(broken)
    (broken / "files.json").write_text(listing)
    content = bytearray((broken / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (broken / "model.safetensors").write_bytes(content)
    with pytest.raises(DataError, match="has changed since it was written"):
        Detector.from_pretrained(broken)


def test_the_detector_needs_nothing_of_the_training_loop(run_dir: Path, root: Path) -> None:
    code = f"""
import sys
from training.inference import Detector
Detector.from_pretrained({str(run_dir)!r}, "cpu")
print(*(name for name in sys.modules if name.startswith("training.")))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "training.inference.detector" in loaded
    loop = ("loop", "step", "optim", "assembly", "launch", "objective", "trackers", "store")
    assert loaded & {f"training.engine.{name}" for name in loop} == set()
    assert not any(name.startswith(("training.losses", "training.report")) for name in loaded)
    assert done.stderr == ""
