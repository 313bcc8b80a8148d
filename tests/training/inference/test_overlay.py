from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.errors import TrainingError
from training.inference import fonts
from training.inference.describe import describe, percent
from training.inference.fonts import undrawable
from training.inference.overlay import boxed, can_save, letters_lost, open_picture, overlay, save_picture
from training.inference.panel import panel, problem
from training.inference.verdict import Box, Thresholds, Verdict

RED = (198, 40, 40)
TYPES = {"face_swap": 0.9, "face_attribute": 0.1, "text_swap": 0.0, "text_attribute": 0.7}


def verdict(
    text: str = "A <b>happy</b> man", box: Box | None = (10.0, 20.0, 60.0, 70.0), **changes
) -> Verdict:
    words = tuple((word, 0.97 if n == 1 else 0.02) for n, word in enumerate(text.split()))
    given = {
        "p_fake": 0.93,
        "is_fake": True,
        "types": TYPES,
        "box": box,
        "image_size": (100, 80),
        "words": words,
        "flagged": (1,) if len(words) > 1 else (),
        "words_not_read": 0,
        "thresholds": Thresholds(),
    }
    return Verdict(**(given | changes))


def columns_and_rows_of(picture: Image.Image, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.nonzero((np.asarray(picture) == colour).all(axis=2))
    return columns, rows


def test_the_box_is_drawn_where_it_is() -> None:
    # At the bottom of the picture, so that the tag above it is inside and aligned with its left edge.
    shown = boxed(Image.new("RGB", (700, 560), "blue"), verdict(box=(100.0, 200.0, 600.0, 500.0)))
    columns, rows = columns_and_rows_of(shown, RED)
    below = rows > 220
    assert abs(columns[below].min() - 100) <= 4 and abs(columns[below].max() - 600) <= 4
    assert abs(rows.max() - 500) <= 4


def test_without_a_box_nothing_is_drawn_on_the_picture() -> None:
    shown = boxed(Image.new("RGB", (700, 560), "blue"), verdict(box=None))
    assert shown.getcolors() == [(700 * 560, (0, 0, 255))]


@pytest.mark.parametrize("size", [(1, 1), (5, 3000), (3000, 5), (4000, 3000), (64, 64)])
def test_pictures_of_any_size_get_a_panel(size: tuple[int, int]) -> None:
    page = overlay(Image.new("RGB", size, "blue"), verdict(image_size=size, box=None))
    assert 560 <= page.width <= 1400 and page.height <= 2200
    assert (0, 0, 255) in {colour for _, colour in page.getcolors(page.width * page.height)}


def test_a_longer_text_makes_a_taller_panel_and_keeps_its_width() -> None:
    picture = Image.new("RGB", (600, 300), "blue")
    short, long = overlay(picture, verdict("one two")), overlay(picture, verdict("word " * 45 + "x" * 300))
    assert long.width == short.width and long.height > short.height + 100


def test_flagged_words_and_words_not_read_change_the_page() -> None:
    picture = Image.new("RGB", (600, 300), "blue")
    plain, marked = overlay(picture, verdict(flagged=())), overlay(picture, verdict())
    assert len(columns_and_rows_of(marked, (255, 217, 212))[0]) > 200
    assert len(columns_and_rows_of(plain, (255, 217, 212))[0]) == 0
    assert overlay(picture, verdict(words_not_read=3)).height > marked.height


def test_the_picture_is_drawn_upright_and_transparency_is_white(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # its first row is the right side, its first column the top
    stored = Image.new("RGBA", (40, 20), (0, 255, 0, 0))
    stored.paste((255, 0, 0, 255), (0, 0, 10, 20))
    stored.save(tmp_path / "p.png", exif=exif)
    found = open_picture(tmp_path / "p.png")
    assert found.size == (20, 40)
    assert {found.getpixel((x, y)) for x in (1, 18) for y in (1, 8)} == {(255, 0, 0)}, "the top"
    assert {found.getpixel((x, y)) for x in (1, 18) for y in (12, 38)} == {(255, 255, 255)}


@pytest.mark.parametrize(("kind", "name"), [("uint16", "p.png"), ("float32", "p.tif"), ("int32", "p.tif")])
def test_deep_pictures_are_drawn_as_the_model_sees_them(kind: str, name: str, tmp_path: Path) -> None:
    full = 1.0 if kind == "float32" else 65535
    ramp = np.tile(np.linspace(0, full, 64), (32, 1)).astype(kind)
    Image.fromarray(ramp).save(tmp_path / name)
    shown = np.asarray(open_picture(tmp_path / name))[0, :, 0].astype(int)
    assert np.abs(shown - np.linspace(0, 255, 64)).max() <= 1


def block_font(folder: Path, letters: str) -> None:
    """Install a font for fontconfig in which every letter is a full square."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 900), (900, 900), (900, 0)):
        pen.lineTo(point)
    pen.closePath()
    made = FontBuilder(1000, isTTF=True)
    made.setupGlyphOrder([".notdef", "block"])
    made.setupCharacterMap(dict.fromkeys(map(ord, letters), "block"))
    made.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "block": pen.glyph()})
    made.setupHorizontalMetrics(dict.fromkeys((".notdef", "block"), (1000, 0)))
    made.setupHorizontalHeader(ascent=900, descent=-100)
    made.setupNameTable({"familyName": "Blocks", "styleName": "Regular"})
    made.setupOS2(sTypoAscender=900, usWinAscent=900, usWinDescent=100)
    made.setupPost()
    folder.mkdir(parents=True)
    made.save(folder / "Blocks-Regular.ttf")


@pytest.mark.skipif(shutil.which("fc-list") is None, reason="fontconfig finds the fonts")
def test_letters_that_the_own_font_lacks_are_drawn_with_one_that_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = "\ue123\ue124"  # private: no installed font can have them
    assert undrawable(f"A {letters}") == letters
    block_font(tmp_path / "fonts", letters)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    for cached in (fonts._found, fonts._of_fontconfig, fonts._letters):
        cached.cache_clear()
    try:
        assert undrawable(f"A {letters}") == ""
        font = fonts.font_of(letters, 20)
        assert font.getname()[0] == "Blocks" and fonts.font_of("A man", 20).getname()[0] == "DejaVu Sans"
        picture = Image.new("RGB", (600, 300), "blue")
        drawn = np.asarray(overlay(picture, verdict(f"A {letters}", flagged=(), box=None)))
        assert (drawn[300:] == (27, 31, 36)).all(axis=2).sum() > 500, "squares full of ink, not empty boxes"
    finally:
        for cached in (fonts._found, fonts._of_fontconfig, fonts._letters):
            cached.cache_clear()


def test_letters_of_no_font_are_told_in_the_picture() -> None:
    lost = verdict("A \ue123 man", flagged=())
    assert letters_lost(verdict()) is None
    assert "no font here has the letters of UNNAMED" in str(letters_lost(lost))
    assert fonts.scripts_of("中ไ") == ["CJK", "THAI"]
    picture = Image.new("RGB", (600, 300), "blue")
    assert overlay(picture, lost).height > overlay(picture, verdict("A x man", flagged=())).height


def test_only_names_of_formats_that_take_colours_can_be_saved() -> None:
    assert all(can_save(Path(f"o.{kind}")) for kind in ("png", "JPG", "webp"))
    assert not any(can_save(Path(f"o.{kind}")) for kind in ("xbm", "txt", "")), "xbm is black and white"


def test_a_picture_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    save_picture(Image.new("RGB", (4, 4)), tmp_path / "new" / "p.png")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["p.png"]
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="could not be written"):
        save_picture(Image.new("RGB", (4, 4)), tmp_path / "file" / "p.png")


def test_texts_are_escaped_in_html() -> None:
    page = panel(verdict())
    assert "&lt;b&gt;happy&lt;/b&gt;" in page and "<b>" not in page
    assert "<mark" in page and "97%" in page
    assert "&lt;script&gt;" in problem("<script>")
    unlikely = panel(verdict(p_fake=0.0001, words=(("A", 0.0001), ("man", 0.0001)), flagged=(1,)))
    assert unlikely.count("&lt; 0.1 %") == 3 and "< 0.1 %" not in unlikely


def test_a_description_marks_words_and_says_what_was_not_read() -> None:
    told = describe(verdict("A happy man", words_not_read=2))
    assert "A [happy] man" in told and "10, 20, 60, 70 of 100 x 80" in told
    assert "2 more words were not read" in told
    assert "no edited face" in describe(verdict(box=None))


def test_a_probability_is_never_rounded_to_certainty() -> None:
    assert [percent(p) for p in (0.0, 0.0006, 0.5, 0.9994, 1.0)] == [
        "< 0.1 %",
        "0.1 %",
        "50.0 %",
        "99.9 %",
        "> 99.9 %",
    ]
