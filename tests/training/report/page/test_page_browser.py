from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser


def show(browser: Any, folder: Path, *, scheme: str = "light", width: int = 1280, media: str = "") -> Any:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get("about:blank")
    browser.get((folder / "report.html").as_uri())
    return browser


def test_the_page_opens_without_errors_requests_or_injected_code(browser: Any, folder: Path) -> None:
    page = show(browser, folder)
    assert page.get_log("browser") == []
    assert page.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert page.execute_script("return window.hacked") is None
    assert page.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")


@pytest.mark.parametrize(("media", "width"), [("", 400), ("", 720), ("", 1280), ("print", 720)])
def test_the_page_never_scrolls_sideways(browser: Any, folder: Path, width: int, media: str) -> None:
    page = show(browser, folder, width=width, media=media)
    wide = page.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide[0] <= wide[1]


def test_colours_follow_the_readers_scheme(browser: Any, folder: Path) -> None:
    ask = (
        "const s = (q, p) => getComputedStyle(document.querySelector(q))[p];"
        "return [s('body', 'backgroundColor'), s('body', 'color'), s('.plot .curve', 'stroke')]"
    )
    light = show(browser, folder).execute_script(ask)
    dark = show(browser, folder, scheme="dark").execute_script(ask)
    assert all(one != other for one, other in zip(light, dark, strict=True))
    printed = show(browser, folder, scheme="dark", media="print").execute_script(ask)
    assert printed[0] == "rgb(255, 255, 255)", "paper is white whatever the screen is"


def test_boxes_lie_on_the_picture_where_the_face_is(browser: Any, folder: Path) -> None:
    # Pictures are 48 x 32 and the edited face is at 6, 4 to 30, 28, in a frame of 4 : 3.
    page = show(browser, folder)
    found = page.execute_script(
        "const r = document.querySelector('.box .true-box'), f = r.closest('.frame').getBoundingClientRect();"
        "const b = r.getBoundingClientRect(), s = f.width / 48, top = f.top + (f.height - 32 * s) / 2;"
        "return [(b.left - f.left) / s, (b.top - top) / s, b.width / s, b.height / s]"
    )
    assert found == pytest.approx([6, 4, 24, 24], abs=0.6)


def test_no_text_of_a_plot_leaves_it(browser: Any, folder: Path) -> None:
    page = show(browser, folder, width=400)
    outside = page.execute_script(
        "return [...document.querySelectorAll('.plot svg[role=img]')].flatMap(s => {"
        " const f = s.getBoundingClientRect();"
        " return [...s.querySelectorAll('text')].filter(t => { const b = t.getBoundingClientRect();"
        "  return b.left < f.left - 1 || b.right > f.right + 4 || b.top < f.top - 2"
        "   || b.bottom > f.bottom + 1;"
        " }).map(t => t.textContent) })"
    )
    assert outside == []


def test_the_page_prints(browser: Any, folder: Path) -> None:
    page = show(browser, folder)
    made = page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert base64.b64decode(made["data"]).startswith(b"%PDF")
