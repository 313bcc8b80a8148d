from __future__ import annotations

import pytest
import torch
from PIL import Image

from tests.builders import CLASSES
from tests.pipeline.inspection.tables import caption, explanation
from tests.training.data.building import (
    CLIP,
    HEIGHT,
    WIDTH,
    photo,
    write_captions,
    write_explanations,
    write_rows,
    write_texts,
    write_world,
)
from training.config.sections import DataConfig
from training.data.batch import IGNORED, NO_WORD
from training.data.cache import build_cache
from training.data.dataset import RowDataset, is_unlabelled
from training.data.images import normalise
from training.data.left_out import describe, log_left_out, total_counts
from training.data.rows import prepare_rows
from training.data.tokens import PADDING, WordTokenizer
from training.errors import DataError, UsageError

SIZE = 16


@pytest.fixture(scope="module")
def tokenizer():
    return WordTokenizer(CLIP)


def dataset(out, tokenizer, *, train=False, epoch=0, augment=True, **settings):
    rows = prepare_rows(out, ["train"], out / "rows", skip_flags=("empty",))
    data = DataConfig(**settings)
    return RowDataset(rows, tokenizer, data, SIZE, train=train, augment=augment, epoch=epoch)


def batch_of(data):
    return data.collate([data[i] for i in range(len(data))])


def order(rows):
    """Return the samples' rows in the order of the joined rows."""
    return sorted(rows, key=lambda row: row["sample_id"])


def test_a_batch_holds_the_annotations_of_its_rows(tmp_path, tokenizer):
    samples = order(write_world(tmp_path, 8))
    write_captions(tmp_path, samples)
    write_explanations(tmp_path, samples)
    batch = batch_of(dataset(tmp_path, tokenizer))
    assert batch.index.tolist() == list(range(8))
    assert batch.image.shape == (8, 3, SIZE, SIZE) and batch.image.dtype == torch.float32
    assert {row["fake_cls"] for row in samples} == set(CLASSES)
    for n, row in enumerate(samples):
        assert bool(batch.is_fake[n]) == row["is_fake"]
        assert batch.types[n].tolist() == [
            row["face_swap"],
            row["face_attribute"],
            row["text_swap"],
            row["text_attribute"],
        ]
        assert bool(batch.has_box[n]) == (row["fake_image_box"] is not None)
        box = [18 / WIDTH, 16 / HEIGHT, 24 / WIDTH, 24 / HEIGHT] if batch.has_box[n] else [0.0] * 4
        assert batch.box[n].tolist() == pytest.approx(box)
        marked = {
            int(w) for w, label in zip(batch.text_word[n], batch.word_labels[n], strict=True) if label == 1
        }
        assert marked == set(row["fake_text_pos"])
        assert batch.size[n].tolist() == [WIDTH, HEIGHT] and int(batch.words[n]) == len(row["words"])
    on_words = batch.text_word != NO_WORD
    assert ((batch.word_labels == IGNORED) == ~on_words).all()
    assert batch.labelled.all() and batch.caption_mask.all() and batch.explanation_mask.all()


def test_lengths_are_multiples_of_eight_within_the_limit_and_long_explanations_do_not_lengthen_news(
    tmp_path, tokenizer
):
    samples = write_world(tmp_path, 4)
    write_texts(tmp_path, "explanations", [explanation(samples[0], "one two three four " * 30)])
    data = dataset(tmp_path, tokenizer)
    batch = batch_of(data)
    assert batch.caption.shape == batch.explanation.shape == (4, 96)
    longest = max(len(data[i].text) for i in range(4))
    assert batch.text.shape == batch.text_word.shape == batch.word_labels.shape
    assert batch.text.shape[1] % 8 == 0 and longest <= batch.text.shape[1] < longest + 8
    limited = batch_of(dataset(tmp_path, WordTokenizer(CLIP, 21)))
    assert limited.explanation.shape == (4, 21) and limited.text.shape[1] <= 21


def test_a_missing_or_flagged_text_is_masked_not_filled(tmp_path, tokenizer):
    samples = order(write_world(tmp_path, 4))
    texts = [caption(samples[0]["image_key"], "a man"), caption(samples[1]["image_key"], "", ["empty"])]
    write_texts(tmp_path, "captions", texts)
    batch = batch_of(dataset(tmp_path, tokenizer))
    assert batch.caption_mask.tolist() == [True, False, False, False]
    assert (batch.caption[1:] == PADDING).all() and (batch.caption_id[1:] == -1).all()
    assert batch.caption_id[0] >= 0
    assert not batch.explanation_mask.any() and (batch.explanation_id == -1).all()


