import json

import numpy as np
import open_clip
import pytest
import torch

from demo.newsroom import caption, generate_items, render
from demo.tiny import probe
from demo.tiny.clip import CONFIG_FILE, WEIGHTS_FILE, ClipSize, build_clip, save_clip
from demo.tiny.clip_tokenizer import build_clip_tokenizer, clip_words
from demo.tiny.data_pairs import draw_pairs, drawn
from demo.tiny.explanations import explain_attribute, explain_swap
from demo.tiny.train_clip import batches, normalized, train_clip
from demo.tiny.training import Recipe

SMALL = ClipSize(
    image_size=32, vision_width=32, vision_layers=1, text_width=32, text_layers=1, embed_dim=16, head_width=16
)


@pytest.fixture(scope="module")
def tokenizer():
    return build_clip_tokenizer(clip_words(), 96)


@pytest.fixture(scope="module")
def pairs():
    return draw_pairs(32, seed=5, side=32, workers=0, line=None)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("towers") / "clip"
    torch.manual_seed(3)
    model, tokenizer = build_clip(SMALL)
    save_clip(model, tokenizer, SMALL, folder)
    return folder, model.eval()


def test_padding_is_zero_and_the_end_is_the_largest_id(tokenizer):
    assert tokenizer.pad_token_id == 0
    assert tokenizer.eos_token_id == len(tokenizer) - 1 == max(tokenizer.get_vocab().values())
    ids = tokenizer("Anna Duarte smiles").input_ids
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)


def test_words_alone_give_the_tokens_of_the_whole_text(tokenizer):
    for item in generate_items(200, seed=31):
        alone = [i for word in item.text.split() for i in tokenizer.encode(word, add_special_tokens=False)]
        begin, *inside, end = tokenizer(item.text).input_ids
        assert (begin, inside, end) == (tokenizer.bos_token_id, alone, tokenizer.eos_token_id)


def test_texts_captions_and_explanations_are_whole_words(tokenizer):
    for item in generate_items(300, seed=32):
        told = [item.text, caption(item.scene)]
        positions = item.annotation["fake_text_pos"]
        explain = explain_swap if "text_swap" in item.fake_cls else explain_attribute
        if positions:
            told += [explain(item.text, positions, original) for original in (None, item.original_text)]
        for text in told:
            tokens = tokenizer.tokenize(text)
            assert tokenizer.unk_token not in tokens
            assert not [token for token in tokens if token.startswith("##")], text
            assert len(tokens) <= 94


def test_a_strange_word_is_spelled_and_a_strange_character_is_unknown(tokenizer):
    assert tokenizer.tokenize("Zel") == ["z", "##e", "##l"]
    assert tokenizer.tokenize("漢") == [tokenizer.unk_token]
    assert tokenizer.tokenize("PROUD") == tokenizer.tokenize("proud") == ["proud"]


def test_a_long_text_keeps_its_end(saved):
    ids = open_clip.get_tokenizer(f"local-dir:{saved[0]}")(["proud " * 200, ""])
    assert ids.shape == (2, 96)
    end = ids.max()
    assert ids[0, -1] == end and ids[1, 1] == end and (ids[1, 2:] == 0).all()


def test_open_clip_opens_a_saved_folder(saved):
    folder, model = saved
    assert json.loads((folder / CONFIG_FILE).read_text())["preprocess_cfg"]["interpolation"] == "bicubic"
    loaded = open_clip.create_model(f"local-dir:{folder}", force_custom_text=True).eval()
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    ids = open_clip.get_tokenizer(f"local-dir:{folder}")(["Anna Duarte smiles", "a dog"])
    pixels = torch.rand(2, 3, 32, 32)
    assert torch.allclose(loaded.encode_text(ids), model.encode_text(ids), atol=5e-3)
    assert torch.allclose(loaded.encode_image(pixels), model.encode_image(pixels), atol=5e-3)


def test_the_preprocessing_of_a_saved_folder_is_that_of_the_training(saved):
    _, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{saved[0]}")
    item = next(iter(generate_items(3, seed=8)))
    ours = normalized(np.stack(list(drawn([item], 32))))[0]
    assert torch.allclose(preprocess(render(item)), ours, atol=1e-5)


def test_a_few_steps_lower_the_loss_of_the_towers_and_save_them(tmp_path, pairs):
    recipe = Recipe(steps=24, batch=32, rate=0.02, other_rate=0.02, warmup=2)
    losses = train_clip(tmp_path / "clip", recipe, SMALL, pairs=pairs, line=None)
    assert sum(losses[-3:]) / 3 < losses[0] - 0.4
    assert (tmp_path / "clip" / WEIGHTS_FILE).is_file()


def test_the_same_seed_trains_the_same_towers(tmp_path, pairs):
    recipe = Recipe(steps=3, batch=8, warmup=1)
    for name in ("a", "b"):
        train_clip(tmp_path / name, recipe, SMALL, pairs=pairs, line=None)
    one, other = ((tmp_path / name / WEIGHTS_FILE).read_bytes() for name in ("a", "b"))
    assert one == other


def test_training_pairs_are_unmanipulated_and_do_not_depend_on_the_number_of_workers(pairs):
    together = draw_pairs(32, seed=5, side=32, workers=2, line=None)
    assert (together.pixels == pairs.pixels).all() and together.scenes == pairs.scenes
    assert all(scene.face == scene.person for scene in pairs.scenes)


def test_a_batch_tells_each_scene_anew(pairs, tokenizer):
    stream = batches(pairs, tokenizer, Recipe(steps=2, batch=32))
    (pixels, first, _), (_, second, _) = next(stream), next(stream)
    assert pixels.shape == (32, 3, 32, 32) and first.shape[0] == second.shape[0] == 32
    assert {tuple(row[row > 0].tolist()) for row in first} != {tuple(row[row > 0].tolist()) for row in second}


def test_the_probe_prints_its_tables_and_refuses_training_worlds(saved, capsys):
    assert probe.main(["--towers", str(saved[0]), "--samples", "80", "--seed", "12"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("retrieval among", "expression", "picture, text and patches"))
    with pytest.raises(SystemExit):
        probe.main(["--seed", "900000000"])
