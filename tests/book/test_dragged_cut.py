"""The cut that can be dragged, alone from file://: what it shows is what was computed."""

import json
import re
from pathlib import Path

import pytest
from compactvision import dragged_cut

PROBE = (Path(__file__).parent / "probe.js").read_text()
SHOWN = 24
THEMES = {"light": "background: #fff; color: #323232", "dark": "background: #121212; color: #ced6dd"}
RULES = ("l1", "taylor", "energy", "relevance", "scale", "lot", "reverse")
STATES = {
    ("", False): "cut",
    ("renewed", False): "renewed",
    ("reconstructed", False): "reconstructed",
    ("", True): "ghost",
    ("renewed", True): "ghost renewed",
}
STICKING = """
() => {
  const { right } = document.getElementById("cv-drag").getBoundingClientRect();
  const beyond = (e) => e.getBoundingClientRect().right > right + 1;
  return [...document.querySelectorAll("#cv-drag *")].filter(beyond).map((e) => e.outerHTML.slice(0, 60));
}
"""
NAMELESS = """
() => [...document.querySelectorAll("#cv-drag :is(input, button, svg, [role=img])")].filter((e) =>
  !(e.ariaLabel || e.ariaHidden === "true" || e.labels?.[0]?.textContent.trim() || e.textContent.trim())).length
"""


@pytest.fixture(scope="module")
def known(repo):
    text = (repo / "book" / "_static" / "dragged-cut-data.js").read_text()
    return json.loads(text.removeprefix("window.cvDraggedCut = ").rstrip().removesuffix(";"))


@pytest.fixture(scope="module")
def address(repo, tmp_path_factory):
    """Of the picture alone, in folders as in the built book."""
    folder = tmp_path_factory.mktemp("site")
    static = repo / "book" / "_static"
    (folder / "_static").mkdir()
    (folder / "book").mkdir()
    for name in ("dragged-cut-data.js", "dragged-cut.js", "compact.css"):
        (folder / "_static" / name).write_text((static / name).read_text())
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    sheets = "".join(f"html[data-theme={theme}] body {{ {colours} }}" for theme, colours in THEMES.items())
    sheets += "a { color: var(--pst-color-link); }"  # as the theme has it
    style = f'<title>Cut</title><link rel="stylesheet" href="../_static/compact.css"><style>{sheets}</style>'
    page = folder / "book" / "cut.html"
    page.write_text(f"{head}{style}<body>{(static / 'dragged-cut.html').read_text()}</body></html>")
    return page.as_uri()


