"""The book's own notebooks: their stored outputs are those of today's code, and their form is the book's."""

from pathlib import Path

import pytest
from compactvision import claims, notebooks

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
STORED = sorted(FOLDER.glob("*.ipynb"))


def test_every_chapter_has_its_notebook_and_every_notebook_its_claims():
    assert {path.stem for path in STORED} == set(claims.slugs())


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_outputs_are_fresh(path):
    assert notebooks.stale(path) is None


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_notebooks_are_in_form(path):
    assert notebooks.problems(path) == []


def test_every_stored_output_says_what_ran():
    assert [path.stem for path in STORED if "depends" not in notebooks.read(path)["metadata"]["compactvision"]] == []