def test_ids_follow_content(tmp_path, tokenizer):
    samples = order(write_world(tmp_path, 4, text="Same text here", words=["Same", "text", "here"]))
    samples[1] |= {"image_key": samples[0]["image_key"], "image_path": samples[0]["image_path"]}
    samples[3] |= {"image_key": None, "image_path": samples[2]["image_path"], "width": None, "height": None}
    for row in samples:
        row["fake_text_pos"] = row["fake_text_pos"] and [1]
    write_rows(tmp_path, samples)
    batch = batch_of(dataset(tmp_path, tokenizer))
    assert batch.image_id[0] == batch.image_id[1] and len(batch.image_id.unique()) == 3
    assert len(batch.text_id.unique()) == 1 and (batch.text_id >= 0).all()
    assert batch.size[3].tolist() == [WIDTH, HEIGHT]


def test_words_beyond_the_limit_are_dropped_with_their_labels_and_counted(tmp_path, tokenizer):
    write_world(tmp_path, 4, "text_swap", fake_text_pos=[1, 6])
    data = dataset(tmp_path, tokenizer, max_words=3)
    batch = batch_of(data)
    assert batch.text_word.max() == 2 and (batch.words == 9).all()
    assert (batch.word_labels == 1).any(1).all()
    assert data.counts() == {
        "words_dropped": 24,
        "marked_words_dropped": 4,
        "captions_cut": 0,
        "explanations_cut": 0,
        "images_not_cached": 0,
    }
    assert describe(data.counts()) == (
        "24 words of news texts not read (data.max_words or data.max_tokens), 4 of them manipulated"
    )


def test_captions_and_explanations_that_are_cut_are_counted_and_equal_if_what_is_read_is(
    tmp_path, tokenizer, caplog
):
    samples = order(write_world(tmp_path, 4))
    long = "one two three four " * 30
    told = [f"{long} five", f"{long} six", "one two", "one  two"]
    write_texts(tmp_path, "explanations", [explanation(*pair) for pair in zip(samples, told, strict=True)])
    captions = [caption(row["image_key"], text) for row, text in zip(samples, told, strict=True)]
    write_texts(tmp_path, "captions", captions[:1] + captions[2:])
    data = dataset(tmp_path, tokenizer)
    batch = batch_of(data)
    assert batch.explanation_id[0] == batch.explanation_id[1] != batch.explanation_id[2]
    assert batch.explanation_id[2] == batch.explanation_id[3] == batch.caption_id[2]
    assert batch.caption_id[1] == -1 and len(batch.text_id.unique()) == 4
    assert (data.counts()["captions_cut"], data.counts()["explanations_cut"]) == (1, 2)
    with caplog.at_level("INFO"):
        assert log_left_out(data, "cpu", "epoch 0") == data.counts() == total_counts(data)
    assert caplog.messages == [
        "epoch 0: 1 captions cut at data.max_tokens; 2 explanations cut at data.max_tokens"
    ]


def test_nothing_left_out_is_no_line(tmp_path, tokenizer, caplog):
    write_world(tmp_path, 2)
    data = dataset(tmp_path, tokenizer)
    batch_of(data)
    with caplog.at_level("INFO"):
        log_left_out(data, "cpu", "epoch 0")
    assert describe(data.counts()) == "" and caplog.messages == []


def test_a_flipped_image_carries_its_flipped_box(tmp_path, tokenizer):
    write_world(tmp_path, 4, "face_swap")
    still = batch_of(dataset(tmp_path, tokenizer, train=True, flip=0, augment_ops=0))
    turned = batch_of(dataset(tmp_path, tokenizer, train=True, flip=1, augment_ops=0))
    assert torch.equal(turned.image, still.image.flip(-1))
    assert torch.allclose(turned.box, torch.tensor([30 / WIDTH, 16 / HEIGHT, 24 / WIDTH, 24 / HEIGHT]))
    assert torch.equal(turned.image_id, still.image_id)