@pytest.fixture
def picture(browser, address):
    """The picture on a telephone, opened by a chapter's link; fails afterwards where it reported or asked anything."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, reduced_motion="reduce")
    page = context.new_page()
    wrong = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda asked: wrong.append(asked.url))
    page.on("request", lambda asked: wrong.append(asked.url) if asked.url.startswith("http") else None)
    page.set_default_timeout(30_000)
    page.goto(f"{address}#cut-by-energy")
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    page.wait_for_function("document.getElementById('cv-drag-says').textContent")
    yield page
    assert wrong == []
    context.close()


def digits(text, count):
    numbers = [text[place : place + 5] for place in range(0, len(text), 5)]
    value = {letter: place for place, letter in enumerate(dragged_cut.ALPHABET)}
    return "".join(f"{sum(value[c] * 64 ** (4 - i) for i, c in enumerate(five)):09d}" for five in numbers)[:count]


def misread(known, order, state, place):
    answers = digits(known["orders"][order]["answers"][state][place], len(known["targets"]))
    return [(i, a, t) for i, (a, t) in enumerate(zip(answers, known["targets"], strict=True)) if a != t]


def drag(page, place):
    """Move the handle to the budget at this place."""
    page.locator("#cv-drag-budget").evaluate(
        "(e, place) => { e.value = e.max - place; e.dispatchEvent(new Event('input', { bubbles: true })); }", place
    )


@pytest.mark.parametrize("rule", RULES)
def test_rules_budgets_and_switches_show_what_was_computed(rule, picture, known):
    picture.locator(f"input[value={rule}]").check()
    order = "lot0" if rule == "lot" else rule
    names = known["classes"]
    for place in (0, 3, 6):
        drag(picture, place)
        assert f"{known['budgets'][place]}\u00a0% of MACs" == picture.locator("#cv-drag-share").inner_text()
        for (mend, masked), state in STATES.items():
            if state not in known["orders"][order]["answers"]:
                assert picture.locator(f"input[value={mend}]").is_disabled(), (rule, state)
                continue
            picture.locator("#cv-drag-ghost").set_checked(masked)
            picture.locator(f"input[name=cv-drag-mend][value='{mend}']").check()
            wrong = misread(known, order, state, place)
            total = len(known["targets"])
            says = picture.locator("#cv-drag-says").inner_text()
            assert says.startswith(f"{total - len(wrong)} of {total} characters read right"), (place, state)
            assert ("a mask saves nothing" in says) == (masked and place > 0)
            shown = picture.locator("#cv-drag-misread span").all_inner_texts()
            assert shown == [f"{names[int(t)]} → {names[int(a)]}" for _, a, t in wrong[:SHOWN]]
            gone = sum(letter != "." and ord(letter) - ord("a") <= place for letter in known["orders"][order]["gone"])
            assert picture.locator("#cv-drag-net .gone").count() == (0 if masked else gone)
            assert picture.locator("#cv-drag-net .masked").count() == (gone if masked else 0)
        picture.locator("#cv-drag-ghost").set_checked(False)


def test_the_link_of_a_chapter_chooses_its_rule(picture, address):
    assert picture.locator("input[name=cv-drag-rule]:checked").get_attribute("value") == "energy"
    picture.goto(f"{address}#cut-by-scale")
    picture.wait_for_function("document.querySelector('input[value=scale]').checked")
    picture.goto(f"{address}#somewhere-else")
    assert picture.locator("input[name=cv-drag-rule]:checked").get_attribute("value") == "scale"


def test_links_of_chapters_and_of_the_picture_lead_somewhere(repo, picture):
    page = (repo / "book" / "cut.md").read_text()
    values = picture.locator("input[name=cv-drag-rule]").evaluate_all("all => all.map(e => e.value)")
    assert values == list(RULES)
    assert [f"(cut-by-{rule})=" in page for rule in values] == [True] * len(values)
    linked = "".join(path.read_text() for path in (repo / "notebooks").glob("*.ipynb"))
    assert set(re.findall(r"#cut-by-(\w+)", linked)) <= set(values)
    found = set()
    for rule in values:
        picture.locator(f"input[value={rule}]").check()
        found |= set(picture.locator("#cv-drag-rule a").evaluate_all("all => all.map(e => e.getAttribute('href'))"))
    assert len(found) == 3
    for href in found:
        assert (repo / "notebooks" / Path(href).with_suffix(".ipynb").name).is_file(), href


def test_the_network_is_drawn_channel_by_channel(picture, known):
    """And the numbers beside streams and blocks count what is not faded."""
    assert picture.locator("#cv-drag-net .channel").count() == sum(size for *_, size in known["groups"])
    drag(picture, 4)
    kept = [int(re.search(r"\d+", text)[0]) for text in picture.locator("#cv-drag-net text").all_text_contents()]
    begin, expected = 0, []
    for *_, size in known["groups"]:
        letters = known["orders"]["energy"]["gone"][begin : begin + size]
        expected.append(sum(letter == "." or ord(letter) - ord("a") > 4 for letter in letters))
        begin += size
    assert kept == expected


def test_the_ring_stands_on_the_curve(picture, known):
    for place in (1, 6):
        drag(picture, place)
        right = len(known["targets"]) - len(misread(known, "energy", "cut", place))
        label = picture.locator("#cv-drag-curve").get_attribute("aria-label")
        share = f"{right / len(known['targets']):.3f}"
        assert re.search(rf"(\d+) % at {known['budgets'][place]} %", label)[1] in {
            str(round(100 * float(share) - 0.01)),
            str(round(100 * float(share) + 0.01)),
        }
        ring, dot = (
            picture.locator(where).bounding_box()
            for where in ("#cv-drag-curve .here", f"#cv-drag-curve .dot >> nth={place}")
        )
        for side, size in (("x", "width"), ("y", "height")):
            assert ring[side] + ring[size] / 2 == pytest.approx(dot[side] + dot[size] / 2, abs=0.6)


def test_the_ghost_cannot_be_reconstructed(picture):
    least = picture.locator("input[value=reconstructed]")
    least.check()
    picture.locator("#cv-drag-ghost").check()
    assert least.is_disabled()
    assert picture.locator("input[name=cv-drag-mend]:checked").get_attribute("value") == ""
    picture.locator("#cv-drag-ghost").uncheck()
    assert least.is_enabled()


def test_it_works_by_keyboard_alone(picture, known):
    picture.locator("input[value=energy]").focus()
    picture.keyboard.press("ArrowDown")
    assert picture.locator("input[name=cv-drag-rule]:checked").get_attribute("value") == "relevance"
    for _ in range(2):
        picture.keyboard.press("ArrowDown")
    assert picture.locator("#cv-drag-lots").is_visible()
    picture.keyboard.press("Tab")
    before = picture.locator("#cv-drag-net .gone").count(), picture.locator("#cv-drag-net").inner_html()
    picture.keyboard.press("Enter")
    assert picture.locator("#cv-drag-net").inner_html() != before[1], "other lots"
    picture.keyboard.press("Tab")
    picture.keyboard.press("ArrowDown")
    assert picture.locator("input[value=renewed]").is_checked()
    picture.keyboard.press("Tab")
    picture.keyboard.press("Space")
    assert picture.locator("#cv-drag-ghost").is_checked()
    picture.keyboard.press("Tab")
    picture.keyboard.press("ArrowLeft")
    place = known["budgets"].index(80) + 1
    assert (
        picture.locator("#cv-drag-budget").get_attribute("aria-valuetext")
        == f"{known['budgets'][place]} percent of the MACs"
    )
    wrong = misread(known, "lot1", "ghost renewed", place)
    assert picture.locator("#cv-drag-says").inner_text().startswith(f"{200 - len(wrong)} of 200")


def test_every_control_has_a_name(picture):
    assert picture.evaluate(NAMELESS) == 0


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out(picture, width):
    picture.set_viewport_size({"width": width, "height": 900})
    for place in (2, 7):
        drag(picture, place)
        picture.locator("#cv-drag-ghost").set_checked(place == 7)
        assert picture.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert picture.evaluate(STICKING) == []


@pytest.mark.parametrize("theme", THEMES)
def test_words_stand_out_from_their_ground(picture, theme):
    picture.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
    drag(picture, 5)
    seen = picture.evaluate(PROBE)
    assert seen["texts"] > 40
    assert seen["faint"] == {}
