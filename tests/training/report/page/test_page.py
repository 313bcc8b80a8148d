from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from training.errors import DataError, UsageError
from training.report.page import write_page
from training.report.page.__main__ import main
from training.report.page.saved import read_saved
from training.report.page.tables import comparison, group_table, main_table
from training.report.page.type_intervals import intervals_by_type
from training.report.page.worlds import World, kind_of, world_of, world_of_kinds

SECTIONS = {"figures", "types", "curves", "operating", "confusion", "gallery", "origin"}


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The evaluation without its page, to be changed."""
    to = tmp_path / "copy"
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("report.html", "rows"))
    return to


def text(folder: Path) -> str:
    return (folder / "report.html").read_text("utf-8")


def change(copy: Path, **values: object) -> dict:
    metrics = json.loads((copy / "metrics.json").read_text()) | values
    (copy / "metrics.json").write_text(json.dumps(metrics))
    return metrics


def test_the_page_has_every_section_and_its_figures(folder: Path) -> None:
    page, metrics = text(folder), json.loads((folder / "metrics.json").read_text())
    assert set(re.findall(r'<section id="(\w+)"', page)) == SECTIONS
    assert set(re.findall(r'id="plot-(\w+)"', page)) == {"roc", "recall", "scores", "reliability", "iou"}
    low, high = (metrics["intervals"]["figures"]["auc"][end] for end in ("low", "high"))
    assert f"{100 * metrics['auc']:.2f}<small>{100 * low:.1f} to {100 * high:.1f}</small>" in page
    for name in ("HAMMER", "ASAP", "CSCL", "94.38", "face swap + text attribute", "loss.lma.text"):
        assert name in page
    assert all(note in page for note in metrics["notes"] if "'" not in note)


def test_every_plot_has_axes_with_labels_a_title_and_a_text_alternative(folder: Path) -> None:
    figures = re.findall(r'<figure class="plot".*?</figure>', text(folder), re.DOTALL)
    assert len(figures) == 5
    for figure in figures:
        assert len(re.findall(r'class="axis-name"[^>]*>[^<]*%<', figure)) == 2
        title = re.search(r'class="title">([^<]+)<', figure)[1]
        assert re.search(rf'role="img" aria-label="{re.escape(title)}\. [^"]{{20,}}"', figure)
        assert figure.count('text-anchor="end"') >= 3, "ticks of the y axis have labels"


def test_nothing_is_loaded_from_outside_and_texts_are_escaped(folder: Path) -> None:
    page = text(folder)
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(source.startswith(("data:", "#")) for source in sources) and len(sources) > 10
    assert "<script" not in page and "<b>bold" not in page
    assert "&lt;script&gt;window.hacked=1&lt;/script&gt;" in page
    assert "{{ 7 * 7 }}" in page, "a text is no template"
    assert "\x00" not in page and "\N{REPLACEMENT CHARACTER}" in page
    assert "url(" not in page and "@import" not in page
    assert len(page.encode()) < 3_000_000


def test_the_gallery_draws_boxes_words_and_verdicts(folder: Path) -> None:
    page = text(folder)
    cards = re.findall(r'<article class="card".*?</article>', page, re.DOTALL)
    assert cards and all('src="data:image/jpeg;base64,' in card for card in cards)
    assert "true-box" in page and re.search(r'<mark class="(hit|lost|alarm)">', page)
    assert all(re.search(r'class="verdict (right|wrong)"', card) for card in cards)
    names = re.findall(r"<footer><code>(\w+)</code>", page)
    assert len(names) == len(set(names)) == len(cards), "no row is shown twice"


def test_figures_on_other_data_are_called_not_comparable(folder: Path, copy: Path) -> None:
    assert "are not comparable" in text(folder) and "another data set" in text(folder)
    metrics = change(copy)
    assert not comparison(metrics | {"split": "val", "rows": 50_000}, "dgm4")[0]
    assert not comparison(metrics | {"rows": 50_000, "limit": 50_000}, "dgm4")[0]
    may, sentence = comparison(metrics | {"rows": 50_000}, "dgm4")
    assert may and "comparable only if tables is DGM4" in sentence


@pytest.mark.parametrize("world", ["newsroom", "other"])
def test_other_data_are_not_comparable_however_many_rows_there_are(copy: Path, world: World) -> None:
    may, sentence = comparison(change(copy, rows=50_705, data="/data/dgm4"), world)
    assert not may and "are not comparable" in sentence
    assert ("newsroom" in sentence) is (world == "newsroom")


def test_whose_pictures_were_evaluated_is_told_by_their_paths(folder: Path, tmp_path: Path) -> None:
    from demo.newsroom.world import generate_items

    def of(paths: list[str]) -> str:
        return world_of_kinds(Counter(map(kind_of, paths)))

    drawn = [item.image.removeprefix("DGM4/") for item in generate_items(60, seed=3)]
    assert of(drawn) == "newsroom"
    dgm4 = ["manipulation/simswap/768092-043064-simswap.jpg", "origin/bbc/0001/0002.jpg"]
    assert of(dgm4) == "dgm4" and of(["images/1.jpg", *dgm4]) == "other" and of([]) == "other"
    assert of(dgm4[1:]) == "other", "no manipulated picture: nothing says whose they are"
    saved = read_saved(folder)
    assert world_of(saved) == "other"
    (tmp_path / ".drawn-with").touch()
    assert world_of(replace(saved, image_root=tmp_path)) == "newsroom"


def test_tables_stand_beside_the_published_figures(copy: Path) -> None:
    metrics = change(copy)
    rows = main_table(metrics, "ours")
    assert [row.ours for row in rows] == [True] + [False] * 6
    hammer = {row.source: [cell.text for cell in row.cells[:5]] for row in rows if row.name == "HAMMER"}
    assert list(hammer.values()) == [
        ["93.19", "86.39", "86.22", "71.35", "76.45"],
        ["93.09", "86.42", "87.20", "72.22", "76.10"],
    ]
    assert len(hammer) == 2, "each says where it was printed"
    asap = next(row for row in rows if row.name == "ASAP")
    assert [cell.text for cell in asap.cells] == ["94.38", "87.71", "88.53", "76.52", "77.35", "–", "–"]
    joint = group_table(metrics, {})[-1]
    assert [cell.text for cell in joint.cells] == ["94.45", "–", "73.72", "–", "75.23"]


def test_rows_by_manipulation_have_their_intervals(folder: Path) -> None:
    saved = read_saved(folder)
    spans = intervals_by_type(saved.predictions, saved.clusters(), 50)
    found = group_table(saved.metrics, spans["groups"])
    ours = [row for row in found if row.ours]
    assert len(ours) == 3 and all(row.cells[1].note for row in ours)
    assert not any(cell.note for row in found if not row.ours for cell in row.cells)
    low, high = spans["groups"]["joint"]["acc"]
    assert low <= saved.metrics["by_type"]["groups"]["joint"]["acc"] <= high
    assert f"<small>{100 * low:.1f} to {100 * high:.1f}</small>" in text(folder).partition('id="types"')[2]


def test_the_page_is_made_anew_from_the_saved_files_without_the_model(
    folder: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--metrics", str(copy)]) == 0
    assert capsys.readouterr().out.strip() == str(copy / "report.html")
    assert text(copy) == text(folder)
    assert not list(copy.glob(".tmp-*"))


def test_pictures_that_are_gone_leave_their_frame_and_the_reason(
    folder: Path, copy: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    write_page(copy, image_root=tmp_path / "elsewhere")
    page = text(copy)
    assert "could not be shown" in page and "No picture: the image of sample" in page
    assert "<img" not in page and "true-box" in page and str(tmp_path / "elsewhere") not in page


def test_intervals_may_be_missing(copy: Path) -> None:
    metrics = change(copy)
    change(copy, intervals=metrics["intervals"] | {"figures": {}, "draws": 0})
    write_page(copy)
    assert "95% interval" not in text(copy)


def test_what_is_not_there_is_told(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--metrics", str(tmp_path / "nowhere")]) == 2
    assert "metrics.json is not there; run python training/evaluate.py" in capsys.readouterr().err
    with pytest.raises(DataError, match="name the tables' folder with --data"):
        write_page(copy, data=tmp_path / "nowhere")
    change(copy, rows=3)
    with pytest.raises(DataError, match="are not of one evaluation"):
        write_page(copy)
    (copy / "metrics.json").write_text('{"auc": 1}')
    with pytest.raises(DataError, match="has no data, split.*evaluate again"):
        write_page(copy)
    (copy / "metrics.json").write_text("{")
    with pytest.raises(DataError, match="is no JSON"):
        write_page(copy)


def test_samples_that_are_gone_are_told(folder: Path) -> None:
    with pytest.raises(DataError, match="has no feed.*ingested anew"):
        read_saved(folder).samples(["feed"])


def test_a_page_that_cannot_be_written_is_told(copy: Path) -> None:
    (copy / "report.html").mkdir()
    with pytest.raises(UsageError, match="report.html cannot be written"):
        write_page(copy)
