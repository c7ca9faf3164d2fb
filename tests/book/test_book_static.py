"""What can be seen in the built HTML without a browser: links, launch buttons, alternative texts, headings."""

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from compactvision import claims

REFERENCES = (("a", "href"), ("link", "href"), ("img", "src"), ("script", "src"), ("iframe", "src"), ("source", "src"))
LOADED = ("img", "script", "iframe", "source", "video", "audio", "object", "embed")


def references(soup):
    for tag, attribute in REFERENCES:
        for element in soup.find_all(tag, attrs={attribute: True}):
            yield element, element[attribute]


def identifiers(soup):
    return {element["id"] for element in soup.find_all(id=True)} | {
        a["name"] for a in soup.find_all("a", attrs={"name": True})
    }


def test_every_document_of_the_contents_is_a_page(site, documents, articles):
    assert {f"{document}.html" for document in documents} == set(articles)
    assert f"url={documents[0]}.html" in (site / "index.html").read_text()


def test_internal_links_and_anchors_resolve(site, soups):
    anchors = {name: identifiers(soup) for name, soup in soups.items()}
    broken, checked = [], 0
    for name, soup in soups.items():
        for _, reference in references(soup):
            parts = urlsplit(reference)
            if parts.scheme or parts.netloc:
                continue
            target = (site / name).parent / unquote(parts.path) if parts.path else site / name
            checked += 1
            if not target.is_file():
                broken.append((name, reference))
                continue
            page = target.resolve().relative_to(site.resolve()).as_posix()
            # The redirecting index and static files have no anchors of their own.
            if parts.fragment and page in anchors and unquote(parts.fragment) not in anchors[page]:
                broken.append((name, reference))
    assert checked > 500
    assert broken == []


def test_identifiers_are_unique(articles):
    repeated = {}
    for name, article in articles.items():
        counts = Counter(element["id"] for element in article.find_all(id=True))
        repeated[name] = [identifier for identifier, count in counts.items() if count > 1]
    assert {name: found for name, found in repeated.items() if found} == {}


def test_nothing_is_loaded_from_another_host(site, soups):
    outside = []
    for name, soup in soups.items():
        loaded = [element.get("src") or element.get("data") or "" for element in soup.find_all(LOADED)]
        loaded += [link["href"] for link in soup.find_all("link", href=True) if link.get("rel") != ["canonical"]]
        outside += [(name, address) for address in loaded if re.match(r"(https?:)?//", address)]
    for sheet in (site / "_static").rglob("*.css"):
        outside += [
            (sheet.name, found)
            for found in re.findall(r"(?:@import|url\()[\s\"']*(?:https?:)?//[^)\s]+", sheet.read_text())
        ]
    assert outside == []


@pytest.mark.parametrize("tool", ["colab.research.google.com", "mybinder.org"])
def test_every_notebook_can_be_launched(tool, repo, config, documents, soups):
    address, branch = config["repository"]["url"], config["repository"]["branch"]
    owner_and_name = urlsplit(address).path.strip("/")
    notebooks = [document for document in documents if document.startswith("notebooks/")]
    assert notebooks
    assert [document for document in notebooks if not (repo / f"{document}.ipynb").is_file()] == []
    for document in notebooks:
        expected = {
            "colab.research.google.com": f"https://colab.research.google.com/github/{owner_and_name}/blob/{branch}/{document}.ipynb",
            "mybinder.org": f"https://mybinder.org/v2/gh/{owner_and_name}/{branch}?urlpath=lab/tree/{document}.ipynb",
        }[tool]
        assert expected in {a["href"] for a in soups[f"{document}.html"].find_all("a", href=True)}, document
    others = {f"{document}.html" for document in documents} - {f"{document}.html" for document in notebooks}
    headers = {name: str(soups[name].select_one(".bd-header-article")) for name in others}
    assert [name for name, header in headers.items() if tool in header] == []


def test_every_page_leads_to_issues_and_discussions(config, articles, soups):
    repository = config["repository"]["url"]
    for name in articles:
        links = {a["href"].partition("?")[0] for a in soups[name].find_all("a", href=True)}
        assert {repository, f"{repository}/issues/new", f"{repository}/discussions"} <= links, name


def test_the_address_of_the_repository_stands_in_the_configuration_alone(repo, config):
    owner_and_name = urlsplit(config["repository"]["url"]).path.strip("/")
    pages = [path for path in (repo / "book").rglob("*.md") if "generated" not in path.parts]
    assert len(pages) > 5
    assert [path.name for path in pages if owner_and_name in path.read_text()] == []


def _named(svg):
    """Text by which a drawing is read aloud."""
    labels = [svg.get("aria-label", "")]
    for identifier in svg.get("aria-labelledby", "").split():
        element = svg.find(id=identifier)
        labels.append(element.get_text() if element else "")
    title = svg.find("title")
    labels.append(title.get_text() if title else "")
    return " ".join(labels).strip()


