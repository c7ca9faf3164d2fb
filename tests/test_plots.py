"""The visual style: readable on light and dark pages, described in words, the same text for the same figure."""

import re
import sys
from types import SimpleNamespace
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
import torch
from compactvision import plots
from compactvision.plots import display, svg

mpl.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(svg, "_seen", type(svg._seen)())
    with mpl.rc_context():
        yield
    plt.close("all")


@pytest.fixture
def shown(monkeypatch):
    """Pretend that IPython runs, and return what is displayed."""
    bundles = []
    fake = SimpleNamespace(get_ipython=lambda: object())
    fake_display = SimpleNamespace(display=lambda bundle, raw: bundles.append(bundle))
    monkeypatch.setitem(sys.modules, "IPython", fake)
    monkeypatch.setitem(sys.modules, "IPython.display", fake_display)
    return bundles


def curve(title="Does it fall?"):
    fig, axes = plots.figure(title)
    axes.plot([1, 2, 3], [3, 2, 1], label="ResNet-20 & VGG", marker="o")
    axes.plot([1, 2, 3], [3, 3, 3], color=plots.INK, label="none")
    axes.set_xlabel("MACs / $10^6$")
    axes.legend()
    return fig


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("page", ["#ffffff", "#121212"])
def test_every_colour_stands_out_on_light_and_dark_pages(page):
    for colour in plots.PALETTE:
        assert contrast(colour, page) >= 2.9, colour
    assert len(set(plots.PALETTE)) == len(plots.PALETTE) == len(set(plots.MARKERS))


def test_an_svg_follows_the_page_and_is_described():
    text = svg.to_svg(curve(), 'It falls, "steadily".\nTo 1.')
    root = ElementTree.fromstring(text)
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == 'It falls, "steadily". To 1.'
    assert "max-width: 518px" in root.attrib["style"]
    assert "fill: currentColor" in root.attrib["style"]
    assert not {"width", "height"} & set(root.attrib)
    assert plots.INK not in text
    assert "stroke: currentColor" in text
    colours = {colour.lower() for colour in re.findall(r"#[0-9a-fA-F]{6}\b", text)}
    assert colours == {plots.PALETTE[0].lower()}
    words = " ".join(node.text or "" for node in root.iter("{http://www.w3.org/2000/svg}text"))
    assert "Does it fall?" in words
    assert "ResNet-20 & VGG" in words
    assert "<style" not in text  # would style the whole page
    assert "<metadata" not in text
    assert "DejaVu" not in text


def test_the_same_figure_gives_the_same_text_and_ids_never_clash():
    first = svg.to_svg(curve(), "a")
    again = svg.to_svg(curve(), "a")
    other = svg.to_svg(curve("Does it rise?"), "a")
    svg._seen.clear()
    assert svg.to_svg(curve(), "a") == first
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (first, again, other)]
    assert not ids[0] & ids[1]
    assert not ids[0] & ids[2]
    for text, names in zip((first, again, other), ids, strict=True):
        references = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
        assert references
        assert references <= names


def test_scoping_prefixes_ids_and_references_to_them_only():
    text = '<a id="x" href="#x"/><label for="x"/><b clip-path="url(#x)" href="#away" fill="#abcdef"/>'
    assert svg.scoped(text, "p-") == (
        '<a id="p-x" href="#p-x"/><label for="p-x"/><b clip-path="url(#p-x)" href="#away" fill="#abcdef"/>'
    )


def test_large_scatter_plots_and_meshes_are_drawn_as_images():
    fig, axes = plots.figure("How many?")
    axes.scatter(range(3000), range(3000))
    dense = svg.to_svg(fig, "a")
    assert dense.count("<image") == 1
    assert dense.count("<use") < 100
    fig, axes = plots.figure("How many?")
    axes.scatter(range(50), range(50))
    axes.pcolormesh(np.zeros((60, 60)))
    mixed = svg.to_svg(fig, "a")
    assert mixed.count("<image") == 1
    assert mixed.count("<use") >= 50


