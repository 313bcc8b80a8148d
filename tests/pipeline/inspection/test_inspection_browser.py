from __future__ import annotations

import json

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from pipeline.inspection import Options, write_page
from tests.pipeline.inspection.conftest import NASTY

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def url(world, tmp_path_factory):
    to = tmp_path_factory.mktemp("page") / "report.html"
    write_page(Options(out=world.out, to=to))
    return to.as_uri()


@pytest.fixture
def page(browser, url):
    emulate(browser)
    browser.get("about:blank")
    browser.get(url)
    return browser


def emulate(browser, *, scheme="light", media="", width=1280, height=900):
    # Without smooth scrolling a click lands where the element stands.
    motion = {"name": "prefers-reduced-motion", "value": "reduce"}
    features = [{"name": "prefers-color-scheme", "value": scheme}, motion]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def shown(page):
    return page.execute_script(
        "return [...document.querySelectorAll('#cards > .card:not([hidden])')].map(c => ({...c.dataset}))"
    )


def choose(page, name, value):
    Select(page.find_element(By.NAME, name)).select_by_value(value)


def press(page, *keys):
    page.switch_to.active_element.send_keys(*keys)


def test_the_page_opens_without_errors_requests_or_injected_code(page):
    assert page.find_element(By.TAG_NAME, "h1").text == "What the models wrote"
    assert page.execute_script("return window.hacked") is None
    assert page.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert page.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert page.get_log("browser") == []


def test_texts_are_on_the_page_character_for_character(page):
    texts = page.execute_script(
        "return [...document.querySelectorAll('.explanation > p:not(.meta)')].map(p => p.textContent)"
    )
    assert set(NASTY) <= set(texts)


def test_code_that_got_into_the_page_would_not_run(page):
    page.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.hacked = 3';"
        "document.body.append(s); const i = new Image(); i.src = 'http://localhost:9/x.png';"
        "document.body.append(i);"
    )
    WebDriverWait(page, 5).until(lambda _: len(log := page.get_log("browser")) >= 2 and refused(log))
    assert page.execute_script("return window.hacked") is None


def refused(log):
    return all("Content Security Policy" in entry["message"] for entry in log)


@pytest.mark.parametrize(
    ("name", "value", "test"),
    [
        ("split", "val", lambda card: card["split"] == "val"),
        ("cls", "face_swap&text_swap", lambda card: card["cls"] == "face_swap&text_swap"),
        ("cls", "~text_attribute", lambda card: "text_attribute" in card["cls"].split("&")),
        ("kind", "manipulation", lambda card: card["kind"] == "manipulation"),
        ("notice", "any", lambda card: card["notices"] != ""),
        ("notice", "none", lambda card: card["notices"] == ""),
        ("notice", "captions:repetition", lambda card: "captions:repetition" in card["notices"].split()),
    ],
)
def test_a_filter_shows_exactly_the_samples_that_match(page, name, value, test):
    everything = shown(page)
    choose(page, name, value)
    expected = [card for card in everything if test(card)]
    assert 0 < len(expected) < len(everything)
    assert shown(page) == expected
    assert page.find_element(By.ID, "found").text == f"{len(expected)} of 48 samples"
    page.find_element(By.ID, "clear").click()
    assert len(shown(page)) == 48
    assert page.find_element(By.ID, "found").text == "48 samples"


def test_filters_add_up_and_no_match_says_so(page):
    choose(page, "split", "val")
    choose(page, "kind", "description")
    assert all(card["split"] == "val" and card["kind"] == "description" for card in shown(page))
    page.find_element(By.NAME, "q").send_keys("nothing holds these words")
    assert shown(page) == []
    assert page.find_element(By.ID, "nothing").is_displayed()
    page.find_element(By.ID, "clear-too").click()
    assert len(shown(page)) == 48


@pytest.mark.parametrize("query", ["SAYS 17.", "17. says", "the text says 17."])
def test_search_finds_words_in_any_case_and_order(page, query):
    page.find_element(By.NAME, "q").send_keys(query)
    assert len(shown(page)) == 1
    visible = page.find_element(By.CSS_SELECTOR, "#cards > .card:not([hidden])")
    assert "The text says 17." in visible.text


def test_filters_survive_a_reload_and_a_class_of_the_table_filters_the_gallery(page, url):
    page.find_element(By.LINK_TEXT, "text swap").click()
    WebDriverWait(page, 5).until(lambda _: {card["cls"] for card in shown(page)} == {"text_swap"})
    page.refresh()
    assert {card["cls"] for card in shown(page)} == {"text_swap"}
    page.get("about:blank")
    page.get(url + "#show:notice=explanations%3Atruncated&split=train")
    assert [card["notices"] for card in shown(page)] == ["explanations:truncated"]
    page.get("about:blank")
    page.get(url + "#show:cls=no_such_class")
    assert shown(page) == []
    assert page.get_log("browser") == []


