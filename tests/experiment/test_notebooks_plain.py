"""Notebooks in plain Python: parameters overridden, magics refused, tracebacks that name the cell."""

import inspect
import json
import pickle
import re
import sys
import traceback
from pathlib import Path

import pytest
from compactvision import notebooks
from compactvision.experiment.run import collecting


@pytest.fixture
def path(book) -> Path:
    return book / "notebooks" / "tiny.ipynb"


def test_cells_run_with_overridden_parameters_where_the_notebook_lies(path, edit):
    edit(path, 5, "import os\nwhere = os.getcwd()\nimport matplotlib\nbackend = matplotlib.get_backend()")
    here = Path.cwd()
    with collecting() as session:
        names = notebooks.run_cells(path, {"PROFILE": "full", "DEVICE": "cpu", "SEED": 7})
    assert (names["PROFILE"], names["DEVICE"], names["SEED"]) == ("full", "cpu", 7)
    assert (session.runs[0].profile, session.runs[0].seed) == ("full", 7)
    assert session.runs[0].values["net.accuracy"] == pytest.approx(0.97)
    assert Path(names["where"]) == path.parent
    assert Path.cwd() == here
    assert names["backend"].lower() == "agg"
    assert "compactvision_notebook" not in sys.modules


def test_a_traceback_names_notebook_cell_and_line(path, edit):
    edit(path, 4, "first = 1\nraise KeyError(first)")
    with pytest.raises(KeyError) as error:
        notebooks.run_cells(path, {})
    text = "".join(traceback.format_exception(error.value))
    assert 'File "tiny.ipynb, code cell 4", line 2, in <module>' in text
    assert "raise KeyError(first)" in text


def test_functions_and_classes_of_cells_have_a_source_and_can_be_pickled(path, edit):
    edit(path, 4, "class Point:\n    x = 3\ncopied = __import__('pickle').loads(__import__('pickle').dumps(Point()))")
    edit(path, 5, "def double(x):\n    return 2 * x\nimport inspect\ntext = inspect.getsource(double)")
    edit(path, 7, "")
    names = notebooks.run_cells(path, {})
    assert names["copied"].x == 3
    assert names["text"] == "def double(x):\n    return 2 * x\n"
    assert inspect.isfunction(names["double"])
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(names["Point"]())


@pytest.mark.parametrize("magic", ["%matplotlib inline", "x = 1\n!ls", "%%time\nx = 1", "print?", "  %pip install x"])
def test_magics_are_refused_with_the_cells_number_before_anything_runs(path, edit, magic):
    edit(path, 5, magic)
    with (
        pytest.raises(ValueError, match=r"tiny\.ipynb, code cell 5: IPython magics"),
        collecting() as session,
    ):
        notebooks.run_cells(path, {})
    assert session.runs == []


def test_a_percent_sign_is_no_magic_and_wrong_python_is_wrong_python(path, edit):
    edit(path, 4, "rest = (7\n% 4)")
    edit(path, 7, "")
    assert notebooks.run_cells(path, {})["rest"] == 3
    edit(path, 4, "rest = = 3")
    with pytest.raises(SyntaxError) as error:
        notebooks.run_cells(path, {})
    assert error.value.filename == "tiny.ipynb, code cell 4"


def test_cells_tagged_skip_run_only_display(path, edit):
    edit(path, 6, "skipped = True", tags=["skip-run"])
    assert "skipped" not in notebooks.run_cells(path, {})
    edit(path, 6, "run.log('hidden', 3)", tags=["skip-run"])
    with pytest.raises(ValueError, match="code cell 6: a cell tagged 'skip-run' only displays"):
        notebooks.run_cells(path, {})


def test_display_outside_a_skipped_cell_does_nothing(path, edit):
    edit(path, 6, "display(3, metadata={})", tags=[])
    assert notebooks.run_cells(path, {})["SEED"] == 0


def test_the_parameters_cell_is_needed_once_and_whole(path, edit):
    edit(path, 2, 'PROFILE: str = "quick"\nDEVICE = "cpu"', tags=["parameters"])
    with pytest.raises(ValueError, match="code cell 2: the parameters cell does not assign SEED"):
        notebooks.run_cells(path, {})
    edit(path, 2, "", tags=[])
    with pytest.raises(ValueError, match="0 code cells have the tag 'parameters'"):
        notebooks.run_cells(path, {})
    with pytest.raises(ValueError, match="overrides: 'EPOCHS' is not one of"):
        notebooks.run_cells(path, {"EPOCHS": 3})


def test_only_notebooks_of_format_4_are_read(tmp_path):
    path = tmp_path / "x.ipynb"
    for text in ("{", "[]", '{"nbformat": 3, "worksheets": []}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"x\.ipynb: no notebook"):
            notebooks.read(path)


def test_find_says_what_to_do(book, monkeypatch, tmp_path):
    assert notebooks.find("tiny") == book / "notebooks" / "tiny.ipynb"
    with pytest.raises(ValueError, match=r"there is no notebook notebooks/none\.ipynb"):
        notebooks.find("none")
    monkeypatch.setattr(notebooks.sources, "notebooks_folder", lambda: None)
    with pytest.raises(ValueError, match="installed without the book; clone it: git clone https://"):
        notebooks.find("tiny")


def test_notebooks_are_looked_for_in_the_working_copy_around(tmp_path, monkeypatch):
    from compactvision.records import places

    monkeypatch.delenv("COMPACTVISION_BOOK", raising=False)
    assert places.notebooks_folder() == places.CHECKOUT / "notebooks"
    monkeypatch.setattr(places, "PACKAGE", tmp_path / "site" / "compactvision")
    monkeypatch.chdir(tmp_path)
    assert not places.in_checkout()
    assert places.notebooks_folder() is None
    (tmp_path / "_toc.yml").touch()
    (tmp_path / "notebooks" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "notebooks" / "deep")
    assert places.notebooks_folder() == tmp_path / "notebooks"
    monkeypatch.delenv("COMPACTVISION_CACHE", raising=False)
    assert places.cache_folder() == Path.home() / ".cache" / "compactvision" / "runs"


def test_the_set_up_cell_installs_the_tagged_package_in_colab_only(monkeypatch, capsys):
    source = notebooks.setup_cell("1.2.3", "https://github.com/you/book")
    assert "git+https://github.com/you/book@v1.2.3#subdirectory=lib" in source
    calls = []
    monkeypatch.setattr("subprocess.run", lambda command, check: calls.append(command))
    code = compile(source.replace("print(experiment.stamp())", ""), "set-up", "exec")
    exec(code, {})
    assert calls == []
    monkeypatch.setitem(sys.modules, "google.colab", object())
    exec(code, {})
    assert calls == [
        [sys.executable, "-m", "pip", "install", "--quiet", "git+https://github.com/you/book@v1.2.3#subdirectory=lib"]
    ]
    assert not re.search(r"torch|numpy", source)


def test_the_digest_of_the_code_leaves_out_what_is_asked_for(path):
    notebook = notebooks.read(path)
    digest = notebooks.code_digest(notebook)
    cells = notebooks.code_cells(notebook)
    cells[0]["source"] = "other set-up"
    assert notebooks.code_digest(notebook) == digest
    cells[1]["source"] += "  \n\n"
    assert notebooks.code_digest(notebook) == digest
    cells[5]["source"] = "other"
    assert notebooks.code_digest(notebook) != digest
    assert notebooks.tags_of(json.loads('{"metadata": {}}')) == frozenset()
