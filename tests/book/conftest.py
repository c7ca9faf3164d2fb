"""The built site, parsed pages and a browser for the tests of the book."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup

GENERATED_BY_SPHINX = {"genindex.html", "py-modindex.html", "search.html", "404.html"}


@pytest.fixture(scope="session")
def config(repo):
    return yaml.safe_load((repo / "_config.yml").read_text())


@pytest.fixture(scope="session")
def documents(repo):
    """Names of the book's pages in reading order, without suffix."""

    def walk(node):
        yield from (node[key] for key in ("root", "file") if key in node)
        for key in ("parts", "chapters", "sections"):
            for child in node.get(key, ()):
                yield from walk(child)

    return list(walk(yaml.safe_load((repo / "_toc.yml").read_text())))


@pytest.fixture(scope="session")
def site(repo):
    """Folder of the built book; builds it as `make book` does where there is none."""
    folder = repo / "_build" / "html"
    if not (folder / "index.html").is_file():
        builder = Path(sys.executable).with_name("jupyter-book")
        steps = (
            [sys.executable, "-m", "compactvision", "scorecard", "--pages", "book/generated"],
            [sys.executable, "-m", "compactvision.in_browser", "book/generated/try-it.html"],
            [sys.executable, "-m", "compactvision.awkward", "--page", "book/generated/awkward-networks.md"],
            [builder, "build", ".", "--warningiserror", "--keep-going", "--quiet"],
        )
        for step in steps:
            subprocess.run(step, cwd=repo, check=True)
    return folder


@pytest.fixture(scope="session")
def html_files(site):
    """Every page that was built, the redirecting index.html left out."""
    return sorted(path for path in site.rglob("*.html") if path != site / "index.html" and "_static" not in path.parts)


@pytest.fixture(scope="session")
def soups(site, html_files):
    """Page name (with suffix, relative to the site) to its parsed HTML."""
    return {path.relative_to(site).as_posix(): BeautifulSoup(path.read_text(), "html.parser") for path in html_files}


@pytest.fixture(scope="session")
def articles(soups):
    """Page name to the element with the book's own content, for the pages that we write."""
    return {name: soup.select_one("article") for name, soup in soups.items() if name not in GENERATED_BY_SPHINX}


def _chromium() -> str | None:
    named = os.environ.get("CHROMIUM")
    candidates = [named] if named else ["chromium", "chromium-browser", "google-chrome"]
    return next((path for name in candidates if (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser():
    """One headless Chromium for all tests; skips where none is installed."""
    executable = _chromium()
    if executable is None:
        pytest.skip("no Chromium found: the pages were not opened in a browser (install chromium or set CHROMIUM)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=executable,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def stored(repo):
    """Function from a notebook's name and a piece of markup to the one stored output that holds it."""

    def find(notebook: str, mark: str) -> str:
        cells = json.loads((repo / "notebooks" / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", ()) if "data" in output]
        pages = ["".join(output["data"].get("text/html", "")) for output in outputs]
        (found,) = (page for page in pages if mark in page)
        return found

    return find


@pytest.fixture
def alone(browser):
    """Function that opens a piece of HTML alone on a telephone; returns the page and the list of its errors."""
    pages = []

    def open_(piece: str, width: int = 390):
        page = browser.new_page(viewport={"width": width, "height": 844})
        pages.append(page)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.set_content(f"<!doctype html><html><body>{piece}</body></html>")
        return page, errors

    yield open_
    for page in pages:
        page.close()


@pytest.fixture(scope="session")
def address(site):
    """Function from a page's name to its file:// address."""

    def of(name: str, query: str = "") -> str:
        return Path(site / name).resolve().as_uri() + query

    return of