def test_every_picture_has_an_alternative_text(articles, soups):
    silent = [
        (name, img.get("src", "")[:60])
        for name, soup in soups.items()
        for img in soup.find_all("img")
        if not img.get("alt", "").strip()
    ]
    for name, article in articles.items():
        for svg in article.find_all("svg"):
            if (
                svg.get("aria-hidden") == "true"
                or svg.find_parent(attrs={"aria-hidden": "true"})
                or "sd-octicon" in svg.get("class", [])
            ):
                continue
            # A group of links is named as a picture is, and its links are read one by one.
            owner = svg if svg.get("role") in ("img", "group") else svg.find_parent(attrs={"role": "img"})
            if owner is None or not _named(owner):
                silent.append((name, str(svg)[:80]))
    assert silent == []


def test_alternative_texts_say_more_than_a_file_name(articles):
    vague = re.compile(r"^(image|figure|plot|\S+\.(png|svg|jpg)|.{0,3})$", re.IGNORECASE)
    pictures = [(name, img["alt"].strip()) for name, article in articles.items() for img in article.find_all("img")]
    assert [found for found in pictures if vague.match(found[1])] == []


def test_headings_step_down_one_level_at_a_time(articles):
    for name, article in articles.items():
        levels = [int(heading.name[1]) for heading in article.find_all(re.compile("^h[1-6]$"))]
        assert levels[:1] == [1], name
        assert levels.count(1) == 1, name
        assert all(after - before <= 1 for before, after in pairwise(levels)), (name, levels)
        assert all(heading.get_text(strip=True).rstrip("#") for heading in article.find_all(re.compile("^h[1-6]$"))), (
            name
        )


def test_every_page_names_its_language_and_title(soups):
    assert {soup.html.get("lang") for soup in soups.values()} == {"en"}
    titles = [soup.title.get_text(strip=True) for soup in soups.values()]
    assert all("Compact Vision" in title for title in titles)


def test_every_entry_of_the_bibliography_is_printed(repo, articles):
    keys = re.findall(r"^@\w+\{(\w+),", (repo / "book" / "references.bib").read_text(), re.MULTILINE)
    assert len(keys) == len(set(keys)) >= 15
    printed = articles["book/references.html"]
    assert len(printed.select("div.citation")) == len(keys)


def test_no_reference_is_left_open(articles):
    """An unknown key or target is printed in question marks or left as its source."""
    open_ends = re.compile(r"\[\?+\]|\(\?+\)|\{(?:cite|ref|numref|eq|term|doc)(?::\w)?\}`|\{\{.*?\}\}")
    for name, article in articles.items():
        prose = " ".join(
            text for text in article.find_all(string=True) if not text.find_parent(["code", "pre", "script", "style"])
        )
        assert open_ends.findall(prose) == [], name


def test_every_claim_stands_on_the_scorecard(articles):
    def words(text):
        """Its words alone: pages set quotation marks and dashes of their own."""
        return " ".join(re.findall(r"\w+", text))

    printed = words(articles["book/scorecard.html"].get_text(" "))
    written = [claim for slug in claims.slugs() for claim in claims.load(slug).claims]
    assert written
    assert [claim.id for claim in written if words(claim.text) not in printed] == []


def test_every_verdict_has_a_style(repo, articles):
    style = (repo / "book" / "_static" / "compact.css").read_text()
    used = {name for article in articles.values() for span in article.select(".cv-verdict") for name in span["class"]}
    assert {"cv-verdict-reproduced", "cv-verdict-not-run"} <= used
    plain = {"cv-verdict-not-run", "cv-verdict-cannot-be-told"}  # the grey of the badge itself
    assert [name for name in used - plain if f".{name}" not in style] == []


def test_what_others_made_carries_its_licence(repo):
    vendored = repo / "book" / "_static" / "vendor"
    assert "Apache License" in (vendored / "mathjax-LICENSE.txt").read_text()
    assert {path.name for path in vendored.iterdir()} == {"mathjax-LICENSE.txt", "mathjax-tex-svg-full-3.2.2.js"}
    assert "MathJax" in Path(repo / "book" / "licence.md").read_text()


def test_every_page_says_what_it_is_and_where_it_belongs(site, config, articles, soups):
    base = config["html"]["baseurl"]
    assert (site / "_static" / "social.png").stat().st_size < 100_000
    for name in articles:
        head = soups[name].head
        assert head.find("link", rel="canonical")["href"] == base + name
        assert head.find("meta", property="og:image")["content"] == base + "_static/social.png"
        assert head.find("meta", property="og:url")["content"] == base + name
    described = [name for name in articles if soups[name].head.find("meta", attrs={"name": "description"})]
    assert len(described) > len(articles) / 2
    assert {f"{base}{name}" for name in articles} <= set(
        re.findall("<loc>(.*?)</loc>", (site / "sitemap.xml").read_text())
    )
    lost = {link["href"].removeprefix(base) for link in soups["404.html"].find_all("a")}
    assert lost <= set(soups)
    assert "book/intro.html" in lost


def test_mathematics_is_loaded_only_where_it_is(articles, soups):
    loads = {name for name in articles if soups[name].find("script", src=re.compile("mathjax"))}
    assert loads == {name for name in articles if soups[name].select_one(".math")}
    assert "book/notation.html" in loads
    assert "book/scorecard.html" not in loads


def test_every_page_can_be_edited(config, repo, articles, soups):
    for name in articles:
        links = [a["href"] for a in soups[name].find_all("a", href=re.compile("/edit/"))]
        assert links, name
        assert (repo / links[0].partition(f"/edit/{config['repository']['branch']}/")[2]).is_file(), links