def test_show_displays_markup_and_text_and_closes_the_figure(shown):
    fig = curve()
    plots.show(fig, alt=" It falls. ")
    assert not plt.fignum_exists(fig.number)
    assert shown[0]["text/plain"] == "Figure: Does it fall? It falls."
    assert shown[0]["text/html"].startswith('<figure class="cv-figure" style="margin: 0"><svg ')


def test_show_outside_ipython_displays_nothing_and_still_checks(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    fig = curve()
    plots.show(fig, alt="It falls.")
    assert not plt.fignum_exists(fig.number)
    for alt in ("", "  ", None):
        with pytest.raises(ValueError, match="alt: "):
            plots.show(curve(), alt=alt)
    bare, _ = plt.subplots()
    with pytest.raises(ValueError, match="the figure has no title"):
        plots.show(bare, alt="something")


def test_the_title_may_stand_over_the_axes():
    fig, axes = plt.subplots()
    assert svg.title_of(fig) == ""
    axes.set_title("Right?", loc="right")
    assert svg.title_of(fig) == "Right?"
    fig.suptitle("Over\nall?")
    assert svg.title_of(fig) == "Over all?"


def test_a_figure_asks_a_question():
    for title in ("A statement", "", None):
        with pytest.raises(ValueError, match="is not a question"):
            plots.figure(title)
    with pytest.raises(ValueError, match="0 x 1"):
        plots.figure("Why?", rows=0)
    fig, axes = plots.figure("Is a very long title, longer than the figure is wide, broken into lines?", columns=2)
    assert axes.shape == (2,)
    assert fig.get_suptitle().count("\n") == 1
    assert tuple(fig.get_size_inches()) == (5.4, 3.3)
    assert mpl.rcParams["axes.labelcolor"] == plots.INK
    assert plots.figure("Two?", rows=2)[0].get_size_inches()[1] == pytest.approx(3.3 * 1.7)


@pytest.mark.parametrize(
    "pictures",
    [
        torch.zeros(4, 3, 8, 8, dtype=torch.uint8),
        torch.full((4, 8, 8), 0.5, requires_grad=True),
        [np.ones((1, 8, 8), dtype=np.float32)] * 4,
    ],
)
def test_images_take_tensors_and_arrays(pictures):
    fig = plots.images(pictures, title="What?", titles=list("abcd"), columns=3)
    drawn = [axes.images[0].get_array() for axes in fig.axes if axes.images]
    assert len(drawn) == 4
    assert [axes.get_title() for axes in fig.axes][:4] == list("abcd")
    assert len(fig.axes) == 6
    first = np.asarray(pictures[0].detach() if torch.is_tensor(pictures[0]) else pictures[0])
    assert drawn[0].max() == pytest.approx(first.max())
    assert svg.to_svg(fig, "a").count("<image") == 4


def test_channels_stay_where_they_are():
    picture = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    picture[0, 1, 0, 1] = 255  # green, upper right
    drawn = plots.images(picture, title="What?").axes[0].images[0].get_array()
    assert drawn[0, 1].tolist() == [0.0, 1.0, 0.0]
    assert drawn.sum() == 1.0


@pytest.mark.parametrize(
    ("pictures", "options", "words"),
    [
        ([], {}, "pictures: there is none"),
        (torch.zeros(2, 8, 8), {"titles": ["a"]}, "titles: 1 for 2"),
        (torch.zeros(2, 8, 8), {"columns": 0}, "columns: 0"),
        (torch.zeros(2, 2, 8, 8), {}, r"number 0 has the shape \(2, 8, 8\)"),
        (torch.zeros(2, 8), {}, r"number 0 has the shape \(8,\)"),
        (torch.full((2, 8, 8), 1.1), {}, r"floats outside \[0, 1\]"),
        (torch.full((2, 8, 8), float("nan")), {}, r"floats outside \[0, 1\]"),
        (torch.zeros(2, 8, 8, dtype=torch.int64), {}, "of type int64"),
    ],
)
def test_images_refuse_what_is_no_picture(pictures, options, words):
    with pytest.raises(ValueError, match=words):
        plots.images(pictures, title="What?", **options)


def test_tables_are_accessible_and_escape():
    table = plots.table([["a<b", 1], [plots.Html("<i>x</i>", "x"), "p|q"]], ["Name", "Value"], "Sizes & counts")
    html = table._repr_html_()
    assert 'role="region" aria-label="Sizes &amp; counts" tabindex="0" style="overflow-x: auto"' in html
    assert "<caption>Sizes &amp; counts</caption>" in html
    assert '<th scope="col">Name</th><th scope="col">Value</th>' in html
    assert '<tr><th scope="row">a&lt;b</th><td>1</td></tr>' in html
    assert '<th scope="row"><i>x</i></th><td>p|q</td>' in html
    assert str(table) == "Sizes & counts\nName  Value\n----  -----\na<b   1\nx     p|q"
    assert repr(table) == str(table)
    assert table._repr_markdown_() == (
        "**Sizes &amp; counts**\n\n| Name | Value |\n| --- | --- |\n| a&lt;b | 1 |\n| x | p\\|q |"
    )
    assert plots.Html("<b>", "b")._repr_markdown_() == "b"


@pytest.mark.parametrize(
    ("rows", "columns", "caption", "words"),
    [
        ([[1]], ["a"], " ", "caption"),
        ([], [], "c", "columns"),
        ([[1, 2], [1]], ["a", "b"], "c", "row 1 has 1 cells for 2 columns"),
    ],
)
def test_tables_refuse_what_does_not_fit(rows, columns, caption, words):
    with pytest.raises(ValueError, match=words):
        plots.table(rows, columns, caption)


def test_a_widget_is_scoped_and_has_a_static_form(shown):
    markup = '<label for="n">n</label><input id="n" type="range" aria-describedby="out"><output id="out"></output>'
    plots.widget(
        markup,
        alt="A slider.",
        script='id("out").textContent = data.text;',
        data={"text": "</script>"},
        fallback=curve(),
        style="& output { color: inherit }",
    )
    html = shown[0]["text/html"]
    prefix = re.search(r'id="(cv[0-9a-f]{8}-)root" role="group" aria-label="A slider\."', html)[1]
    assert f'<label for="{prefix}n">' in html
    assert f'id="{prefix}n" type="range" aria-describedby="{prefix}out"' in html
    assert f"<style>#{prefix}root output {{ color: inherit }}</style>" in html
    assert "<noscript><svg" in html
    assert 'aria-label="A slider."' in html.split("<noscript>")[1]
    script = html.split("<script>")[1]
    assert script.count("</script>") == 1
    assert r'{"text":"<\/script>"}' in script
    assert f'document.getElementById("{prefix}" + name)' in script
    assert not plt.get_fignums()
    plots.widget(markup, alt="A slider.")
    assert "<noscript><p>A slider.</p></noscript>" in shown[1]["text/html"]
    assert "<script>" not in shown[1]["text/html"]
    plots.interactive("<p id='a'></p><script>root.hidden = false</script>", alt="b", fallback="<p>still</p>")
    assert "<noscript><p>still</p></noscript>" in shown[2]["text/html"]
    assert shown[2]["text/html"].count("root.hidden = false") == 1


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("markup", '<img alt="x" src="https://example.org/x.png">'),
        ("markup", '<script src="//example.org/x.js"></script>'),
        ("script", "fetch('data.json')"),
        ("script", "import('./x.js')"),
        ("style", "@import 'x.css';"),
        ("style", "p { background: url(https://example.org/x.png) }"),
    ],
)
def test_a_widget_holds_all_that_it_needs(part, text):
    with pytest.raises(ValueError, match=f"{part}: .* reaches outside the page"):
        plots.widget(**({"markup": "<p></p>", "alt": "a"} | {part: text}))


def test_a_widget_may_link_and_needs_a_description(monkeypatch):
    monkeypatch.setattr(display, "_under_ipython", lambda: False)
    plots.widget('<a href="https://example.org">x</a>', alt="a", fallback=curve())
    assert not plt.get_fignums()
    with pytest.raises(ValueError, match="alt: ''"):
        plots.widget("<p></p>", alt="")
