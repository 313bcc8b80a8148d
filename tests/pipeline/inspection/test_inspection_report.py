from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.__main__ import build_parser, main
from pipeline.cli.inspect import render
from pipeline.inspection import Options, write_page
from pipeline.prompts import load_prompt
from pipeline.shards.snapshot import write_snapshot
from schemas import empty_table, schema_of
from tests.builders import sample_row
from tests.pipeline.inspection.conftest import NASTY
from tests.pipeline.inspection.tables import caption, write_samples, write_texts


class Elements(HTMLParser):
    """Every element of a page with its attributes, and all text outside of script and style."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.inside = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""
        self.text += " " if tag in ("dt", "dd", "td", "th", "p") else ""

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.text += data

    def of(self, tag, css_class=""):
        return [
            attrs
            for name, attrs in self.found
            if name == tag and css_class in (attrs.get("class") or "").split(" ") + [""]
        ]


def page_of(out, to, **options):
    summary = write_page(Options(out=out, to=to, **options))
    page = to.read_text("utf-8")
    assert len(to.read_bytes()) == summary["bytes"]
    return page, summary


@pytest.fixture(scope="module")
def page(world, tmp_path_factory):
    return page_of(world.out, tmp_path_factory.mktemp("page") / "report.html")[0]


def test_the_command_writes_the_page_and_says_what_is_on_it(world, tmp_path, capsys):
    to = tmp_path / "report.html"
    assert main(["inspect", "--out", str(world.out), "--to", str(to), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary == {
        "to": str(to),
        "bytes": to.stat().st_size,
        "split": None,
        "seed": 0,
        "shown": 48,
        "available": 48,
        "shown_for_flags_or_failures": 10,
        "pictures_missing": 0,
        "samples": 48,
        "captions": 11,
        "explanations": 46,
        "flagged": {"captions": {"repetition": 1}, "explanations": {"truncated": 1}},
        "set_aside": {"captions": 0, "explanations": 0},
        "failures": 3,
        "quarantined": 9,
        "quarantined_by_reason": {"empty_text": 7, "inverted_box": 2},
    }
    assert main(["inspect", "--out", str(world.out), "--to", str(to), "--split", "val", "--limit", "5"]) == 0
    assert "5 of 16 samples of the val split" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_no_text_of_the_data_becomes_markup(page):
    elements = Elements(page)
    assert len(elements.of("script")) == len(elements.of("style")) == 1
    assert not elements.of("b") and not elements.of("i")
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in elements.of("img"))
    assert not any(name.startswith("on") for _, attrs in elements.found for name in attrs)
    assert not any("style" in attrs for _, attrs in elements.found)


@pytest.mark.parametrize("text", NASTY)
def test_texts_arrive_as_they_are(page, text):
    shown = re.sub(r"\s+", " ", Elements(page).text)
    assert " ".join(text.split()) in shown


def test_the_page_names_no_other_resource_and_forbids_them(page):
    elements = Elements(page)
    policy = next(attrs["content"] for attrs in elements.of("meta") if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    for _, attrs in elements.found:
        for name in ("src", "href"):
            if attrs.get(name):
                assert attrs[name].startswith(("data:", "#"))
    assert "url(" not in page and "@import" not in page


def test_the_saving_of_one_caption_per_image_is_said(page):
    shown = re.sub(r"\s+", " ", Elements(page).text)
    assert "They show 12 distinct images in 12 files. Each is captioned once: 36 captions saved." in shown


def test_alt_texts_are_captions(page):
    alts = [attrs["alt"] for attrs in Elements(page).of("img")]
    assert len(alts) == 48
    assert alts.count("a person at gate 5") == 4
    # The picture whose caption failed is described by its news text.
    assert sum(alt.startswith("No caption; the news text is: ") for alt in alts) == 4


def test_boxes_are_drawn_in_pixels_of_the_upright_picture(world, page):
    boxes = Elements(page).of("rect", "line")
    assert len(boxes) == sum(row["fake_image_box"] is not None for row in world.rows)
    assert all((b["x"], b["y"], b["width"], b["height"]) == ("20.0", "10.0", "60.0", "80.0") for b in boxes)
    turned = [attrs for attrs in Elements(page).of("svg", "box") if attrs["viewbox"] == "0 0 210 280"]
    assert turned, "the picture stored sideways is drawn upright"


def test_failures_and_quarantine_are_listed_with_meaning_and_examples(page):
    text = re.sub(r"\s+", " ", Elements(page).text)
    assert "image unreadable in captions: the image file did not decode (all permanent)" in text
    assert "2 engine error in explanations" in text
    assert "7 empty text text is empty or only white space" in text
    assert "5 of 7." in text
    assert '"text": "<b>bold</b>"' in text


def test_the_same_seed_writes_the_same_page_but_for_the_time(world, tmp_path):
    pages = [page_of(world.out, tmp_path / f"{n}.html", limit=10, seed=n // 2)[0] for n in range(4)]
    bare = [re.sub(r"<p>Written .*?</p>", "", page) for page in pages]
    assert bare[0] == bare[1] != bare[2] == bare[3]


def test_a_page_of_samples_only_waits_for_the_texts(world, tmp_path):
    write_samples(tmp_path / "out", world.rows, image_root=world.root)
    page, summary = page_of(tmp_path / "out", tmp_path / "report.html")
    elements = Elements(page)
    assert (summary["captions"], summary["explanations"], summary["shown"]) == (0, 0, 48)
    assert not elements.of("section", "caption") and not elements.of("section", "explanation")
    assert "What there is to write about" in page
    assert page.count("not begun") == 2


def test_a_text_not_written_yet_says_so(world, tmp_path):
    write_samples(tmp_path / "out", world.rows, image_root=world.root)
    write_texts(tmp_path / "out", "captions", [caption("key0", "a gate")])
    page, _ = page_of(tmp_path / "out", tmp_path / "report.html")
    assert page.count("Not written yet.") == 44


def test_an_empty_table_makes_a_page(tmp_path):
    write_snapshot(tmp_path / "out", "samples", [empty_table("samples")], info={"image_root": "/nowhere"})
    write_texts(tmp_path / "out", "captions", [])
    page, summary = page_of(tmp_path / "out", tmp_path / "report.html")
    assert (summary["samples"], summary["shown"]) == (0, 0)
    assert "There are no samples." in page


def test_a_page_without_places_still_has_the_figures(world, tmp_path):
    page, summary = page_of(world.out, tmp_path / "report.html", limit=0)
    assert summary["shown"] == 0
    assert "No sample to show." in page and "median" in page


def test_missing_pictures_become_placeholders(world, tmp_path):
    write_samples(tmp_path / "out", world.rows, image_root=tmp_path / "moved")
    page, summary = page_of(tmp_path / "out", tmp_path / "report.html")
    assert summary["pictures_missing"] == 48
    elements = Elements(page)
    assert not elements.of("img")
    assert len(elements.of("button", "missing")) == 48
    # Where the face was can still be told from the recorded size.
    assert len(elements.of("rect", "edge")) == sum(row["fake_image_box"] is not None for row in world.rows)
    _, summary = page_of(tmp_path / "out", tmp_path / "report.html", image_root=world.root)
    assert summary["pictures_missing"] == 0


def test_samples_whose_images_were_never_read_are_shown(world, tmp_path):
    rows = [row | {"image_key": None, "width": None, "height": None} for row in world.rows]
    write_samples(tmp_path / "out", rows, image_root=world.root)
    write_texts(tmp_path / "out", "captions", [caption("key0", "a gate")])
    _, summary = page_of(tmp_path / "out", tmp_path / "report.html")
    assert (summary["shown"], summary["pictures_missing"]) == (48, 0)


def test_a_prompt_is_quoted_only_when_its_bytes_are_the_ones_that_were_used(world, tmp_path):
    write_samples(tmp_path / "out", world.rows, image_root=world.root)
    prompt = load_prompt("caption-v1")
    ids = [prompt.prompt_id, "caption-v1:12345678", "../caption-v1:12345678", "/etc/passwd.txt:12345678"]
    rows = [caption(f"key{n}", "a gate", prompt_id=prompt_id) for n, prompt_id in enumerate(ids)]
    write_texts(tmp_path / "out", "captions", rows)
    page, _ = page_of(tmp_path / "out", tmp_path / "report.html")
    assert page.count(f'<pre tabindex="0">{prompt.text.strip()}</pre>') == 1
    assert page.count("Its file is not among the templates") == 3


def test_what_changes_texts_is_on_the_page(world, tmp_path):
    write_samples(tmp_path / "out", world.rows, image_root=world.root)
    fields = {"model": "hub/name", "revision": "abc123", "generation.seed": 1234}
    write_texts(tmp_path / "out", "captions", [caption("key0", "a gate")], fields=fields)
    text = Elements(page_of(tmp_path / "out", tmp_path / "report.html")[0]).text
    for name, value in fields.items():
        assert re.search(rf"{re.escape(name)}\s*{value}", text)


def test_a_damaged_shard_is_named_and_left_out(world, tmp_path):
    write_samples(tmp_path / "out", world.rows, image_root=world.root)
    write_texts(tmp_path / "out", "captions", [caption("key0", "a gate")])
    next((tmp_path / "out" / "captions").glob("v-*/shard-*.parquet")).write_bytes(b"")
    page, summary = page_of(tmp_path / "out", tmp_path / "report.html")
    assert summary["captions"] == 0
    assert "A shard of captions was left out" in page


def test_two_hundred_noisy_pictures_stay_below_8_mb(tmp_path):
    root = tmp_path / "pictures"
    root.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (400, 520, 3), np.uint8)
    rows = []
    for n in range(300):
        if n < 20:
            Image.fromarray(np.roll(noise, n, axis=0)).save(root / f"{n}.jpg", quality=90)
        words = [f"word{k}" for k in range(500)]
        changes = {
            "text": " ".join(words),
            "words": words,
            "original_text": " ".join(words[:250]),
            "original_from": "id",
        }
        rows.append(sample_row(n, f"key{n}", f"{n % 20}.jpg", fake_cls="text_swap", **changes))
    write_samples(tmp_path / "out", rows, image_root=root)
    _, summary = page_of(tmp_path / "out", tmp_path / "report.html")
    assert summary["shown"] == 200
    assert 2e6 < summary["bytes"] < 8e6


def test_an_old_page_is_replaced_whole_or_stays(world, tmp_path, monkeypatch):
    to = tmp_path / "report.html"
    to.write_text("old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    assert main(["inspect", "--out", str(world.out), "--to", str(to), "--limit", "1"]) == 2
    assert to.read_text() == "old"
    assert list(tmp_path.iterdir()) == [to]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "{tmp}/empty", "--to", "{tmp}/report.html"], "pipeline ingest"),
        (["--out", "{out}", "--to", "{tmp}"], "is a folder"),
        (["--out", "{out}", "--to", "{tmp}/no/report.html"], "does not exist"),
        (["--out", "{out}", "--to", "{tmp}/report.html", "--image-root", "{tmp}/no"], "no such folder"),
    ],
)
def test_bad_usage_is_explained(world, tmp_path, capsys, arguments, message):
    filled = [argument.format(tmp=tmp_path, out=world.out) for argument in arguments]
    assert main(["inspect", *filled]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_totals_of_ingest_are_in_words_and_settings_as_they_are_configured(world, tmp_path):
    out = tmp_path / "out"
    table = pa.Table.from_pylist(world.rows, schema=schema_of("samples"))
    ingest = {"rows_read": 12345, "duplicates": 7, "by_split": {"train": 16}, "images": {"exif_rotated": 3}}
    info = {"image_root": "/home/someone/pictures", "sources": [{"file": "/home/someone/train.json"}]}
    write_snapshot(out, "samples", [table], info=info | {"ingest": ingest})
    fields = {"weights": "ab" * 32, "generation.max_new_tokens": 1024, "trust_remote_code": False}
    write_texts(out, "captions", [caption("key0", "a gate")], fields=fields)
    page, _ = page_of(out, tmp_path / "report.html", image_root=world.root)
    text = re.sub(r"\s+", " ", Elements(page).text)
    assert "rows read 12,345" in text and "duplicates 7" in text and "images.exif_rotated 3" in text
    assert "weights abababababababab… " in text and f"weights {'ab' * 32}" in text
    assert "generation.max_new_tokens 1024" in text and "trust_remote_code no" in text
    assert "/home/someone" not in page


def test_the_command_shows_as_many_samples_as_the_library_by_default():
    args = build_parser(["inspect"]).parse_args(["inspect", "--out", "o", "--to", "t"])
    assert args.limit == Options(out=args.out, to=args.to).limit
    with pytest.raises(SystemExit) as error:
        build_parser(["inspect"]).parse_args(["inspect", "--out", "o", "--to", "t", "--limit", "-1"])
    assert error.value.code == 2


def test_rates_of_the_gates_and_rows_set_aside_are_on_the_page(tmp_path):
    from pipeline.config import load_config
    from pipeline.run import generate_table
    from tests.builders import ECHO_CONFIG
    from tests.builders import write_samples as write_pictures

    write_pictures(tmp_path / "out", 40)
    (tmp_path / "echo.yaml").write_text(ECHO_CONFIG)
    loops = [
        "models.captioner.echo.loop_share=0.5",
        "captions.gates={policy: {repetition: regenerate}, attempts: 1, after_attempts: quarantine}",
    ]
    summary = generate_table("captions", load_config(tmp_path / "echo.yaml", loops), tmp_path / "out")
    page, said = page_of(tmp_path / "out", tmp_path / "report.html")
    assert said["set_aside"] == {"captions": summary.quarantined, "explanations": 0} and summary.quarantined
    assert f", set aside by gates {summary.quarantined}\n" in render(said) + "\n"
    counts = summary.gates["repetition"]
    row = [counts[name] for name in ("raised", "regenerated", "cured", "quarantined", "kept")]
    raised, *rest = (f">{number}</td>" for number in row)
    cells = re.findall(r'class="number"(>[\d,]+</td>)', page[page.index('aria-label="Gates"') :])
    assert cells[:5] == [raised, *rest]
    assert page.count("Set aside by a gate") == summary.quarantined