def test_the_gallery_works_from_the_keyboard(page):
    body = page.find_element(By.TAG_NAME, "body")
    body.send_keys("j")
    assert page.execute_script("return document.activeElement.closest('.card').ariaLabel") == "Sample 1"
    press(page, "j")
    press(page, "j")
    press(page, "k")
    assert page.execute_script("return document.activeElement.closest('.card').ariaLabel") == "Sample 2"
    press(page, Keys.ENTER)
    viewer = page.find_element(By.ID, "viewer")
    assert viewer.is_displayed()
    assert page.find_element(By.ID, "position").text == "2 of 48"
    press(page, Keys.ARROW_RIGHT)
    press(page, Keys.ARROW_RIGHT)
    press(page, Keys.ARROW_LEFT)
    assert page.find_element(By.ID, "position").text == "3 of 48"
    press(page, Keys.ESCAPE)
    assert not viewer.is_displayed()
    assert page.execute_script("return document.activeElement.closest('.card').ariaLabel") == "Sample 3"
    press(page, "/")
    assert page.switch_to.active_element.get_attribute("name") == "q"
    press(page, "jkb")
    assert page.switch_to.active_element.get_attribute("value") == "jkb"


def test_the_viewer_walks_through_the_samples_that_the_filters_leave(page):
    choose(page, "split", "test")
    page.execute_script("document.querySelector('#cards > .card:not([hidden]) .frame').click()")
    seen = []
    for _ in range(16):
        seen.append(page.execute_script("return document.querySelector('#stage .card').dataset.split"))
        page.find_element(By.ID, "next").click()
    assert seen == ["test"] * 16
    assert page.find_element(By.ID, "position").text == "1 of 16"
    page.find_element(By.ID, "close").click()
    assert not page.find_element(By.ID, "viewer").is_displayed()


def test_boxes_can_be_hidden(page):
    box = page.find_element(By.CSS_SELECTOR, "#cards .box")
    assert box.is_displayed()
    page.find_element(By.TAG_NAME, "body").send_keys("b")
    assert not box.is_displayed()
    page.find_element(By.NAME, "boxes").click()
    assert box.is_displayed()


def test_a_box_lies_on_the_face_wherever_the_picture_stands_in_its_frame(page):
    placed = page.execute_script("""
      const cards = [...document.querySelectorAll('#cards > .card')].filter(c => c.querySelector('.line'));
      return cards.map(card => {
        const image = card.querySelector('img'), area = image.getBoundingClientRect();
        const scale = Math.min(area.width / image.naturalWidth, area.height / image.naturalHeight);
        const left = area.left + (area.width - image.naturalWidth * scale) / 2;
        const top = area.top + (area.height - image.naturalHeight * scale) / 2;
        const m = card.querySelector('.line').getScreenCTM();
        const ratio = image.naturalWidth / card.querySelector('.box').viewBox.baseVal.width;
        return [(20 * m.a + m.e - left) / scale, (10 * m.d + m.f - top) / scale, m.a / scale, ratio];
      })""")
    assert len(placed) > 20
    for x, y, zoom, ratio in placed:
        assert (x, y, zoom) == pytest.approx((20 * ratio, 10 * ratio, ratio), abs=0.5)


CONTRASTS = """
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const rgba = (colour, under) => {
  canvas.fillStyle = `rgb(${under})`; canvas.fillRect(0, 0, 1, 1);
  canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const ground = (element) => {
  if (!element) return [255, 255, 255];
  return rgba(getComputedStyle(element).backgroundColor, ground(element.parentElement));
};
const light = (c) => c.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const seen = new Map();
for (const element of document.querySelectorAll('body *')) {
  if (element.closest('svg, script') || !element.checkVisibility()) continue;
  if (![...element.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
  const under = ground(element), over = rgba(getComputedStyle(element).color, under);
  const [a, b] = [light(under), light(over)].sort((x, y) => y - x);
  seen.set(`${element.tagName}.${element.className} ${over} on ${under}`, (a + .05) / (b + .05));
}
return JSON.stringify([...seen]);
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(page, scheme):
    emulate(page, scheme=scheme)
    contrasts = dict(json.loads(page.execute_script(CONTRASTS)))
    assert len(contrasts) > 40
    # 4.5 is WCAG 2.2, success criterion 1.4.3.
    assert {what: round(ratio, 2) for what, ratio in contrasts.items() if ratio < 4.5} == {}


def test_dark_mode_is_dark(page):
    def ground():
        return page.execute_script(
            "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        )

    assert min(ground()) > 200
    emulate(page, scheme="dark")
    assert max(ground()) < 60


@pytest.mark.parametrize("width", [320, 390, 800])
def test_nothing_is_wider_than_the_screen(page, width):
    emulate(page, width=width, height=844)
    page_width, room = page.execute_script(
        "const e = document.documentElement; return [e.scrollWidth, e.clientWidth]"
    )
    assert page_width == room
    page.execute_script("document.querySelector('#cards .frame').click()")
    assert page.execute_script("return document.getElementById('viewer').scrollWidth") <= width


def test_controls_have_names_and_headings_have_order(page):
    unnamed = page.execute_script("""
      const controls = [...document.querySelectorAll('button, input, select, a')];
      const named = e => e.textContent.trim() || e.ariaLabel || (e.labels && e.labels.length);
      return controls.filter(e => e.checkVisibility() && !named(e)).map(e => e.outerHTML)""")
    assert unnamed == []
    levels = page.execute_script(
        "return [...document.querySelectorAll('h1, h2, h3')].map(h => +h.tagName[1])"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))


def test_on_paper_the_controls_are_gone_and_all_is_light(page):
    emulate(page, media="print", scheme="dark")
    assert not page.find_element(By.ID, "filters").is_displayed()
    assert (
        page.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    )
    assert page.execute_script("return getComputedStyle(document.querySelector('.card')).display") == "block"
