"""Stored notebooks: executed in place, cleaned, and checked for what must not be committed."""

import copy
import json
from pathlib import Path

import pytest
from compactvision import notebooks
from compactvision.records import dependencies


@pytest.fixture
def path(book) -> Path:
    return book / "notebooks" / "tiny.ipynb"


@pytest.fixture
def executed(path) -> Path:
    """Return the tiny notebook as it would be stored, without starting a kernel."""
    notebook = notebooks.read(path)
    for number, cell in enumerate(notebooks.code_cells(notebook), start=1):
        cell["execution_count"] = number
    depends = dependencies.digests(["measure/counts.py:macs", "text:measure/counts.py:macs"])
    notebook["metadata"]["compactvision"] = {"code": notebooks.code_digest(notebook), "depends": depends}
    path.write_text(json.dumps(notebook))
    return path


def change(path: Path, function) -> None:
    notebook = json.loads(path.read_text())
    function(notebook, [cell for cell in notebook["cells"] if cell["cell_type"] == "code"])
    path.write_text(json.dumps(notebook))


def test_execution_stores_outputs_digests_and_no_traces(path, edit):
    edit(path, 1, "print('an old set-up cell')")
    edit(path, 4, "import sys\nrun.log('count', 12)\nprint('  50%|#####  | 1/2', file=sys.stderr)", tags=[])
    notebooks.execute(path, timeout=240)
    first = path.read_text()
    notebook = json.loads(first)
    cells = notebooks.code_cells(notebooks.read(path))
    assert cells[0]["source"] == notebooks.setup_cell()
    assert [cell["execution_count"] for cell in cells] == [1, 2, 3, 4, 5, 6, 7]
    assert cells[0]["outputs"][0]["text"][0].startswith("compactvision ")
    assert cells[3]["outputs"] == []  # the progress bar is gone
    svg = "".join(cells[4]["outputs"][0]["data"]["text/html"])
    assert 'role="img" aria-label="A line from 0.5 down to 0.25."' in svg
    assert "".join(cells[4]["outputs"][0]["data"]["text/plain"]).startswith("Figure: Does the curve fall?")
    assert "<caption>What was logged</caption>" in "".join(cells[5]["outputs"][0]["data"]["text/html"])
    stored = notebook["metadata"]["compactvision"]
    assert stored["code"] == notebooks.code_digest(notebooks.read(path))
    assert {"experiment/run.py:start", "experiment/run.py:Run.log"} <= set(stored["depends"])
    assert not any(name.startswith(("claims:", "notebook:", "plots/")) for name in stored["depends"])
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    assert all(set(cell["metadata"]) <= {"tags"} for cell in notebook["cells"])
    assert notebooks.stale(path) is None
    assert notebooks.problems(path) == []


def test_a_failing_cell_leaves_the_file_as_it_was(path, edit):
    from nbclient.exceptions import CellExecutionError

    edit(path, 2, "raise ValueError('as told')", tags=[])
    edit(path, 1, notebooks.setup_cell())
    before = path.read_text()
    with pytest.raises(CellExecutionError, match="as told"):
        notebooks.execute(path, timeout=240)
    assert path.read_text() == before


def test_cleaning_removes_what_changes_from_run_to_run():
    widget = {"output_type": "display_data", "data": {"application/vnd.jupyter.widget-view+json": {}}, "metadata": {}}
    notebook = {
        "cells": [
            {
                "cell_type": "code",
                "metadata": {"execution": {"iopub.execute_input": "2026"}, "tags": ["setup"], "collapsed": True},
                "outputs": [
                    {"output_type": "stream", "name": "stdout", "text": ["one\n", "tw"]},
                    {"output_type": "stream", "name": "stdout", "text": "o\nslow\rfast\n"},
                    {"output_type": "stream", "name": "stderr", "text": "\r 10%|#    | 1/10 [00:01<00:09,  1.00it/s]"},
                    widget,
                    {"output_type": "stream", "name": "stderr", "text": "a warning\n"},
                ],
                "source": "",
            },
            {"cell_type": "markdown", "metadata": {"vscode": {}}, "source": ""},
        ],
        "metadata": {
            "widgets": {},
            "kernelspec": {"name": "my-env"},
            "language_info": {"name": "python", "version": "3.11.7"},
            "mystnb": {"execution_mode": "off"},
        },
    }
    given = copy.deepcopy(notebook)
    result = notebooks.cleaned(notebook)
    assert notebook == given
    assert result["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "mystnb": {"execution_mode": "off"},
    }
    assert [cell["metadata"] for cell in result["cells"]] == [{"tags": ["setup"]}, {}]
    assert result["cells"][0]["outputs"] == [
        {"output_type": "stream", "name": "stdout", "text": "one\ntwo\nfast\n"},
        {"output_type": "stream", "name": "stderr", "text": "a warning\n"},
    ]
    assert notebooks.cleaned(result) == result


