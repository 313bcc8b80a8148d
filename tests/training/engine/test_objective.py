"""Every term of the objective against its formula on explicitly listed rows: the wiring, not the maths."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert, generalized_box_iou

from tests.training.configs import merged
from tests.training.engine import wiring
from tests.training.engine.wiring import (
    BOXES,
    CAPTIONS,
    EXPLANATIONS,
    FAKE,
    LABELLED,
    ORIG,
    PADDED,
    PATCHES,
    REGIONS,
    ROWS,
    WORDS,
)
from training.config.sections import Config
from training.engine.keys import Counts, gather_keys
from training.engine.objective import Objective
from training.model import FeatureQueue

T, ALPHA = 0.2, 0.3


def config_of(**loss: Any) -> Config:
    base = {"loss": {"lma": {"ied": 0.1}, "pmm": {"negatives": 3, "anchors": 9}}}
    return Config.model_validate(merged(base, {"loss": loss}))


def terms_of(config: Config, queues: dict[str, FeatureQueue] | None = None, counts: Counts | None = None):
    rows = wiring.batch()
    return Objective(config, wiring.GRID).terms(
        rows,
        wiring.output(),
        wiring.teaching(),
        wiring.keys(rows),
        counts or wiring.counts(),
        queues or {},
        start=0,
        temperature=torch.tensor([T], dtype=torch.float64),
        alpha=ALPHA,
        seed=1,
    )


def log_share(query: Tensor, keys: Tensor, own: int, others: list[int]) -> Tensor:
    """log of the softmax share of key ``own`` among itself and ``others``."""
    scores = keys @ query / T
    return scores[own] - scores[[own, *others]].logsumexp(0)


def test_detection_and_box_terms_read_the_annotated_rows():
    batch, output, found = wiring.batch(), wiring.output(), terms_of(config_of())
    fake = torch.tensor([int(row in FAKE) for row in LABELLED])
    assert found["bic"].item() == pytest.approx(F.cross_entropy(output.binary[LABELLED], fake).item())
    types = batch.types[LABELLED].double()
    expected = F.binary_cross_entropy_with_logits(output.types[LABELLED], types)
    assert found["mlc"].item() == pytest.approx(expected.item())
    rows = list(BOXES)
    predicted, true = output.box[rows], torch.tensor(list(BOXES.values()), dtype=torch.float64)
    assert found["box_l1"].item() == pytest.approx((predicted - true).abs().sum().item() / 2, rel=1e-6)
    overlap = generalized_box_iou(
        box_convert(predicted, "cxcywh", "xyxy"), box_convert(true, "cxcywh", "xyxy")
    )
    assert found["box_giou"].item() == pytest.approx((1 - overlap.diagonal()).mean().item(), rel=1e-6)


def test_a_zero_box_is_regressed_on_annotated_rows_only_where_asked():
    output = wiring.output()
    found = terms_of(config_of(dgm={"box_on_negatives": True}))
    true = wiring.batch().box.double()
    expected = (output.box[LABELLED] - true[LABELLED]).abs().sum() / len(LABELLED)
    assert found["box_l1"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_words_learn_from_labels_and_from_the_momentum_model():
    output, soft, total = wiring.output(), wiring.teaching().words.softmax(-1), 0.0
    log_p = output.words.log_softmax(-1)
    for row in LABELLED:
        for token in range(1, PADDED):
            label = int(token in WORDS.get(row, []))
            total -= (1 - ALPHA) * log_p[row, token, label] + ALPHA * (soft[row, token] @ log_p[row, token])
    assert terms_of(config_of())["tmg"].item() == pytest.approx((total / 15).item())


def test_only_orig_pairs_are_positives_of_each_other():
    batch, output = wiring.batch(), wiring.output()
    features = wiring.keys(batch).features
    total = 0.0
    for own, other in (("image", "text"), ("text", "image")):
        query = getattr(output.features, own)
        ids = {"image": batch.image_id, "text": batch.text_id}
        for row in LABELLED:
            for kind in (other, own):
                others = [k for k in range(ROWS) if k != row and ids[kind][k] != ids[kind][row]]
                if kind == own:
                    total -= log_share(query[row], features[kind], row, others)
                    continue
                if row in ORIG:
                    total -= (1 - ALPHA) * log_share(query[row], features[kind], row, others)
                usable = [row, *others]
                soft = (features[kind][usable] @ features[own][row] / T).softmax(0)
                for share, key in zip(soft, usable, strict=True):
                    rest = [k for k in usable if k != key]
                    total -= ALPHA * share * log_share(query[row], features[kind], key, rest)
    found = terms_of(config_of())["mac"].item()
    assert found == pytest.approx(total.item() / 4 / len(LABELLED))


def contrast(
    query: Tensor, to: Tensor, rows: list[int], keys: list[int], same: dict[int, set[int]]
) -> Tensor:
    losses = [
        -log_share(query[row], to, row, [k for k in keys if k != row and k not in same.get(row, set())])
        for row in rows
    ]
    return torch.stack(losses).sum()


def test_captions_align_with_images_and_one_caption_of_two_images_is_no_negative():
    batch, output = wiring.batch(), wiring.output()
    features, same, everyone = wiring.keys(batch).features, {0: {5}, 5: {0}}, list(range(ROWS))
    total = contrast(output.features.image, features["caption"], CAPTIONS, CAPTIONS, same)
    total = total + contrast(output.features.caption, features["image"], CAPTIONS, everyone, same)
    assert terms_of(config_of())["cap"].item() == pytest.approx(total.item() / 2 / len(CAPTIONS))


def test_explanations_align_with_texts_and_two_explanations_of_one_text_are_no_negatives():
    batch, output = wiring.batch(), wiring.output()
    features, same, everyone = wiring.keys(batch).features, {2: {5}, 5: {2}}, list(range(ROWS))
    total = contrast(output.features.text, features["explanation"], EXPLANATIONS, EXPLANATIONS, same)
    total = total + contrast(output.features.explanation, features["text"], EXPLANATIONS, everyone, same)
    assert terms_of(config_of())["exp"].item() == pytest.approx(total.item() / 2 / len(EXPLANATIONS))


def test_the_released_anchor_is_the_image_with_positives_on_orig_rows_only():
    batch, output = wiring.batch(), wiring.output()
    features, everyone = wiring.keys(batch).features, list(range(ROWS))
    found = terms_of(config_of(lma={"explanation_anchor": "image"}))
    total = contrast(output.features.image, features["explanation"], ORIG, EXPLANATIONS, {})
    total = total + contrast(output.features.explanation, features["image"], ORIG, everyone, {})
    assert found["exp"].item() == pytest.approx(total.item() / 2 / len(EXPLANATIONS))
    rows = [row for row in EXPLANATIONS if row in LABELLED]
    fake = torch.tensor([int(row in FAKE) for row in rows])
    expected = F.cross_entropy(output.explanation_binary[rows], fake)
    assert found["ied"].item() == pytest.approx(expected.item())


def test_queued_keys_are_further_negatives_but_for_those_of_the_same_content():
    batch, output = wiring.batch(), wiring.output()
    queue = FeatureQueue(4, wiring.WIDTH).double()
    stored = wiring.unit(2, wiring.WIDTH, seed=50)
    queue.enqueue(stored, torch.tensor([20, 99]))  # the first has the caption of rows 0 and 5
    found = terms_of(config_of(lma={"queue": True}), {"caption": queue})
    features, everyone = wiring.keys(batch).features, list(range(ROWS))
    to = torch.cat([features["caption"], stored])
    same = {0: {5, 6}, 5: {0, 6}}
    total = contrast(output.features.image, to, CAPTIONS, [*CAPTIONS, 6, 7], same)
    same = {0: {5}, 5: {0}}
    total = total + contrast(output.features.caption, features["image"], CAPTIONS, everyone, same)
    assert found["cap"].item() == pytest.approx(total.item() / 2 / len(CAPTIONS))


def divergence(scores: Tensor, guided: list[int], beta: float) -> Tensor:
    """Mean over heads and queries of KL(softmax(scores + beta M) || softmax(scores)); key 0 collects."""
    bias = torch.zeros(scores.shape[-1], dtype=torch.float64)
    bias[[1 + key for key in guided]] = beta
    log_a, log_g = scores.log_softmax(-1), (scores + bias).log_softmax(-1)
    cells = log_g.exp() * (log_g - log_a)
    return cells[:, :, scores[0, 0].isfinite()].sum(-1).mean()


def test_attention_is_pulled_to_boxes_and_words_on_the_rows_that_have_them():
    fused, beta = wiring.output().fused, 2.0
    to_image = sum(divergence(fused.text_to_image[r, :, :PADDED], REGIONS[r], beta) for r in BOXES) / 2
    to_text = sum(divergence(fused.image_to_text[r], WORDS[r], beta) for r in WORDS) / 2
    assert terms_of(config_of())["mgca"].item() == pytest.approx(((to_image + to_text) / 2).item())


def test_predicted_guidance_adds_unlabelled_rows_without_diluting_the_others():
    fused, beta, soft = wiring.output().fused, 2.0, wiring.teaching()
    patches = [p for p in range(PATCHES) if soft.patch_logits[4, p] > 0]
    words = [t for t in range(1, PADDED) if soft.words[4, t, 1] > soft.words[4, t, 0]]
    assert patches and words
    counts = wiring.counts(predicted_boxes=1, predicted_words=1)
    config = config_of(mgca={"guidance": "predicted"})
    image = {**REGIONS, 4: patches}
    text = {**WORDS, 4: words}
    to_image = sum(divergence(fused.text_to_image[r, :, :PADDED], image[r], beta) for r in image) / 3
    to_text = sum(divergence(fused.image_to_text[r], text[r], beta) for r in text) / 3
    found = terms_of(config, counts=counts)["mgca"].item()
    assert found == pytest.approx(((to_image + to_text) / 2).item())


def supervised(rows: list[int], image: dict[int, list[int]], text: dict[int, list[int]]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for row in rows:
        target = torch.zeros(PADDED, PATCHES, dtype=torch.float64)
        target[:, image.get(row, [])] = 1
        target[text.get(row, [])] = 1
        logits = wiring.output().fused.text_to_image[row, :, :PADDED, 1:].mean(0)
        total = total + F.binary_cross_entropy_with_logits(logits, target)
    return total / len(rows)


def test_supervised_attention_marks_the_row_s_own_words_and_patches():
    found = terms_of(config_of(mgca={"mode": "supervise"}))["mgca"].item()
    assert found == pytest.approx(supervised(LABELLED, REGIONS, WORDS).item())
    soft = wiring.teaching()
    patches = [p for p in range(PATCHES) if soft.patch_logits[4, p] > 0]
    words = [t for t in range(1, PADDED) if soft.words[4, t, 1] > soft.words[4, t, 0]]
    config = config_of(mgca={"mode": "supervise", "guidance": "predicted"})
    found = terms_of(config)["mgca"].item()
    everyone = list(range(ROWS))
    assert found == pytest.approx(supervised(everyone, {**REGIONS, 4: patches}, {**WORDS, 4: words}).item())


def test_the_guiding_mask_of_mode_bias_learns_from_annotated_rows():
    output, config = wiring.output(), config_of(mgca={"mode": "bias"})
    total = torch.zeros((), dtype=torch.float64)
    for row in LABELLED:
        region = torch.zeros(PATCHES, dtype=torch.float64)
        region[REGIONS.get(row, [])] = 1
        words = torch.tensor([float(t in WORDS.get(row, [])) for t in range(1, PADDED)]).double()
        logits = (output.unguided_words[row, :, 1] - output.unguided_words[row, :, 0])[1:PADDED]
        total += F.binary_cross_entropy_with_logits(output.patch_logits[row], region)
        total += F.binary_cross_entropy_with_logits(logits, words)
    assert terms_of(config)["mgca_mask"].item() == pytest.approx(total.item() / len(LABELLED))
    guidance = Objective(config, wiring.GRID).guidance(wiring.batch())
    for row in range(ROWS):
        assert guidance["patch_guidance"][row].nonzero()[:, 0].tolist() == REGIONS.get(row, [])
        assert guidance["token_guidance"][row].nonzero()[:, 0].tolist() == WORDS.get(row, [])
        assert guidance["guided_rows"][row].item() == (row in LABELLED)


def test_patches_of_a_region_meet_the_most_similar_unmanipulated_ones():
    output, soft, keys = wiring.output(), wiring.teaching(), wiring.keys(wiring.batch())
    tau = config_of().loss.pmm.temperature
    negatives = keys.pool[keys.pool_negative]
    total = 0.0
    for row, region in REGIONS.items():
        for anchor in region:
            z = output.patch_embedding[row, anchor]
            rivals = (negatives @ z / tau).topk(3).values
            losses = []
            for other in region:
                if other != anchor:
                    positive = soft.patch_embedding[row, other] @ z / tau
                    losses.append(torch.cat([positive[None], rivals]).logsumexp(0) - positive)
            total += torch.stack(losses).mean().item() / len(region)
    assert terms_of(config_of())["pmm"].item() == pytest.approx(total / 2)
    assert terms_of(config_of(pmm={"hnp": False}))["pmm"].item() < total / 2


def test_the_border_of_a_region_is_its_negative_in_the_released_patch_loss():
    logits = wiring.output().patch_logits
    borders = {1: [2, 6, 8, 9], 3: [5, 6, 8, 11, 12, 15]}
    losses = []
    for row, region in REGIONS.items():
        losses += [F.softplus(-logits[row, p]) for p in region]
        losses += [F.softplus(logits[row, p]) for p in borders[row]]
    found = terms_of(config_of(pmm={"mode": "border_bce"}))["pmm"].item()
    assert found == pytest.approx(torch.stack(losses).mean().item())


def test_terms_that_are_switched_off_are_not_there():
    off = {"lma": {"text": "none", "ied": 0}, "mgca": {"mode": "none"}, "pmm": {"mode": "none"}}
    assert list(terms_of(config_of(**off))) == ["mac", "bic", "mlc", "box_l1", "box_giou", "tmg"]


class _Momentum:
    """Stands for the momentum model, which gather_keys only calls."""

    model = Objective(Config(), wiring.GRID)

    def __call__(self, *_: Tensor) -> Any:
        return wiring.output()


def test_the_counts_of_a_step_are_those_of_its_rows():
    for mode in ("infonce", "border_bce"):
        config = config_of(pmm={"mode": mode}, mgca={"guidance": "predicted"})
        rows = wiring.batch()
        keys, counts, soft = gather_keys([rows, rows], _Momentum(), config, step=0)  # type: ignore[arg-type]
        predicted = [mask.any(dim=1).sum().item() for mask in soft[0].predicted_guidance(rows)]
        once = wiring.counts(predicted_boxes=predicted[0], predicted_words=predicted[1])
        for name, value in vars(once).items():
            if name == "border" and mode == "infonce":
                value = 0
            assert getattr(counts, name) == 2 * value, name
        assert keys.pool is None if mode == "border_bce" else keys.pool.shape == (12, PATCHES, wiring.WIDTH)
        assert torch.equal(keys.valid["caption"][:ROWS], rows.caption_mask)


def test_the_pool_takes_other_patches_in_each_row_and_step_whatever_the_micro_batches():
    config = config_of(pmm={"pool": 5})
    rows = wiring.batch()

    def pool(step: int) -> Tensor:
        found = gather_keys([rows], _Momentum(), config, step)[0].pool  # type: ignore[arg-type]
        assert found is not None and found.shape == (ROWS, 5, wiring.WIDTH)
        return found

    embedding = wiring.output().patch_embedding
    places = [
        [(embedding[row] == patch).all(-1).nonzero().item() for patch in pool(step)[row]]
        for step in range(12)
        for row in range(ROWS)
    ]
    assert all(len(set(chosen)) == 5 for chosen in places)
    assert {place for chosen in places for place in chosen} == set(range(PATCHES))
    assert len({tuple(sorted(chosen)) for chosen in places}) > 50
    assert torch.equal(pool(3), pool(3))
