"""Numbers in a chapter's prose: each result carries the key of its record's value, and is compared with it.

A Markdown cell says in its metadata where its numbers come from::

    "numbers": {"84.7 %": "{tuned.accuracy}",
                "13 points": "{whole.accuracy} - {cut.accuracy}",
                "2.4 ± 0.3 points": "{full: lead}",
                "40 %": "setting"}

A key is an expression over the values of the chapter's quick record, ``{name}``, or of another one, ``{full: name}``,
or of the record of an arm that was trained as its paper says, ``{trained: name}``, seed by seed; its mean is what is
printed. ``mean``, ``sd``, ``least`` and ``most`` go over the seeds, ``average``, ``smallest`` and ``largest`` over the
numbers of a value that is a list (or over several arguments), ``{name}[2]`` takes one of these, ``at_seed(x, 2)`` one
seed's, and ``abs`` the size. What is no result of a record says what it is in one of the words of ``OTHERS``. Where one
text stands for several results, the key is a list.

Fractions are printed as per cent or points, also where the unit stands with the number before; a difference may leave
its sign to the words.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from compactvision import records
from compactvision.notebooks.sources import Notebook, joined
from compactvision.records import PROFILES

OTHERS = {
    "setting": "chosen by us: a budget, a rate, a size",
    "paper": "printed by the paper, or by another one that is cited",
    "arithmetic": "follows from settings or from numbers beside it, or is a definition",
    "elsewhere": "measured, but not for this record: a table of the package, or what was tried before",
}
_PARTS = ("The experiment", "At the paper's scale", "What to take away")
_FREE = ("Exercises", "The question", "The idea in one picture", "The method", "By hand")
_NOT_PROSE = re.compile(
    r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\{[\w:-]+\}|<!--.*?-->|<[^>]*>|(?<=\])\([^)]*\)|https?://\S+|^%.*?$",
    flags=re.DOTALL | re.MULTILINE,
)
_UNIT = r"(?:%|points?\b|times\b)"
_PLAIN = r"\d[\d,]*(?:\.\d+)?"
_NUMBER = re.compile(rf"(?<![\w.,/-])[−]?{_PLAIN}(?: ± {_PLAIN})?(?: {_UNIT}|%)?")
_SHARED = re.compile(rf"(?: ± {_PLAIN})?(?:(?:,| and| or| to| against|, and)? ?{_PLAIN}(?: ± {_PLAIN})?)* ({_UNIT})")
_SIZE = re.compile(r"^ ?[×x] ?\d")
_NAME = re.compile(r"\{(?:(\w+): ?)?([\w.+-]+)\}")


def printed(text: str) -> list[tuple[str, str]]:
    """Return the numbers of a text that look like results, each with its unit: "%", "points", "times" or "".

    These are numbers with a unit, numbers with a fraction, and the first of several that share a unit ("58 and 94 %").
    Formulas, code, links and sizes such as 3 × 3 are left out.
    """
    plain = re.sub(r"[\s\u00a0\u202f]+", " ", _NOT_PROSE.sub(" ; ", text)).replace("\\%", "%")
    found = []
    for match in _NUMBER.finditer(plain):
        number, rest = match[0].rstrip(","), plain[match.end() :]
        if _SIZE.match(rest) or plain[: match.start()].endswith(("× ", "× −")):
            continue
        own = re.search(rf"{_UNIT}$|%$", number)
        shared = _SHARED.match(rest) if own is None else None
        unit = own[0] if own else shared[1] if shared else ""
        if unit or "." in number:
            found.append((number, "points" if unit == "point" else unit))
    return found


def problems(notebook: Notebook, slug: str) -> list[str]:
    """Return which numbers in a chapter's results have no key, a key that leads nowhere, or are not what it gives."""
    found = []
    for index, cell in _cells(notebook):
        keys = cell["metadata"].get("numbers", {})
        here = printed(joined(cell["source"]))
        found += [f"cell {index}: {number!r} has no key" for number, _ in here if number not in keys]
        texts = {number for number, _ in here}
        found += [
            f"cell {index}: {number!r} has a key, and is not in the text" for number in keys if number not in texts
        ]
        for number, unit in sorted(set(here)):
            for key in _listed(keys.get(number, [])):
                wrong = None if key in OTHERS else _wrong(number, unit, key, slug)
                found += [f"cell {index}: {wrong}"] if wrong else []
    return found


