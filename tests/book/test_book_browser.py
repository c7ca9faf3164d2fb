"""The pages as a reader sees them: opened from the folder in headless Chromium, with no network."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200)]  # the first test opens every page

PROBE = (Path(__file__).parent / "probe.js").read_text()
TELEPHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
OUTLINE = "(style => `${style.outlineStyle} ${style.outlineWidth}`)(getComputedStyle(document.activeElement))"
TYPESET = "async () => { if (window.MathJax?.startup) await MathJax.startup.promise; }"


@dataclass
class Visit:
    """What one page did while it was opened at two widths and in two themes."""

    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    telephone: dict = field(default_factory=dict)
    desk: dict = field(default_factory=dict)


def _watch(page) -> Visit:
    visit = Visit()

    def on_console(message):
        if message.type in ("error", "warning"):
            visit.console.append(message.text)

    def on_request(request):
        if not request.url.startswith(("file:", "data:", "blob:")):
            visit.requests.append(request.url)

    def on_failure(request):
        if request.failure != "net::ERR_ABORTED":  # leaving a page aborts what it still loads
            visit.requests.append(f"{request.failure}: {request.url}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: visit.console.append(str(error)))
    page.on("request", on_request)
    page.on("requestfailed", on_failure)
    return visit


@pytest.fixture(scope="module")
def visits(browser, site, html_files, address):
    """Every page, opened once: light on a telephone, then dark on a desk."""
    found = {}
    context = browser.new_context(viewport=TELEPHONE, color_scheme="light", reduced_motion="reduce")
    context.route("http*://**", lambda route: route.abort())
    for path in html_files:
        name = path.relative_to(site).as_posix()
        page = context.new_page()
        visit = found[name] = _watch(page)
        page.goto(address(name))
        page.evaluate(TYPESET)
        visit.telephone = page.evaluate(PROBE)
        page.set_viewport_size(DESK)
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
        visit.desk = page.evaluate(PROBE)
        page.close()
    context.close()
    return found


def _collect(visits, look):
    return {name: seen for name, visit in visits.items() if (seen := look(visit))}


def test_every_page_has_visible_text_in_both_themes(visits, documents):
    assert {f"{document}.html" for document in documents} <= set(visits)
    assert _collect(visits, lambda visit: min(visit.telephone["texts"], visit.desk["texts"]) < 5) == {}


def test_no_page_reports_an_error(visits):
    assert _collect(visits, lambda visit: visit.console) == {}


def test_no_page_asks_another_host_or_misses_a_file(visits):
    assert _collect(visits, lambda visit: visit.requests) == {}


def test_mathematics_is_drawn(visits):
    assert visits["book/notation.html"].telephone["formulas"] > 30
    assert (
        _collect(visits, lambda visit: visit.desk["undrawn"] + visit.desk["mistakes"] + visit.desk["rawMathematics"])
        == {}
    )


@pytest.mark.parametrize("width", ["telephone", "desk"])
def test_no_page_scrolls_sideways(visits, width):
    assert _collect(visits, lambda visit: max(0, getattr(visit, width)["overflow"])) == {}


def test_text_of_figures_can_be_read_on_a_telephone(visits):
    assert _collect(visits, lambda visit: visit.telephone["smallText"]) == {}


@pytest.mark.parametrize("width", ["telephone", "desk"])
def test_no_formula_is_cut_or_covers_its_number(visits, width):
    assert _collect(visits, lambda visit: getattr(visit, width)["coveredNumbers"]) == {}
    assert _collect(visits, lambda visit: getattr(visit, width)["cutFormulas"]) == {}


def test_no_table_or_figure_is_cut_on_a_desk(visits):
    assert _collect(visits, lambda visit: visit.desk["cutBoxes"]) == {}


@pytest.mark.parametrize(("theme", "width"), [("light", "telephone"), ("dark", "desk")])
def test_text_stands_out_from_its_background(visits, theme, width):
    assert _collect(visits, lambda visit: getattr(visit, width)["faint"]) == {}, theme


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport=DESK, color_scheme="light")
    context.route("http*://**", lambda route: route.abort())
    page = context.new_page()
    page.set_default_timeout(10_000)
    yield page
    context.close()


def _background(page) -> str:
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_the_theme_follows_the_system_and_the_button(page, address):
    page.goto(address("book/intro.html"))
    light = _background(page)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    dark = _background(page)
    assert light != dark
    seen = set()
    for _ in range(3):  # automatic, light, dark
        page.locator(".theme-switch-button:visible").first.click()
        seen.add((page.evaluate("document.documentElement.dataset.mode"), _background(page)))
    assert seen == {("auto", dark), ("light", light), ("dark", dark)}


def test_search_works_from_the_folder(page, address):
    visit = _watch(page)
    page.goto(address("book/intro.html"))
    page.keyboard.press("Control+k")
    page.keyboard.type("MAC")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a")
    page.wait_for_function("document.querySelector('.search-summary')?.textContent.includes('found')")
    hits = page.eval_on_selector_all("#search-results li a", "links => links.map(link => link.getAttribute('href'))")
    assert any(hit.startswith("book/notation.html") for hit in hits), hits
    page.locator("#search-results li a[href^='book/notation.html']").first.click()
    page.wait_for_url("**/book/notation.html*")
    assert visit.console == []
    assert visit.requests == []


def test_search_finds_nothing_where_nothing_is(page, address):
    page.goto(address("search.html", "?q=qqzzxx"))
    page.wait_for_function(
        "document.querySelector('#search-results').textContent.includes('did not match any documents')"
    )
    assert page.locator("#search-results li").count() == 0


def test_focus_is_visible(page, address):
    page.goto(address("book/how-to-use.html"))
    outlines = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        outlines.add(page.evaluate(OUTLINE))
    assert outlines == {"solid 3px"}


def test_paper_shows_the_article_alone(page, address):
    page.goto(address("book/notation.html"))
    page.emulate_media(media="print")
    shown = {
        part: page.locator(part).first.is_visible()
        for part in (".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-header-article", "#jb-print-docs-body h1")
    }
    assert shown == {
        ".bd-sidebar-primary": False,
        ".bd-sidebar-secondary": False,
        ".bd-header-article": False,
        "#jb-print-docs-body h1": True,
    }


def test_the_scorecard_is_filtered_and_unfolds_a_chapter_at_a_time(page, address):
    page.goto(address("book/scorecard.html"))
    rows = page.locator("#cv-card tr[data-kind]")
    assert page.locator("#cv-card details[open]").count() == 0
    page.select_option("select[name=level]", "no")
    page.select_option("select[name=kind]", "exact")
    left = page.locator("#cv-card tr[data-kind]:not([hidden])")
    kept = left.evaluate_all("rows => rows.map(row => [row.dataset.kind, row.dataset.level].join())")
    assert 0 < len(kept) < rows.count()
    assert set(kept) == {"exact,no"}
    page.locator("#cv-card summary:visible").first.click()
    page.locator("#cv-card summary:visible").nth(1).click()
    assert page.locator("#cv-card details[open]").count() == 1
    page.locator(".cv-filters button").click()
    page.wait_for_function("document.querySelectorAll('#cv-card tr[data-kind][hidden]').length === 0")
    page.goto(address("book/scorecard.html", "#claims-dcff"))
    assert page.locator("#claims-dcff[open]").count() == 1
