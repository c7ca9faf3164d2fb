"""What a record or a claim says is shown as text: pages and tables are read as the book reads them, by MyST."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest
import yaml
from bs4 import BeautifulSoup
from compactvision import claims, plots, records
from compactvision.claims.pages import status_page
from compactvision.notebooks.sources import notebooks_folder
from compactvision.plots.escape import as_code, as_html, as_markdown
from compactvision.records import DataSource, Device, Training, dependencies
from docutils import nodes
from docutils.core import publish_doctree, publish_string
from hypothesis import given, settings
from hypothesis import strategies as st
from myst_parser.docutils_ import Parser

CONFIG = yaml.safe_load((notebooks_folder().parent / "_config.yml").read_text())
EXTENSIONS = [
    name for name in CONFIG["parse"]["myst_enable_extensions"] if name != "substitution"
]  # Sphinx alone has it
HOSTILE = [
    '<img src=x onerror="alert(1)">',
    "<script>alert(2)</script>",
    "</td></tr></table><iframe src=//evil.example>",
    "a | b || c \\| d",
    "one\n\n# two\n\n<b>three</b>",
    "one\r\n| four | five |\n|---|---|\n| six | seven |",
    "`code` ``more`` ```{raw} html",
    "{raw}`x` {math}`x` {download}`/etc/passwd`",
    "$x^2$ and $$y$$ and \\(z\\)",
    "[link](https://evil.example) ![image](x.png) [ref]: y",
    "https://evil.example/x www.evil.example mailto:a@evil.example evil.com",
    "*stars* _lines_ **bold** ~~gone~~ ^up^",
    "&lt;b&gt; &amp;nbsp; &#60;script&#62;",
    "{{ clone }} {.class} (target)= %comment +++",
    "ends with \\",
    "\\<b>back\\</b> \\\\<i>",
    "<!-- comment --> <?php ?> <![CDATA[x]]>",
    "<https://evil.example> <a@evil.example>",
    "# heading #",
    "1. list - item",
    "\x1b[31mred \x07bell",
]
TOML = """
[chapter]
title = "A chapter"
part = "cut"
paper = "Nobody 2021"

