"""Lines of the package beside the equations that they compute."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path

import compactvision
from compactvision.plots.display import Html
from compactvision.plots.escape import as_html


def source(*functions: Callable | type) -> Html:
    """Return the code of functions or classes of this package to display, without their docstrings.

    Raises
    ------
    ValueError
        If there is none, or one has no source file inside the package.
    """
    if not functions:
        raise ValueError("functions: there is none")
    places, codes = [], []
    for function in functions:
        path = Path(inspect.getsourcefile(inspect.unwrap(function)) or "")
        package = Path(compactvision.__file__).parent
        if not path.is_relative_to(package):
            raise ValueError(f"functions: {function!r} is not defined in this package")
        places.append(path.relative_to(package.parent).as_posix())
        codes.append(_without_docstrings(textwrap.dedent(inspect.getsource(function))))
    code = "\n\n\n".join(codes)
    place = ", ".join(dict.fromkeys(places))
    markup = (
        f'<div class="highlight-python notranslate"><div class="highlight"><pre>{_coloured(code)}</pre></div></div>'
        f'<p style="margin: 0; font-size: 0.85em; opacity: 0.8">{as_html(place)}</p>'
    )
    return Html(markup, f"{code}\n\n# {place}", f"```python\n{code}\n```\n{place}")


def _without_docstrings(code: str) -> str:
    lines = code.splitlines()
    drop: set[int] = set()
    for node in ast.walk(ast.parse(code)):
        documented = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if documented and ast.get_docstring(node) is not None and len(node.body) > 1:
            first = node.body[0]
            last = first.end_lineno
            while last < len(lines) and not lines[last].strip():
                last += 1  # the empty line behind a docstring goes with it
            drop.update(range(first.lineno - 1, last))
    return "\n".join(line for number, line in enumerate(lines) if number not in drop)


def _coloured(code: str) -> str:
    try:
        from pygments import highlight
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import PythonLexer
    except ImportError:  # pragma: no cover
        return as_html(code)
    return highlight(code, PythonLexer(), HtmlFormatter(nowrap=True))