def _cells(notebook: Notebook) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the Markdown cells of a chapter's results; of a page without the template's parts, all but exercises."""
    cells = list(enumerate(notebook["cells"]))
    headings = [_heading(cell) for _, cell in cells]
    inside = _PARTS[0] not in headings
    for (index, cell), heading in zip(cells, headings, strict=True):
        if heading is not None:
            inside = heading in _PARTS or (_PARTS[0] not in headings and heading not in _FREE)
        if inside and cell["cell_type"] == "markdown":
            yield index, cell


def _heading(cell: dict[str, Any]) -> str | None:
    match = re.search(r"^## +(.+?)\s*$", joined(cell["source"]), flags=re.MULTILINE)
    return match[1].replace("’", "'") if match and cell["cell_type"] == "markdown" else None


def _listed(keys: str | list[str]) -> list[str]:
    return [keys] if isinstance(keys, str) else keys


def _wrong(number: str, unit: str, key: str, slug: str) -> str | None:
    """Return what is wrong with a printed number, None if the record gives it."""
    try:
        values = evaluated(key, slug)
    except ValueError as error:
        return f"{number!r}: {error}"
    shown = [part.strip(" %−").replace(",", "") for part in re.sub(_UNIT, "", number).split("±")]
    ours = [float(values.mean()), float(values.std(ddof=1))] if len(shown) == 2 else [float(values.mean())]
    scales = (100,) if unit in ("%", "points") else (1,) if unit else (1, 100)
    if any(all(map(_as_printed, shown, [scale * one for one in ours])) for scale in scales) and (
        not number.startswith("−") or ours[0] < 0
    ):
        return None
    given = " ± ".join(f"{scales[0] * one:.6g}" for one in ours)
    return f"{number!r} is printed, and {key} gives {given} {unit}".rstrip()


def _as_printed(text: str, value: float) -> bool:
    half = 0.5 * 10.0 ** -len(text.partition(".")[2])
    return abs(abs(value) - float(text)) <= half * (1 + 1e-9)


def evaluated(key: str, slug: str) -> np.ndarray:
    """Return the value of a key for each seed; of one that goes over the seeds, a single value.

    Raises
    ------
    ValueError
        If it is no such expression, or names a value that no record has.
    """
    names: dict[str, np.ndarray] = {}

    def put(match: re.Match[str]) -> str:
        name = f"v{len(names)}"
        names[name] = _values(slug, match[1] or "quick", match[2])
        return name

    try:
        tree = ast.parse(_NAME.sub(put, key), mode="eval")
    except SyntaxError:
        raise ValueError(f"{key!r} is no expression and none of {', '.join(OTHERS)}") from None
    if not names:
        raise ValueError(f"{key!r} names no value of a record, and is none of {', '.join(OTHERS)}")
    found = np.asarray(_of(tree.body, names, key))
    if found.ndim > 1:
        raise ValueError(f"{key!r} is a list for each seed; take one of it, as in {{name}}[0]")
    return found


def _values(slug: str, profile: str, name: str) -> np.ndarray:
    made = _records(slug, profile)
    if not made:
        raise ValueError(f"there is no {profile} record of {slug}")
    for record in made:
        if name in record.names:
            return np.array(record.values(name), dtype=float)
    raise ValueError(f"the {profile} record of {slug} has no value {name!r}")


def _records(slug: str, profile: str) -> list[records.Record]:
    if profile == "trained":
        return records.load_arms(slug)
    record = records.load(slug, profile) if profile in PROFILES else None
    return [] if record is None else [record]


_OPERATORS: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def _over_list(reduce: Callable) -> Callable:
    def reduced(*arguments: Any) -> Any:
        return reduce(arguments[0], axis=-1) if len(arguments) == 1 else reduce(np.stack(arguments), axis=0)

    return reduced


_FUNCTIONS: dict[str, Callable] = {
    "mean": lambda x: np.mean(x, axis=0),
    "sd": lambda x: np.std(x, axis=0, ddof=1),
    "least": lambda x: np.min(x, axis=0),
    "most": lambda x: np.max(x, axis=0),
    "average": _over_list(np.mean),
    "smallest": _over_list(np.min),
    "largest": _over_list(np.max),
    "at_seed": lambda x, i: x[int(i)],
    "abs": np.abs,
}


def _of(node: ast.AST, names: dict[str, np.ndarray], key: str) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_of(node.operand, names, key)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_of(node.left, names, key), _of(node.right, names, key))
    if isinstance(node, ast.Subscript):
        return _of(node.value, names, key)[..., int(_of(node.slice, names, key))]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
        return _FUNCTIONS[node.func.id](*(_of(argument, names, key) for argument in node.args))
    raise ValueError(f"{key!r}: {ast.unparse(node)!r} is not understood; functions are {', '.join(_FUNCTIONS)}")
