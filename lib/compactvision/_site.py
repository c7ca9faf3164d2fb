"""A Sphinx extension: what search engines, link previews and lost readers need of the built book.

Each page gets a description (its first paragraph) and a picture for links to it; MathJax, two megabytes, is loaded only
where a page has mathematics. Behind the build come ``sitemap.xml``, ``404.html`` and the picture. All addresses follow
from ``html_baseurl``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from compactvision.plots.escape import as_html

PICTURE = "_static/social.png"
SIZE = (1200, 630)  # pixels, as previews of links show them
LONGEST = 200
_MATH = re.compile(r'class="[^"]*\bmath\b')
_NOT_FOUND = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>Page not found · {title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1f2328; --paper: #ffffff; --link: #145a94; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #ced6dd; --paper: #14181e; --link: #7dbdf0; }} }}
body {{ margin: 12vh auto; max-width: 34rem; padding: 0 1.2rem; font: 1.05rem/1.6 system-ui, sans-serif; }}
body {{ color: var(--ink); background: var(--paper); }}
a {{ color: var(--link); }}
a:focus-visible {{ outline: 3px solid #d9730d; outline-offset: 2px; }}
</style>
</head>
<body>
<main>
<h1>This channel was cut</h1>
<p>There is no page at this address: it was moved, renamed or never written. These are here:</p>
<ul>
{links}
</ul>
</main>
</body>
</html>
"""
_WAYS = {
    "book/intro": "the cover of the book",
    "book/which-method": "which method for which need",
    "book/did-it-hold": "did it hold? Fifteen papers on one page",
    "search": "the search",
}


def description(doctree: Any) -> str:
    """Return the first paragraph of a page that says something, cut at a word; empty where there is none.

    Parameters
    ----------
    doctree : docutils.nodes.document

    Examples
    --------
    >>> from docutils.core import publish_doctree
    >>> from compactvision import _site as site
    >>> site.description(publish_doctree("A vision network that is accurate is often large and slow."))
    'A vision network that is accurate is often large and slow.'
    """
    from docutils import nodes

    for paragraph in doctree.findall(nodes.paragraph):
        inside = paragraph.parent
        text = " ".join(paragraph.astext().split())
        if isinstance(inside, nodes.document | nodes.section) and len(text) > 40 and "\\" not in text:
            return text if len(text) <= LONGEST else text[:LONGEST].rsplit(" ", 1)[0].rstrip(",;:") + " …"
    return ""


def metatags(title: str, text: str, address: str, base: str) -> str:
    """Return the tags of a page's head that describe it, with the picture for links.

    Raises
    ------
    ValueError
        If ``base`` does not end in a slash: addresses are put together from it.
    """
    if not base.endswith("/"):
        raise ValueError(f"base must be an address that ends in a slash, got {base!r}")
    names = {"description": text, "twitter:card": "summary_large_image"}
    properties = {
        "og:type": "article",
        "og:site_name": "Compact Vision",
        "og:title": title,
        "og:description": text,
        "og:url": address,
        "og:image": base + PICTURE,
        "og:image:width": str(SIZE[0]),
        "og:image:height": str(SIZE[1]),
        "og:image:alt": "The title of the book and the verdicts on its claims, a bar a chapter",
    }
    lines = [f'<meta name="{name}" content="{as_html(value)}">' for name, value in names.items() if value]
    lines += [f'<meta property="{name}" content="{as_html(value)}">' for name, value in properties.items() if value]
    return "\n".join(lines) + "\n"


def sitemap(names: list[str], base: str) -> str:
    """Return a sitemap of pages by their names, "book/intro" for example."""
    entries = "".join(f"<url><loc>{escape(base + name)}.html</loc></url>\n" for name in names)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{entries}</urlset>\n'
    )


def not_found(title: str, base: str) -> str:
    """Return the page that a host shows for an address that is not there: whole in itself, with whole addresses."""
    links = "\n".join(f'<li><a href="{as_html(base + name)}.html">{text}</a></li>' for name, text in _WAYS.items())
    return _NOT_FOUND.format(title=as_html(title), links=links)


def picture(path: Path) -> None:
    """Draw the picture for links: the title, and the verdicts of today as a bar for each chapter."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from compactvision import claims
    from compactvision.claims.decision import LEVELS, NOT_RUN
    from compactvision.claims.report import GROUPS
    from compactvision.claims.rules import SYMBOLS
    from compactvision.claims.standing import by_kind

    chapters = [by_kind(found) for _, found in claims.scorecard().chapters]
    colours = dict(zip(LEVELS, ("#12724f", "#d9730d", "#a8331f", "#8a63b8", "#c8d0d8"), strict=True))
    words = ("held", "in part", "did not hold", "cannot be told", "not run")
    with plt.rc_context({"font.family": "DejaVu Sans", "text.color": "#1f2328"}):
        fig = plt.figure(figsize=(SIZE[0] / 100, SIZE[1] / 100), dpi=100, facecolor="#ffffff")
        fig.text(0.06, 0.84, "Compact Vision", fontsize=46, fontweight="bold")
        fig.text(0.06, 0.755, "Papers on small and explainable vision networks, reproduced and checked", fontsize=19)
        for panel, kind in enumerate(
            GROUPS[:3]
        ):  # never added up, and the book's own checks are not the papers' claims
            axis = fig.add_axes((0.06 + 0.3 * panel, 0.2, 0.27, 0.45))
            bottoms = [0] * len(chapters)
            for level in LEVELS:
                heights = [counted[kind][level] for counted in chapters]
                axis.bar(range(len(chapters)), heights, bottom=bottoms, color=colours[level], width=0.75)
                bottoms = [low + high for low, high in zip(bottoms, heights, strict=True)]
            axis.set_axis_off()
            axis.set_title(f"{kind} claims", fontsize=18, loc="left")
        for number, (level, word) in enumerate(zip(LEVELS, words, strict=True)):
            colour = "#57606a" if level == NOT_RUN else colours[level]
            label = f"{SYMBOLS[level]} {word}"
            fig.text(0.06 + 0.185 * number, 0.075, label, fontsize=15, color=colour, fontweight="bold")
        path.parent.mkdir(parents=True, exist_ok=True)
        fig.savefig(path, metadata={"Software": None})
        plt.close(fig)


def _on_page(app: Any, name: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Describe a page, and leave MathJax out of one without mathematics."""
    if not _MATH.search(context.get("body") or ""):
        scripts = context["script_files"]
        scripts[:] = [script for script in scripts if "mathjax" not in str(getattr(script, "filename", script) or "")]
    if doctree is None or not app.config.html_baseurl:
        return
    title = re.sub("<[^>]+>", "", context.get("title") or app.config.html_title)
    base = app.config.html_baseurl
    context["metatags"] = context.get("metatags", "") + metatags(
        title, description(doctree), f"{base}{name}.html", base
    )


def _behind(app: Any, failed: Exception | None) -> None:
    """Write what belongs to the whole site."""
    base = app.config.html_baseurl
    if failed or not base or app.builder.format != "html":
        return
    folder = Path(app.outdir)
    (folder / "sitemap.xml").write_text(sitemap(sorted(app.env.found_docs), base), encoding="utf-8")
    (folder / "404.html").write_text(not_found(app.config.html_title, base), encoding="utf-8")
    picture(folder / PICTURE)


def setup(app: Any) -> dict[str, Any]:
    """Connect the extension to Sphinx, which calls this."""
    app.connect("html-page-context", _on_page, priority=900)
    app.connect("build-finished", _behind)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