def test_stale_tells_code_and_method_apart(executed, edit, monkeypatch):
    assert notebooks.stale(executed) is None
    edit(executed, 1, "print('another set-up cell')")
    assert notebooks.stale(executed) is None
    with monkeypatch.context() as patch:
        patch.setattr(dependencies, "today", lambda name: "other")
        told = notebooks.stale(executed)
    assert told.startswith("what ran behind tiny.ipynb has changed since its cells were executed (measure/counts")
    edit(executed, 5, "x = 1")
    assert notebooks.stale(executed).startswith("the code cells of tiny.ipynb have changed")
    change(executed, lambda notebook, cells: notebook["metadata"].pop("compactvision"))
    assert notebooks.stale(executed).endswith("run: python -m compactvision execute tiny")


def output(data=None, **others):
    return {"output_type": "display_data", "metadata": {}, "data": data or {}} | others


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda n, c: n["metadata"]["kernelspec"].update(name="my-env"), "the kernel is not 'python3'"),
        (lambda n, c: c[2].update(execution_count=9), "execution counts are [1, 2, 9, 4, 5, 6, 7], not 1 to 7"),
        (lambda n, c: c[2].update(execution_count=None), "execution counts are"),
        (
            lambda n, c: c[2].update(outputs=[{"output_type": "error", "ename": "KeyError", "traceback": []}]),
            "code cell 3: it ended with KeyError",
        ),
        (
            lambda n, c: c[2].update(outputs=[{"output_type": "stream", "name": "stderr", "text": "warned"}]),
            "code cell 3: it wrote to stderr",
        ),
        (lambda n, c: c[3].update(outputs=[output({"image/png": "iVBO"})]), "code cell 4: it shows a picture without"),
        (
            lambda n, c: c[3].update(outputs=[output({"text/plain": ["in /home/", "me/data"]})]),
            "code cell 4: its output holds a path of a machine, '/home/m'",
        ),
        (
            lambda n, c: c[3].update(outputs=[{"output_type": "stream", "name": "stdout", "text": "C:\\Users"}]),
            "path of a machine",
        ),
        (lambda n, c: c[4].update(source="%timeit 3"), "code cell 5: the cell: IPython magics"),
        (lambda n, c: c[4].update(source="x = = 3"), "code cell 5: invalid syntax"),
        (lambda n, c: c[0].update(source="import sys"), "the set-up cell is not the one of this version"),
        (lambda n, c: c[0]["metadata"].update(tags=["setup"]), "the set-up cell lacks the tag 'hide-cell'"),
        (lambda n, c: c[0]["metadata"].update(tags=[]), "0 code cells have the tag 'setup'"),
        (lambda n, c: c[1]["metadata"].update(tags=[]), "0 code cells have the tag 'parameters'"),
        (lambda n, c: c[6].update(source="print(1)"), "the last code cell does not call run.check()"),
        (lambda n, c: n["cells"][0].update(source="x" * (3 * 2**20)), "bytes; at most 3,145,728 are allowed"),
    ],
)
def test_each_problem_is_found(executed, function, words):
    assert notebooks.problems(executed) == []
    change(executed, function)
    found = notebooks.problems(executed)
    assert any(words in text for text in found), found


def test_what_only_looks_like_a_path_is_none(executed):
    texts = ["data:image/png;base64,/tmp/abc/home/x==", "see https://x.org/home/page", "a/work/b ratio /tmp "]
    change(executed, lambda n, c: c[3].update(outputs=[output({"text/html": texts})]))
    assert notebooks.problems(executed) == []


def test_a_paper_chapter_follows_the_template(executed, book):
    claims = book / "claims" / "tiny.toml"
    claims.write_text(claims.read_text().replace('part = "start"', 'part = "cut"\npaper = "Nobody 2021"'))
    assert notebooks.problems(executed) == ["the heading 'The question' of the chapter template is missing"]
    texts = [f"## {i}. {name}\n\ntext\n### Details\n" for i, name in enumerate(notebooks.TEMPLATE, start=1)]

    def write(sections):
        change(executed, lambda n, c: n["cells"][0].update(source="# Title\n" + "\n".join(sections)))
        return notebooks.problems(executed)

    assert write([*texts, "## Appendix\n"]) == []
    assert write([text.replace("'", "’") for text in texts]) == []
    assert write(texts[:-1]) == ["the heading 'Exercises' of the chapter template is missing"]
    assert (
        "repeated or out of order: The idea in one picture, The question" in write([texts[1], texts[0], *texts[2:]])[0]
    )
    assert "repeated" in write([*texts, texts[0]])[0]


def test_a_notebook_that_is_no_chapter_has_no_method(book, executed):
    other = executed.with_name("other.ipynb")
    other.write_text(executed.read_text())
    change(other, lambda n, c: n["metadata"]["compactvision"].update(package=None))
    assert notebooks.stale(other) is None