def test_a_flip_leaves_rows_without_a_box_at_zeros(tmp_path, tokenizer):
    write_world(tmp_path, 4, "orig")
    batch = batch_of(dataset(tmp_path, tokenizer, train=True, flip=1))
    assert not batch.has_box.any() and not batch.box.any()


def test_augmentation_follows_from_the_epoch_and_is_off_in_evaluation(tmp_path, tokenizer):
    write_world(tmp_path, 8)
    images = {
        name: batch_of(dataset(tmp_path, tokenizer, **options)).image
        for name, options in {
            "first": {"train": True},
            "again": {"train": True},
            "next epoch": {"train": True, "epoch": 1},
            "unaugmented": {"train": True, "augment": False},
            "evaluation": {},
        }.items()
    }
    assert torch.equal(images["first"], images["again"])
    assert not torch.equal(images["first"], images["next epoch"])
    assert not torch.equal(images["first"], images["evaluation"])
    assert torch.equal(images["unaugmented"], images["evaluation"])


def test_unlabelled_rows_carry_no_annotation_and_only_in_training(tmp_path, tokenizer):
    samples = order(write_world(tmp_path, 40))
    write_explanations(tmp_path, samples)
    options = {"flip": 0, "augment_ops": 0}
    full = batch_of(dataset(tmp_path, tokenizer, train=True, **options))
    half = batch_of(dataset(tmp_path, tokenizer, train=True, unlabelled_share=0.5, **options))
    hidden = ~half.labelled
    assert 8 <= hidden.sum() <= 32
    assert full.is_fake[hidden].any() and full.has_box[hidden].any() and (full.word_labels[hidden] == 1).any()
    assert not half.is_fake[hidden].any() and not half.types[hidden].any()
    assert not half.box[hidden].any() and not half.has_box[hidden].any()
    assert (half.word_labels[hidden] == IGNORED).all()
    for name in ("is_fake", "types", "box", "has_box", "word_labels"):
        assert torch.equal(getattr(half, name)[~hidden], getattr(full, name)[~hidden])
    assert half.explanation_mask.all() and torch.equal(half.text, full.text)
    assert batch_of(dataset(tmp_path, tokenizer, unlabelled_share=0.5)).labelled.all()
    ids = [row["sample_id"] for row in samples]
    assert {i for i in ids if is_unlabelled(i, 0.2)} <= {i for i in ids if is_unlabelled(i, 0.5)}


def test_cached_images_are_used_and_others_come_from_their_files(tmp_path, tokenizer):
    samples = order(write_world(tmp_path, 4))
    write_rows(tmp_path, samples[:3])
    build_cache(tmp_path, tmp_path / "cache", SIZE, quality=None)
    write_rows(tmp_path, samples)
    from_files = batch_of(dataset(tmp_path, tokenizer))
    for row in samples[:3]:
        (tmp_path / "images" / row["image_path"]).unlink()
    data = dataset(tmp_path, tokenizer, image_cache=tmp_path / "cache")
    batch = batch_of(data)
    assert torch.equal(batch.image, from_files.image) and torch.equal(batch.box, from_files.box)
    assert data.counts()["images_not_cached"] == 1
    with pytest.raises(UsageError, match="16 pixels wide"):
        RowDataset(data.rows, tokenizer, data.data, 32, train=False)


def test_a_changed_or_missing_image_is_named(tmp_path, tokenizer):
    samples = order(write_world(tmp_path, 2))
    data = dataset(tmp_path, tokenizer)
    path = tmp_path / "images" / samples[0]["image_path"]
    photo(64, 64).save(path)
    with pytest.raises(DataError, match=f"64 x 64 pixels, but sample {samples[0]['sample_id']} .*48 x 32"):
        data[0]
    path.unlink()
    with pytest.raises(DataError, match=f"{path.name}: the image of sample {samples[0]['sample_id']}"):
        data[0]
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="set data.image_root"):
        dataset(tmp_path, tokenizer)


def test_pixels_reach_the_batch_normalised(tmp_path, tokenizer):
    write_world(tmp_path, 1)
    Image.new("RGB", (WIDTH, HEIGHT), (255, 0, 128)).save(tmp_path / "images" / "0.jpg", quality=100)
    image = batch_of(dataset(tmp_path, tokenizer)).image[0]
    expected = normalise(torch.tensor([255, 0, 128], dtype=torch.uint8).view(3, 1, 1))
    assert (image - expected).abs().max() < 0.06
