"""The whole evaluation: every figure of the published protocol, and the corrected ones beside them."""

from __future__ import annotations

from training.metrics.binary import binary_metrics
from training.metrics.boxes import box_metrics
from training.metrics.predictions import Predictions
from training.metrics.reading import check
from training.metrics.score import score
from training.metrics.types import type_metrics
from training.metrics.words import word_metrics

Metrics = dict[str, float | list[float] | list[str]]


def evaluate(predictions: Predictions) -> Metrics:
    """Return every figure as a fraction, never NaN.

    Published: auc, acc, eer, map, ap (four), op, or_, of1, cp, cr, cf1, iou_mean, iou50, iou75, iou95,
    tok_acc, tok_precision, tok_recall, tok_f1. Ours: f1_face_swap, f1_face_attribute, f1_text_swap,
    f1_text_attribute, iou_mean_clamped, iou_face_mean, iou_face50, iou_face75, iou_face_mean_unclamped,
    word_acc, word_precision, word_recall, word_f1, score. ``notes`` says which are defined rather than
    measured.

    Raises:
        DataError: A shape does not fit or a value cannot be scored; names the array and the row.
    """
    check(predictions)
    notes: list[str] = []
    found: Metrics = {}
    found |= binary_metrics(predictions.logits_binary, predictions.is_fake, notes)
    found |= type_metrics(predictions.logits_multilabel, predictions.types, notes)
    found |= box_metrics(
        predictions.box_pred_cxcywh, predictions.box_true_cxcywh, predictions.face_edited, notes
    )
    found |= word_metrics(predictions.logits_token, predictions.token_label, predictions.token_word, notes)
    found["score"] = score(found)
    found["notes"] = notes
    return found
