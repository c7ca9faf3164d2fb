"""What functions that ran can read, found in the text of a small package."""

import ast

import pytest
from compactvision.records import cells, dependencies, places
from compactvision.records.dependencies import closure, of_tree

FILES = {
    "__init__.py": "",
    "a.py": """
from compactvision.sub import helper, LIMIT
from compactvision import sub
import compactvision.sub.tables as named

RATE = 3
SPARE = 4
MADE = helper(RATE)
OF_FUNCTIONS = {"one": helper}

def plain(x):
    "Words."
    return x

def reads_one():
    return RATE

def reads_many():
    return LIMIT + sub.tables.ROWS + named.WIDTH + sub.lazily_loaded

def reads_made():
    return MADE

def reads_functions():
    return OF_FUNCTIONS["one"]

def reads_inside():
    from compactvision.sub.tables import ROWS as rows
    return rows

def by_default(x=SPARE):
    return x

class Base:
    STEP = 2

    def method(self):
        return self.STEP

class Settings(Base):
    size: int = SPARE

    def method(self):
        return RATE

CHOSEN = Settings()

def reads_chosen():
    return CHOSEN.size

def reads_class():
    return Settings.STEP

def decorate(function):
    return function

@decorate
def decorated():
    return 1

def decorate_with(value):
    return decorate

@decorate_with(helper(2))
def decorated_with():
    return 2
""",
    "sub/__init__.py": """
from .helpers import helper
from . import tables
from compactvision._lazy import lazy

LIMIT = 5
__getattr__, __dir__ = lazy(__name__, ["tables", "late"], {"lazily_loaded": "late"})
""",
    "sub/helpers.py": """
from .tables import ROWS, WIDTH
from .. import a

def helper(x):
    return deeper(x)

def deeper(x):
    return x + WIDTH

def relative():
    return a.SPARE
""",
    "sub/tables.py": "ROWS = [1]\nROWS.append(2)\nWIDTH = 7\nUNUSED = 8\n",
    "sub/late.py": "lazily_loaded = 9\n",
    "plots/__init__.py": "COLOUR = 1\n",
}
READ = {
    "plain": set(),
    "reads_one": {"a.py:RATE"},
    "reads_many": {"sub/__init__.py:LIMIT", "sub/tables.py:ROWS", "sub/tables.py:WIDTH", "sub/late.py:lazily_loaded"},
    "reads_made": {"a.py:MADE", "a.py:RATE", "sub/helpers.py:helper", "sub/helpers.py:deeper", "sub/tables.py:WIDTH"},
    "reads_functions": {"a.py:OF_FUNCTIONS"},  # which of them ran is seen
    "reads_inside": {"sub/tables.py:ROWS"},
    "by_default": {"a.py:SPARE"},
    "reads_chosen": {"a.py:CHOSEN", "a.py:Settings", "a.py:Base", "a.py:SPARE"},
    "reads_class": {"a.py:Settings", "a.py:Base", "a.py:SPARE"},
    "Settings.method": {"a.py:Settings", "a.py:Base", "a.py:SPARE", "a.py:RATE"},
    "decorated": {"a.py:decorate"},
    "decorated_with": {
        "a.py:decorate_with",
        "sub/helpers.py:helper",
        "sub/helpers.py:deeper",
        "sub/tables.py:WIDTH",
    },
}


@pytest.fixture(autouse=True)
def _package(tmp_path, monkeypatch):
    for name, text in FILES.items():
        path = tmp_path / "lib" / "compactvision" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(places, "PACKAGE", tmp_path / "lib" / "compactvision")


@pytest.mark.parametrize("name", READ)
def test_a_function_stands_on_what_it_can_read(name):
    assert closure([f"a.py:{name}"]) == {f"a.py:{name}", *READ[name]}


def test_relative_imports_lead_upwards_too():
    assert closure(["sub/helpers.py:relative"]) == {"sub/helpers.py:relative", "a.py:SPARE"}


