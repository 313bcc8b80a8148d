"""A DGM4 folder with every defect that ingest knows, planted in otherwise good data.

``write_defective_folder`` is what end-to-end tests call; ``expected`` is what they should find.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.pipeline.ingest.builder import TEXT, row, write_image, write_images

Place = tuple[str, int]
"""Annotation file name and 0-based row."""


@dataclass(frozen=True)
class Defective:
    """What was written.

    Attributes:
        data: The DGM4 folder, for ``--data``.
        expected: Place of every row that belongs in the quarantine, with its code.
        rows: Rows written.
        duplicates: Rows that repeat another.
        leaked: Those of them whose other stands in another split.
        clamped: Samples whose box is cut at the image's edge.
    """

    data: Path
    expected: dict[Place, str]
    rows: int
    duplicates: int
    leaked: int
    clamped: int

    @property
    def samples(self) -> int:
        """Rows that must become samples."""
        return self.rows - self.duplicates - len(self.expected)

    @property
    def by_reason(self) -> dict[str, int]:
        """Number of rows per code."""
        return dict(Counter(self.expected.values()))


# Each entry: code, and the row as it is wrong. Numbers keep ids and images apart from the good rows.
ROW_DEFECTS: list[tuple[str, Any]] = [
    ("malformed_row", "not an object"),
    ("malformed_row", None),
    ("malformed_row", ["a", "list"]),
    ("malformed_row", {"id": 900, "text": "fields are missing"}),
    ("malformed_row", row(901, id="901")),
    ("malformed_row", row(902, id=None)),
    ("malformed_row", row(903, id=True)),
    ("malformed_row", row(904, id=2**70)),
    ("malformed_row", row(905, image=None)),
    ("malformed_row", row(906, image=17)),
    ("unknown_fake_cls", row(910) | {"fake_cls": "face_swapp"}),
    ("unknown_fake_cls", row(911) | {"fake_cls": None}),
    ("unknown_fake_cls", row(912, "text_swap&face_swap")),
    ("unknown_fake_cls", row(913) | {"fake_cls": ["orig"]}),
    ("text_not_string", row(920, text=None)),
    ("text_not_string", row(921, text=["words", "in", "a", "list"])),
    ("text_not_string", row(922, text="half a pair \ud83d here")),
    ("text_not_string", row(923, text="a NUL \0 here")),
    ("empty_text", row(924, text="")),
    ("empty_text", row(925, text=" \t\n\u2003")),
    ("malformed_box", row(930, "face_swap", fake_image_box=[4, 6, 20])),
    ("malformed_box", row(931, "face_swap", fake_image_box=[4, 6, 20, 22, 24])),
    ("malformed_box", row(932, "face_swap", fake_image_box=[4, 6, "20", 22])),
    ("malformed_box", row(933, "face_swap", fake_image_box=[4, 6, None, 22])),
    ("malformed_box", row(934, "face_swap", fake_image_box=[4, 6, True, 22])),
    ("malformed_box", row(935, "face_swap", fake_image_box=[4, 6, float("nan"), 22])),
    ("malformed_box", row(936, "face_swap", fake_image_box=[4, 6, float("inf"), 22])),
    ("malformed_box", row(937, "face_swap", fake_image_box={"x1": 4})),
    ("malformed_box", row(938, "face_swap", fake_image_box=[[4, 6, 20, 22]])),
    ("malformed_box", row(939, "face_swap", fake_image_box=[4, 6, 10**400, 22])),
    ("inverted_box", row(940, "face_attribute", fake_image_box=[20, 6, 4, 22])),
    ("inverted_box", row(941, "face_attribute", fake_image_box=[4, 22, 20, 6])),
    ("zero_area_box", row(942, "face_swap", fake_image_box=[4, 6, 4, 22])),
    ("zero_area_box", row(943, "face_swap", fake_image_box=[0, 0, 0, 0])),
    ("box_outside_image", row(944, "face_swap", fake_image_box=[40, 6, 60, 22])),
    ("box_outside_image", row(945, "face_swap", fake_image_box=[4, 500, 20, 520])),
    ("box_outside_image", row(946, "face_swap", fake_image_box=[-20, 6, -4, 22])),
    ("label_box_mismatch", row(950, "face_swap", fake_image_box=[])),
    ("label_box_mismatch", row(951, "face_swap&text_swap", fake_image_box=None)),
    ("label_box_mismatch", row(952, "orig", fake_image_box=[4, 6, 20, 22])),
    ("label_positions_mismatch", row(953, "text_swap", fake_text_pos=[])),
    ("label_positions_mismatch", row(954, "orig", fake_text_pos=[1])),
    ("position_outside_text", row(955, "text_swap", fake_text_pos=[3, 99])),
    ("position_outside_text", row(956, "text_swap", fake_text_pos=[-1])),
    ("position_outside_text", row(957, "text_attribute", fake_text_pos=[1.5])),
    ("position_outside_text", row(958, "text_attribute", fake_text_pos=["4"])),
    ("position_outside_text", row(959, "text_attribute", fake_text_pos=4)),
    ("path_outside_root", row(960, image="DGM4/../../etc/passwd")),
    ("path_outside_root", row(961, image="/etc/passwd")),
    ("path_outside_root", row(962, image="")),
    ("path_outside_root", row(963, image="DGM4\\origin\\a.jpg")),
    ("path_outside_root", row(964, image="C:/pictures/a.jpg")),
]
"""Rows whose annotation alone is wrong (two of the three boxes outside the image need the image to tell)."""

IMAGE_DEFECTS = {
    "missing_image": 970,
    "unreadable_image": 971,
    "truncated_image": 972,
    "decompression_bomb": 973,
}
"""Rows whose image file is wrong; the number is the row's."""


