from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from schemas.vocabulary import FAKE_CLS
from tests.builders import sample_row
from tests.pipeline.inspection.tables import (
    caption,
    draw_picture,
    explanation,
    failure,
    write_quarantine,
    write_samples,
    write_texts,
)

NASTY = (
    "<script>window.hacked = 1</script><img src=x onerror=hacked=2>",
    "quotes \" ' ` and & &amp; &lt;b&gt; </style></title>",
    "line\u2028separator and\u2029paragraph",
    "שלום עולם \u202eabc\u202c مرحبا",
    "{{ 7 * 7 }} {% raw %} ${1} %s",
)
"""Texts that would do harm, or look like it, were they taken for anything but text."""

COUNT = 48
PICTURES = 12


def write_world(folder: Path) -> SimpleNamespace:
    """Write 48 samples of all classes with captions, explanations, failures and quarantine."""
    root = folder / "pictures"
    for number in range(PICTURES):
        orientation = 6 if number == 3 else None
        draw_picture(
            root / f"{number}.jpg",
            (160 + 40 * (number % 4), 120 + 30 * (number % 5)),
            orientation=orientation,
        )
    rows = []
    for n in range(COUNT):
        number = n % PICTURES
        width, height = 160 + 40 * (number % 4), 120 + 30 * (number % 5)
        if number == 3:
            width, height = height, width
        row = sample_row(
            n,
            f"key{number}",
            f"{number}.jpg",
            fake_cls=FAKE_CLS[n % 9],
            width=width,
            height=height,
            source_id=n,
        )
        if row["fake_image_box"]:
            row["fake_image_box"] = [20.0, 10.0, 80.0, 90.0]
        if n < len(NASTY):
            row |= {"text": NASTY[n], "words": NASTY[n].split()}
            row["fake_text_pos"] = [0] if row["fake_text_pos"] else []
        rows.append(row)
    out = folder / "out"
    write_samples(out, rows, image_root=root)
    write_quarantine(
        out,
        [
            {
                "source_file": "train.json",
                "source_row": n,
                "reason": "empty_text" if n < 7 else "inverted_box",
                "message": f"row {n}: {NASTY[n % len(NASTY)]}",
                "raw": '{"text": "<b>bold</b>", "id": 1}' if n else "not JSON <i>",
            }
            for n in range(9)
        ],
    )
    write_texts(
        out,
        "captions",
        [
            caption(f"key{n}", f"a person at gate {n}", ["repetition"] if n == 2 else [])
            for n in range(PICTURES - 1)
        ],
        [failure("captions", f"key{PICTURES - 1}", "image_unreadable", permanent=True, message=NASTY[0])],
    )
    texts = [
        explanation(
            row, NASTY[n] if n < len(NASTY) else f"The text says {n}.", ["truncated"] if n == 9 else []
        )
        for n, row in enumerate(rows[:-2])
    ]
    write_texts(out, "explanations", texts, [failure("explanations", row["sample_id"]) for row in rows[-2:]])
    return SimpleNamespace(out=out, root=root, rows=rows)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("inspection"))