[[claim]]
id = "right"
text = "It is right."
source = "Table 1"
kind = "scaled"
profile = "quick"
refuted_by = "It is not."
convention = "macs"
paper = "as said"
unit = "steps"
rule = { value = "a", above = 0.5 }
"""
ALLOWED = (nodes.literal, nodes.strong)


def as_shown(text):
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))


def doctree(page):
    options = {"report_level": 5, "myst_enable_extensions": EXTENSIONS}
    return publish_doctree(page, parser=Parser(), settings_overrides=options)


def shown(page, *, own=()):
    """The text of a page, in which nothing may be but text, headings, lists, tables and what we wrote ourselves."""
    tree = doctree(page)
    raw = [node.astext() for node in tree.findall(nodes.raw)]
    strange = [text for text in raw if not any(text.startswith(start) for start in own)]
    assert not strange
    for kind in (
        nodes.image,
        nodes.reference,
        nodes.math,
        nodes.math_block,
        nodes.emphasis,
        nodes.target,
        nodes.comment,
    ):
        assert not list(tree.findall(kind)), kind
    assert not list(tree.findall(nodes.literal_block))
    return " ".join(tree.astext().split()), tree


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_text_in_a_paragraph_a_heading_and_a_cell(text):
    quoted = as_markdown(text)
    for page in (f"said: {quoted}", f"### {quoted}", f"- said: {quoted}"):  # no line begins with foreign text
        read, _ = shown(page)
        assert as_shown(text) in read
    table = plots.table([[text, "x"], ["y", text]], ["one", text], text).markdown
    read, tree = shown(table)
    assert len(list(tree.findall(nodes.row))) == 3
    assert {len(row) for row in tree.findall(nodes.row)} == {2}
    assert read.count(as_shown(text)) == 4


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.sampled_from(list("ab \\`*_{}[]<>()#+-.!|$&~^:/@=\"'\n1")), min_size=1, max_size=25))
def test_any_text_is_text(text):
    read, tree = shown(f"said: {as_markdown(text)} end\n\n{plots.table([[text, 'x']], ['a', 'b'], 'c').markdown}")
    assert read.startswith(" ".join(f"said: {as_shown(text)} end".split()))
    assert [len(row) for row in tree.findall(nodes.row)] == [2, 2]
    assert list(tree.findall(nodes.row))[1][0].astext() == as_shown(text)


def test_the_two_forms_by_hand():
    assert as_markdown("a_b | <c> $d$\n`e`") == "a\\_b \\| &lt;c&gt; \\$d\\$ \\`e\\`"
    assert as_html('<a href="b">&') == "&lt;a href=&quot;b&quot;&gt;&amp;"
    assert as_code("glyphs/train") == "`glyphs/train`"
    assert as_code("a`b") == "a\\`b"


@pytest.fixture
def good(book, make_record):
    (book / "claims" / "tiny.toml").write_text(TOML)
    method = records.method_digest(("measure/counts.py",))
    source = DataSource("glyphs", "generated", "00")
    depends = dependencies.digests(["measure/counts.py:macs"])
    return make_record([{"a": 1}], method=method, data=[source], depends=depends)


FIELDS = {
    "device name": lambda r, text: replace(r, device=Device("cpu", text, 2)),
    "device kind": lambda r, text: replace(r, device=Device(text, "A processor", 2)),
    "version": lambda r, text: replace(r, versions={"torch": text}),
    "name of a version": lambda r, text: replace(r, versions={text: "2"}),
    "name of the data": lambda r, text: replace(r, data=[DataSource(text, "generated", "00")]),
    "provenance": lambda r, text: replace(r, data=[DataSource("glyphs", text, "00")]),
    "digest of the data": lambda r, text: replace(r, data=[DataSource("glyphs", "generated", text[:12])]),
}


@pytest.mark.parametrize("text", HOSTILE)
def test_every_field_of_a_record_is_text_on_the_status_page(good, text):
    for name, change in FIELDS.items():
        records.save(change(good, text))
        read, tree = shown(status_page())
        said = as_shown(text[:12]) if name == "digest of the data" else as_shown(text)
        assert said in read, name
        assert len(list(tree.findall(nodes.row))) == 3, name


def test_fields_that_reach_no_page_as_they_are_have_a_form(good):
    for changes in ({"slug": "<b>"}, {"commit": "<b>"}, {"profile": "<b>"}):
        with pytest.raises(ValueError, match="record "):
            replace(good, **changes)
    with pytest.raises(ValueError, match="field 'arm'"):
        replace(good, profile="trained", training=Training("<b>", ["measure"], {}))
    records.save(replace(good, created="2026-11-21T10:00:00+00:00"))
    path = records.path_of("tiny", "quick")
    path.write_text(path.read_text().replace("2026-11-21T10", "<b>2026</b>"))
    with pytest.raises(ValueError, match="was changed by hand"):
        status_page()


WORDS = {"title": "A chapter", "paper": "Nobody 2021", "text": "It is right.", "source": "Table 1"}
WORDS |= {"convention": "macs", "paper of the claim": "as said", "unit": "steps"}


@pytest.mark.parametrize("text", HOSTILE)
def test_every_field_of_a_claim_is_text_on_every_page(good, book, text):
    records.save(good)
    for name, word in WORDS.items():
        content = TOML.replace(f'"{word}"', json.dumps(text).replace("\\u007f", "\\u007F"), 1)
        (book / "claims" / "tiny.toml").write_text(content)
        _, tree = shown(claims.scorecard_page(), own=('<div class="cv-table cv-overview"', '<div id="cv-card">'))
        soup = BeautifulSoup("".join(node.astext() for node in tree.findall(nodes.raw)), "html.parser")
        assert " ".join(as_html(text).split()) in " ".join(str(soup).split()) or as_shown(text) in soup.get_text(), name
        assert {len(row.find_all(["td", "th"])) for row in soup.find_all("tr")} == {5, 6}, name
        assert [len(soup.find_all(tag)) for tag in ("script", "img", "iframe", "h2")] == [1, 0, 0, 0], name
        shown(status_page())
        markup = claims.table("tiny").markup
        assert name in ("title", "paper") or as_html(text) in markup, name
        assert "<img" not in markup
        assert "<script" not in markup


@pytest.mark.parametrize("title", ["A `chapter`", "A <chapter>", "A \\chapter", "A\nchapter", "A <x </etc/passwd>"])
def test_a_title_that_no_role_can_say_is_no_link(good, book, title):
    records.save(good)
    (book / "_toc.yml").write_text("chapters:\n  - file: notebooks/tiny\n")
    (book / "claims" / "tiny.toml").write_text(TOML.replace('"A chapter"', json.dumps(title)))
    assert "{doc}" not in status_page()
    (book / "claims" / "tiny.toml").write_text(TOML)
    assert "{doc}`A chapter </notebooks/tiny>`" in status_page()


POINT = [
    "<script>alert(1)</script>",
    "a$\\frac{$b",
    "```\n\nx",
    "`",
    "a_b | c",
    "</svg><b>",
    '" onload="x',
    "&lt;b&gt;",
]


@pytest.mark.parametrize("text", POINT)
def test_points_and_devices_of_the_running_picture_are_text(good, text):
    name = f"picture.{text}"
    values = {f"{name}.macs": 0.5, f"{name}.time": 0.7, f"{name}.accuracy": 0.8}
    run = replace(good.runs[0], values=values)
    records.save(replace(good, profile="full", runs=[run], device=Device("cpu", text, 1)))
    page = claims.picture_page()
    (raw,) = doctree(page).findall(nodes.raw)
    for element in ElementTree.fromstring(raw.astext()).iter():
        assert element.tag.rpartition("}")[2] in {
            "figure",
            "svg",
            "g",
            "path",
            "defs",
            "use",
            "text",
            "tspan",
            "clipPath",
            "rect",
        }
        assert not any(attribute.startswith("on") for attribute in element.attrib)
    rows = list(doctree(page).findall(nodes.row))
    assert [len(row) for row in rows] == [6, 6]
    assert rows[1][0].astext() == as_shown(text).replace("_", " ")
    assert as_shown(text) in rows[1][5].astext()
    html = publish_string(page, parser=Parser(), writer_name="html5", settings_overrides={"report_level": 5}).decode()
    assert "<script>alert" not in html


@pytest.mark.parametrize("missing", ["macs", "time", "accuracy"])
@pytest.mark.parametrize("value", [None, [0.1, 0.2]])
def test_an_unfinished_point_is_refused(good, missing, value):
    values = {"picture.x.macs": 0.5, "picture.x.time": 0.7, "picture.x.accuracy": 0.8}
    if value is None:
        del values[f"picture.x.{missing}"]
    else:
        values[f"picture.x.{missing}"] = value
    records.save(replace(good, profile="full", runs=[replace(good.runs[0], values=values)]))
    with pytest.raises(ValueError, match=rf"record tiny/full: the point 'picture\.x' has no number '{missing}'"):
        claims.picture_page()
