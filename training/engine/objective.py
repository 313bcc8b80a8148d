"""The objective: every loss term by name, and its weight.

L = L_DGM + L_LMA + alpha L_MGCA + lambda L_PMM (seed note). The terms are unweighted; `weights` says how they
add up, so that both can be logged.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from training import losses
from training.config.sections import Config
from training.data.batch import Batch
from training.data.masks import patch_mask
from training.engine.keys import Counts, Keys, Teaching
from training.model import FeatureQueue, ModelOutput

Queues = dict[str, FeatureQueue]


def weights(config: Config) -> dict[str, float]:
    """Return the weight of every term that is switched on, in the order of the formula."""
    dgm, lma, mgca, pmm = config.loss.dgm, config.loss.lma, config.loss.mgca, config.loss.pmm
    named = {name: getattr(dgm, name) for name in ("mac", "bic", "mlc", "box_l1", "box_giou", "tmg")}
    if lma.text in ("caption", "both"):
        named["cap"] = lma.weight
    if lma.text in ("explanation", "both"):
        named["exp"] = lma.weight
    named["ied"] = lma.ied
    if mgca.mode in ("distill", "supervise"):
        named["mgca"] = mgca.weight
    if mgca.mode == "bias" or (mgca.mode != "none" and mgca.guidance == "predicted"):
        named["mgca_mask"] = mgca.weight
    if pmm.mode != "none":
        named["pmm"] = pmm.weight
    return {name: weight for name, weight in named.items() if weight > 0}


class Objective:
    """Computes the terms of one micro-batch.

    Args:
        config: The run's configuration.
        grid: (rows, columns) of patches.
    """

    def __init__(self, config: Config, grid: tuple[int, int]) -> None:
        self.config = config
        self.grid = grid
        self.weights = weights(config)

    def guidance(self, batch: Batch) -> dict[str, Tensor]:
        """Return the guidance that the model's forward pass takes in mode ``bias``; empty otherwise."""
        if self.config.loss.mgca.mode != "bias":
            return {}
        return {
            "patch_guidance": patch_mask(batch.box, batch.has_box, self.grid),
            "token_guidance": batch.word_labels == 1,
            "guided_rows": batch.labelled,
        }

    def terms(
        self,
        batch: Batch,
        output: ModelOutput,
        momentum: Teaching,
        keys: Keys,
        counts: Counts,
        queues: Queues,
        *,
        start: int,
        temperature: Tensor,
        alpha: float,
        seed: int,
    ) -> dict[str, Tensor]:
        """Return the unweighted terms by name, each a scalar: this micro-batch's share of the global mean.

        Args:
            batch: B rows.
            output: The model's outputs for them.
            momentum: What the momentum model teaches about them.
            keys: Of the effective batch.
            counts: Of the effective batch.
            queues: By modality.
            start: Rows of this process before this micro-batch.
            temperature: (1,), learned.
            alpha: Share of the soft targets at this step.
            seed: Of the random negatives of this step.
        """
        position = keys.offset + start + torch.arange(len(batch), device=batch.index.device)
        found: dict[str, Tensor] = {}
        found |= self._dgm(batch, output, momentum, keys, counts, queues, position, temperature, alpha)
        found |= self._lma(batch, output, keys, counts, queues, position, temperature)
        found |= self._mgca(batch, output, momentum, counts)
        found |= self._pmm(batch, output, momentum, keys, counts, position, seed)
        return {name: found[name] for name in self.weights}

    def _dgm(
        self,
        batch: Batch,
        output: ModelOutput,
        momentum: Teaching,
        keys: Keys,
        counts: Counts,
        queues: Queues,
        position: Tensor,
        temperature: Tensor,
        alpha: float,
    ) -> dict[str, Tensor]:
        labelled = batch.labelled
        if self.config.loss.dgm.box_on_negatives:
            box_rows, boxes = labelled, counts.labelled
        else:
            box_rows, boxes = batch.has_box & labelled, counts.boxes
        found = {
            "bic": losses.bic_loss(output.binary, batch.is_fake, row_mask=labelled, count=counts.labelled),
            "mlc": losses.mlc_loss(output.types, batch.types, row_mask=labelled, count=counts.labelled),
            "box_l1": losses.img_l1_loss(output.box, batch.box, row_mask=box_rows, count=boxes),
            "box_giou": losses.img_giou_loss(output.box, batch.box, row_mask=box_rows, count=boxes),
            "tmg": losses.tmg_loss(
                output.words,
                batch.word_labels,
                soft=momentum.words,
                alpha=alpha,
                row_mask=labelled,
                count=counts.tokens,
            ),
        }
        if "mac" in self.weights:
            found["mac"] = losses.mac_loss(
                output.features.image,
                output.features.text,
                keys.bank("image", queues.get("image")),
                keys.bank("text", queues.get("text")),
                position=position,
                real=labelled & ~batch.is_fake,
                temperature=temperature,
                alpha=alpha,
                row_mask=labelled,
                count=counts.labelled,
            )
        return found

    def _lma(
        self,
        batch: Batch,
        output: ModelOutput,
        keys: Keys,
        counts: Counts,
        queues: Queues,
        position: Tensor,
        temperature: Tensor,
    ) -> dict[str, Tensor]:
        lma = self.config.loss.lma
        queued = queues if lma.queue else {}
        found: dict[str, Tensor] = {}
        features = output.features
        if "cap" in self.weights and features.caption is not None:
            found["cap"] = losses.cap_loss(
                features.image,
                features.caption,
                # Two images of one caption are no negatives of it: images are told apart by their captions.
                keys.bank("image", queued.get("captioned_image"), ids=("caption",)),
                keys.bank("caption", queued.get("caption")),
                position=position,
                mask=batch.caption_mask,
                temperature=temperature,
                count=counts.captions,
            )
        if "exp" in self.weights and features.explanation is not None:
            by_text = lma.explanation_anchor == "text"
            anchor = lma.explanation_anchor
            # A text stands in the data with and without a manipulation, and so with two explanations.
            pair = ("explanation", anchor)
            found["exp"] = losses.exp_loss(
                features.text if by_text else features.image,
                features.explanation,
                keys.bank(anchor, queued.get("explained"), ids=pair),
                keys.bank("explanation", queued.get("explanation"), ids=pair),
                position=position,
                mask=batch.explanation_mask & (batch.labelled & ~batch.is_fake | by_text),
                temperature=temperature,
                # The released code, too, averages over all rows what only its orig rows contribute.
                count=counts.explanations,
            )
        if output.explanation_binary is not None:
            found["ied"] = losses.ied_loss(
                output.explanation_binary,
                batch.is_fake,
                mask=batch.explanation_mask & batch.labelled,
                count=counts.labelled_explanations,
            )
        return found

    def _mgca(
        self, batch: Batch, output: ModelOutput, momentum: Teaching, counts: Counts
    ) -> dict[str, Tensor]:
        mgca = self.config.loss.mgca
        found: dict[str, Tensor] = {}
        patches = patch_mask(batch.box, batch.has_box, self.grid)
        tokens = batch.word_labels == 1
        if "mgca_mask" in self.weights:
            found["mgca_mask"] = self._mask_loss(batch, output, counts, patches, tokens)
        if "mgca" not in self.weights:
            return found
        to_image, to_text = output.fused.text_to_image, output.fused.image_to_text
        if to_image is None or to_text is None:
            raise AssertionError("the model was built without attention scores, which L_MGCA compares")
        rows, row_count = batch.labelled, counts.labelled
        box_count, word_count = counts.boxes, counts.word_rows
        if mgca.guidance == "predicted":
            # Annotated rows have no predicted mask, rows without annotations no other one.
            likely_patches, likely_tokens = momentum.predicted_guidance(batch)
            patches, tokens = patches | likely_patches, tokens | likely_tokens
            rows, row_count = torch.ones_like(rows), counts.rows
            box_count += counts.predicted_boxes
            word_count += counts.predicted_words
        token_mask = output.features.token_mask
        every_patch = torch.ones_like(patches)
        if mgca.mode == "supervise":
            found["mgca"] = losses.mgca_supervise_loss(
                to_image[..., 1:],
                tokens,
                patches,
                query_mask=token_mask,
                key_mask=every_patch,
                row_mask=rows,
                count=row_count,
            )
            return found
        # The collecting vectors are keys as well: guided attention takes from them, too.
        both = (
            losses.mgca_distill_loss(
                to_image,
                pad(patches, (1, 0)),
                query_mask=token_mask,
                key_mask=pad(every_patch, (1, 0), value=True),
                row_mask=patches.any(dim=1) & rows,
                beta=mgca.beta,
                count=box_count,
            ),
            losses.mgca_distill_loss(
                to_text,
                pad(tokens, (1, 0)),
                query_mask=every_patch,
                key_mask=pad(token_mask, (1, 0), value=True),
                row_mask=tokens.any(dim=1) & rows,
                beta=mgca.beta,
                count=word_count,
            ),
        )
        found["mgca"] = (both[0] + both[1]) / 2
        return found

    def _mask_loss(
        self, batch: Batch, output: ModelOutput, counts: Counts, patches: Tensor, tokens: Tensor
    ) -> Tensor:
        loss = losses.mgca_bias_loss(
            output.patch_logits,
            patches,
            key_mask=torch.ones_like(patches),
            row_mask=batch.labelled,
            count=counts.labelled,
        )
        if output.unguided_words is None:
            return loss
        return loss + losses.mgca_bias_loss(
            output.unguided_words[..., 1] - output.unguided_words[..., 0],
            tokens,
            key_mask=batch.text_word >= 0,
            row_mask=batch.labelled,
            count=counts.labelled,
        )

    def _pmm(
        self,
        batch: Batch,
        output: ModelOutput,
        momentum: Teaching,
        keys: Keys,
        counts: Counts,
        position: Tensor,
        seed: int,
    ) -> dict[str, Tensor]:
        pmm = self.config.loss.pmm
        if "pmm" not in self.weights:
            return {}
        region = patch_mask(batch.box, batch.has_box, self.grid)
        rows = batch.has_box & batch.labelled
        if pmm.mode == "border_bce":
            loss = losses.border_bce_loss(
                output.patch_logits, region, self.grid, row_mask=rows, count=counts.border
            )
            return {"pmm": loss}
        if keys.pool is None or keys.pool_negative is None:
            raise AssertionError("the keys were gathered without patches, which L_PMM compares")
        loss = losses.pmm_loss(
            output.patch_embedding,
            momentum.patch_embedding,
            region,
            keys.pool,
            keys.pool_negative,
            row_mask=rows,
            k=pmm.negatives,
            temperature=pmm.temperature,
            hard=pmm.hnp,
            anchors=pmm.anchors,
            seed=seed,
            position=position,
            count=counts.boxes,
        )
        return {"pmm": loss}
