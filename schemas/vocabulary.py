"""The closed vocabularies of the tables: every value a column may hold, with its meaning.

Sources: the DGM4 annotation format (nine ``fake_cls`` strings, four manipulation types) and the project's own
codes for rejected rows, failed generations and text flags.
"""

from __future__ import annotations

SPLITS = ("train", "val", "test")
"""Splits in the order training uses them."""

SPLIT_PRIORITY = ("test", "val", "train")
"""Where a row that leaks into several splits is kept: the split that is evaluated wins."""

IMAGE_TYPES = ("face_swap", "face_attribute")
TEXT_TYPES = ("text_swap", "text_attribute")
MANIPULATION_TYPES = IMAGE_TYPES + TEXT_TYPES
"""Multi-label order used by the published protocol: FS, FA, TS, TA."""

FAKE_CLS = (
    "orig",
    *MANIPULATION_TYPES,
    *(f"{image}&{text}" for image in IMAGE_TYPES for text in TEXT_TYPES),
)
"""The nine values of ``fake_cls``."""

EXPLANATION_KINDS = ("manipulation", "description")
ORIGINAL_FROM = ("id", "image_path")
FINISH_REASONS = ("stop", "length")

QUARANTINE_REASONS = {
    "malformed_row": "the row is not an object, or a required field is missing or of the wrong type",
    "unknown_fake_cls": "fake_cls is not one of the nine DGM4 values",
    "text_not_string": "text is not a string",
    "empty_text": "text is empty or only white space",
    "malformed_box": "fake_image_box is not four finite numbers",
    "inverted_box": "fake_image_box has x2 < x1 or y2 < y1",
    "zero_area_box": "fake_image_box has no area",
    "box_outside_image": "fake_image_box lies wholly outside the image",
    "label_box_mismatch": "fake_cls names a face manipulation without a box, or the reverse",
    "label_positions_mismatch": "fake_cls names a text manipulation without positions, or the reverse",
    "position_outside_text": "fake_text_pos holds something that is not the index of a word of the text",
    "missing_image": "the image file does not exist below the image root",
    "unreadable_image": "the image file does not decode",
    "truncated_image": "the image file ends before the picture does",
    "decompression_bomb": "the image has more pixels than allowed",
    "path_outside_root": "the image path is empty, absolute or leaves the image root",
    "conflicting_duplicate": "the same id, image and text stand elsewhere with another annotation",
}
"""Why a source row was set aside at ingest: code to meaning."""

ERROR_CLASSES = {
    "image_missing": "the image file was not there when the caption was to be written",
    "image_unreadable": "the image file did not decode",
    "prompt_too_long": "prompt and answer do not fit the model's context",
    "empty_prompt": "the prompt has no tokens",
    "out_of_memory": "the row alone did not fit the device's memory",
    "engine_error": "the engine raised on this row alone",
    "engine_dead": "the engine died and did not come back",
}
"""Why a planned key has no text: code to meaning. Whether it is permanent stands on each row."""

FLAGS = {
    "empty": "the text is empty or has no letters",
    "truncated": "the text was cut at the token limit",
    "prompt_echo": "the text repeats its prompt",
    "repetition": "the text loops over the same words",
    "wrong_language": "the text has letters of another script than Latin that its prompt has not",
    "refusal": "the model declined to answer, or spoke about itself",
    "misses_change": "an explanation of a manipulation that names none of the changed words",
    "image_mismatch": "CLIP finds that caption and image do not agree",
}
"""What a gate noticed about a generated text: code to meaning."""


def text_manipulated(fake_cls: str) -> bool:
    """Return whether ``fake_cls`` names a text manipulation."""
    return any(part in TEXT_TYPES for part in fake_cls.split("&"))


def face_manipulated(fake_cls: str) -> bool:
    """Return whether ``fake_cls`` names a face manipulation."""
    return any(part in IMAGE_TYPES for part in fake_cls.split("&"))