def test_a_function_inside_another_and_a_lambda_belong_to_what_they_stand_in():
    names = ["a.py:plain.<locals>.inner", "a.py:reads_one.<locals>.<lambda>", "a.py:<lambda>", "a.py:Settings.<lambda>"]
    found = closure(names)
    assert found == {"a.py:plain", "a.py:reads_one", "a.py:RATE", "a.py:Settings", "a.py:Base", "a.py:SPARE"}


def test_a_notebook_stands_on_constants_that_its_cells_read(monkeypatch):
    code = "from compactvision import a, plots\nfrom compactvision.sub import tables as t\n"
    code += "print(a.RATE, plots.COLOUR)\nx = t.UNUSED\ndef own():\n    return a.LIMIT\n"
    monkeypatch.setattr(cells, "running", lambda slug, without=None: ast.parse(code).body)
    assert closure([], "any") == {"a.py:RATE", "sub/tables.py:UNUSED", "sub/__init__.py:LIMIT"}


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("def f(x):\n  return x", "def f(x: int) -> int:\n    'Words.'\n\n    return x  # why", True),
        ("raise ValueError('a')", "raise ValueError(f'b {x}')", True),
        ("raise ValueError('a')", "raise TypeError('a')", False),
        ("def f(x): return x", "def f(x=1): return x", False),
        ("x = 1", "x = 1.0", False),
        ("x = 1", "x = True", False),
        ("f(None)", "f()", False),
        ("return_ = None", "return_ = 0", False),
        ("def f(): return", "def f(): return None", False),
        ("a - b", "b - a", False),
        ("class A:\n  x: int", "class A:\n  y: int", False),
        ("x = 'a' 'b'", "x = 'ab'", True),
        ("x = (1,\n 2)", "x = (1, 2)", True),
    ],
)
def test_code_counts_and_words_do_not(before, after, same):
    assert (of_tree(ast.parse(before).body) == of_tree(ast.parse(after).body)) is same


PINNED = """
@cache
async def f(x, *a, k=-1.5e-3, **o):
    return f"{x!r:>{k}}" "é" + b"\\0" [a[1:], ..., lambda: {**o}]
try:
    with a as b:
        del b
except* E:
    x: int = yield
"""


def test_digests_are_the_same_under_every_python():
    assert of_tree(ast.parse(PINNED).body) == "86d6a9c315fdef38"


def test_a_method_counts_where_it_runs_and_not_with_its_class():
    before = dependencies.today("a.py:Settings")
    path = places.PACKAGE / "a.py"
    path.write_text(path.read_text().replace("        return RATE", "        return 2 * RATE"))
    assert dependencies.today("a.py:Settings") == before
    path.write_text(path.read_text().replace("size: int = SPARE", "size: int = 2"))
    assert dependencies.today("a.py:Settings") != before


def test_what_changes_a_table_behind_its_definition_counts_for_it():
    before = dependencies.today("sub/tables.py:ROWS")
    path = places.PACKAGE / "sub" / "tables.py"
    path.write_text(path.read_text().replace("append(2)", "append(3)"))
    assert dependencies.today("sub/tables.py:ROWS") != before
    path.write_text("ROWS = [1]\nROWS.append(2)\nWIDTH = 9\n")
    assert dependencies.today("sub/tables.py:ROWS") == before


def test_names_that_are_gone_have_changed():
    names = dependencies.digests(["a.py:plain", "a.py:RATE", "sub/tables.py", "no.py:f", "none.bin"])
    assert list(names) == ["a.py:RATE", "a.py:plain", "sub/tables.py"]
    assert dependencies.changed(names) == []
    (places.PACKAGE / "a.py").write_text("def plain(x):\n    return x\n")
    assert dependencies.changed(names) == ["a.py:RATE"]


@pytest.mark.parametrize(
    "name",
    ["../../outside.py", "/etc/hostname", "sub/../../outside.py:f", "text:../../outside.py:f", "claims:../x/quick"],
)
def test_a_name_leads_nowhere_but_into_the_package(name, tmp_path):
    (tmp_path / "outside.py").write_text("def f():\n    return 1\n")
    (tmp_path / "lib" / "compactvision" / "claims").mkdir()
    (tmp_path / "lib" / "compactvision" / "x.toml").write_text("")
    assert dependencies.today(name) is None
