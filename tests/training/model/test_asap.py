from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.training.configs import tiny_config
from training.errors import UsageError
from training.model import AsapModel, MomentumEncoder, build_model
from training.model.towers import build_towers, padding_mask

IMAGE = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32).sin()
TEXT = torch.tensor([[2, 5, 6, 7, 90, 0, 0, 0], [2, 9, 8, 7, 6, 5, 4, 90]])
OTHER = torch.tensor([[2, 15, 16, 90, 0, 0, 0, 0], [2, 19, 90, 0, 0, 0, 0, 0]])


def model_of(towers: str, **loss: object) -> AsapModel:
    torch.manual_seed(1)
    return build_model(tiny_config(towers, loss=loss)).eval()


def test_outputs_name_every_intermediate_with_its_shape(towers: str) -> None:
    output = model_of(towers)(IMAGE, TEXT, OTHER, OTHER)
    assert output.features.image.shape == (2, 16) and output.features.patches.shape == (2, 16, 16)
    assert output.features.text.shape == (2, 16) and output.features.tokens.shape == (2, 8, 16)
    assert output.features.caption is not None and output.features.explanation is not None
    assert output.fused.patches.shape == (2, 16, 24) and output.fused.tokens.shape == (2, 8, 24)
    assert output.fused.text_to_image is not None and output.fused.text_to_image.shape == (2, 2, 8, 17)
    assert output.fused.image_to_text is not None and output.fused.image_to_text.shape == (2, 2, 16, 9)
    assert output.binary.shape == (2, 2) and output.types.shape == (2, 4) and output.box.shape == (2, 4)
    assert output.words.shape == (2, 8, 2) and output.patch_logits.shape == (2, 16)
    assert output.patch_embedding.shape == (2, 16, 8)
    assert torch.allclose(output.patch_embedding.norm(dim=-1), torch.ones(2, 16), atol=1e-5)
    assert ((output.box > 0) & (output.box < 1)).all()


@pytest.mark.parametrize(
    "loss",
    [
        {},
        {"mgca": {"mode": "bias"}},
        {"mgca": {"mode": "supervise"}, "lma": {"ied": 0.1, "explanation_anchor": "image"}},
        {"mgca": {"mode": "none"}, "pmm": {"mode": "border_bce"}, "lma": {"text": "none"}},
    ],
)
def test_predictions_depend_on_image_and_text_only(towers: str, loss: dict[str, object]) -> None:
    model = model_of(towers, **loss)
    alone = model(IMAGE, TEXT)
    for caption, explanation in ((OTHER, None), (None, OTHER), (OTHER, OTHER.flip(0)), (TEXT, TEXT)):
        told = model(IMAGE, TEXT, caption, explanation)
        for name in ("binary", "types", "box", "words", "patch_logits"):
            assert torch.allclose(getattr(told, name), getattr(alone, name), atol=1e-6), name


def test_guided_attention_follows_the_guidance_it_is_given(towers: str) -> None:
    model = model_of(towers, mgca={"mode": "bias", "beta": 8.0})
    patches, tokens = torch.zeros(2, 16, dtype=torch.bool), torch.zeros(2, 8, dtype=torch.bool)
    patches[:, 3], tokens[:, 2] = True, True
    given = torch.tensor([True, False])
    plain = model(IMAGE, TEXT)
    guided = model(IMAGE, TEXT, patch_guidance=patches, token_guidance=tokens, guided_rows=given)
    assert not torch.allclose(plain.words[0], guided.words[0])
    assert torch.allclose(plain.words[1], guided.words[1], atol=1e-6)
    assert torch.equal(plain.patch_logits, guided.patch_logits)


def test_padding_and_its_length_change_nothing(towers: str) -> None:
    model = model_of(towers)
    short = model(IMAGE[:1], TEXT[:1, :5])
    long = model(IMAGE[:1], torch.nn.functional.pad(TEXT[:1], (0, 16)))
    assert torch.allclose(short.words, long.words[:, :5], atol=1e-5)
    assert torch.allclose(short.box, long.box, atol=1e-5) and torch.allclose(
        short.types, long.types, atol=1e-5
    )


def test_a_row_without_a_text_is_finite() -> None:
    assert padding_mask(torch.tensor([[0, 0], [2, 0]])).tolist() == [[True, False], [True, False]]


def test_every_parameter_gets_a_gradient_through_the_tie(towers: str) -> None:
    from training.engine.step import _tie

    for loss in ({}, {"mgca": {"mode": "bias"}}, {"lma": {"ied": 0.1}}):
        model = model_of(towers, **loss)
        fuse = model.explanation_head is not None
        _tie(model(IMAGE, TEXT, OTHER, OTHER, fuse_explanation=fuse), model).backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_recomputed_blocks_give_the_same_gradient(towers: str) -> None:
    grads = []
    for recompute in (False, True):
        torch.manual_seed(1)
        model = build_model(tiny_config(towers, model={"checkpoint_blocks": recompute})).train()
        model(IMAGE, TEXT).words.square().sum().backward()
        grads.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    assert all(torch.allclose(grads[0][name], grads[1][name], atol=1e-6) for name in grads[0])


def test_image_size_interpolates_the_positions(towers: str) -> None:
    larger = build_towers(towers, None, 64)
    assert larger.grid == (8, 8)
    assert larger.encode_image(torch.zeros(1, 3, 64, 64))[1].shape == (1, 64, 16)


def test_the_momentum_encoder_moves_by_its_share(towers: str) -> None:
    model = model_of(towers)
    momentum = MomentumEncoder(model, 0.9)
    with torch.no_grad():
        before = model.fusion.patch_position.clone()
        model.fusion.patch_position += 1
    momentum.update(model)
    assert torch.allclose(momentum.model.fusion.patch_position, before + 0.1, atol=1e-6)
    momentum.train()
    assert not momentum.model.training and not any(p.requires_grad for p in momentum.parameters())
    outputs = dataclasses.asdict(momentum(IMAGE, TEXT, OTHER, OTHER).features)
    assert not any(value.requires_grad for value in outputs.values())


@pytest.mark.parametrize(
    ("name", "pretrained", "says"),
    [
        ("ViT-B16", None, "nearest: .*ViT-B-16"),
        ("local-dir:/nowhere", None, "/nowhere has no open_clip_config.json"),
        ("ViT-B-16", "nonsense", "'nonsense' is neither a file nor a tag of ViT-B-16; its tags: .*openai"),
        ("RN50", None, "not a pair of plain transformers"),
    ],
)
def test_towers_that_cannot_be_used_are_named(name: str, pretrained: str | None, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        build_towers(name, pretrained, 64)


def test_token_features_are_open_clips_own_at_full_length(towers: str) -> None:
    import open_clip

    clip = open_clip.create_model(towers, force_custom_text=True).eval()
    mine = build_towers(towers, None, 32).eval()
    full = torch.nn.functional.pad(TEXT, (0, 96 - 8))
    pooled, tokens = mine.encode_text(TEXT)
    expected = torch.nn.functional.normalize(clip.encode_text(full), dim=-1)
    assert torch.allclose(pooled, expected, atol=1e-5)
    image = clip.encode_image(IMAGE, normalize=True)
    assert torch.allclose(mine.encode_image(IMAGE)[0], image, atol=1e-5)
    clip.text.output_tokens = True
    assert torch.allclose(clip.text(full)[1][:, :8], tokens, atol=1e-5)