def good_rows() -> dict[str, list[dict[str, Any]]]:
    """Return valid rows of all nine classes, by split, with the originals of the manipulated texts."""
    train = [
        row(1),
        row(2, "face_swap"),
        row(3, "face_attribute", fake_image_box=[-5, 6.5, 20, 900]),
        row(1, "text_swap", image=row(1)["image"], text=TEXT.replace("smiles", "frowns")),
        row(5, "text_attribute"),
        row(6, "face_swap&text_swap"),
        row(7, "face_swap&text_attribute"),
        row(8, "face_attribute&text_swap"),
        row(9, "face_attribute&text_attribute"),
    ]
    return {"train": train, "val": [row(20), row(21, "face_swap")], "test": [row(30), row(31, "text_swap")]}


def write_defective_folder(folder: Path) -> Defective:
    """Write the folder; every code of the quarantine is planted at least once."""
    splits: dict[str, list[Any]] = {**good_rows()}
    for rows in splits.values():
        write_images(folder, rows)
    expected: dict[Place, str] = {}
    for code, bad in ROW_DEFECTS:
        expected["train.json", len(splits["train"])] = code
        splits["train"].append(bad)
        if code == "box_outside_image":
            write_image(folder / bad["image"])
    for code, number in IMAGE_DEFECTS.items():
        bad = row(number)
        expected["val.json", len(splits["val"])] = code
        splits["val"].append(bad)
        plant_image(folder / bad["image"], code)
    # The same annotation twice in one split, and once more in another; and one that contradicts another.
    splits["train"] += [row(1), row(20)]
    splits["val"].append(row(30))
    expected["train.json", len(splits["train"])] = "conflicting_duplicate"
    splits["train"].append(row(21, "face_swap", fake_image_box=[1, 1, 9, 9]))
    for split, rows in splits.items():
        path = folder / "metadata" / f"{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows))
    return Defective(
        data=folder,
        expected=expected,
        rows=sum(map(len, splits.values())),
        duplicates=3,
        leaked=2,
        clamped=1,
    )


def plant_image(path: Path, code: str) -> None:
    """Write an image file with a defect."""
    if code == "missing_image":
        return
    write_image(path, (90, 80))
    if code == "truncated_image":
        path.write_bytes(path.read_bytes()[:-500])
    elif code == "unreadable_image":
        path.write_bytes(b"<html>404 Not Found</html>" * 20)
    elif code == "decompression_bomb":
        path.write_bytes(bomb_png(20_000, 20_000))


def bomb_png(width: int, height: int) -> bytes:
    """Return a tiny PNG file that claims to be huge."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
