"""The table of claims on a page is that of today's claims and records, and is renewed without running the chapter."""

import json

import pytest
from compactvision import notebooks
from compactvision.__main__ import main
from compactvision.notebooks.told import outdated

OLD = {"output_type": "execute_result", "execution_count": 4, "metadata": {}, "data": {"text/plain": "an old table"}}


def stored(path, outputs: list) -> None:
    notebook = json.loads(path.read_text())
    cell = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"][3]
    cell["outputs"] = outputs
    notebook["metadata"]["compactvision"] = {"code": notebooks.code_digest(notebooks.read(path)), "depends": {}}
    path.write_text(json.dumps(notebook))


@pytest.fixture
def path(book, edit):
    path = book / "notebooks" / "tiny.ipynb"
    edit(path, 4, "from compactvision import claims\n\nclaims.table('tiny')", tags=[])
    stored(path, [OLD])
    return path


def test_an_old_table_is_stale_and_is_renewed_alone(path, capsys):
    before = notebooks.read(path)
    assert outdated(before) == ["tiny"]
    assert "the claims on the page of tiny.ipynb are not today's" in notebooks.stale(path)
    assert main(["execute", "--claims", "tiny"]) == 0
    assert capsys.readouterr().out == "tiny.ipynb: claims renewed\n"
    assert notebooks.stale(path) is None
    after = notebooks.read(path)
    (cell,) = (cell for cell in notebooks.code_cells(after) if "claims.table" in cell["source"])
    assert "<table" in "".join(cell["outputs"][0]["data"]["text/html"])
    cell["outputs"] = [OLD]
    assert [c["source"] for c in after["cells"]] == [c["source"] for c in before["cells"]]
    assert [c.get("outputs") for c in after["cells"]] == [c.get("outputs") for c in before["cells"]]
    assert main(["execute", "--claims", "tiny"]) == 0
    assert capsys.readouterr().out == "tiny.ipynb: claims are those of today\n"


def test_a_claim_in_other_words_makes_the_page_stale(path, book):
    notebooks.renew_claims(path)
    claims = book / "claims" / "tiny.toml"
    text = claims.read_text()
    first = next(line for line in text.splitlines() if line.startswith("text = "))
    claims.write_text(text.replace(first, 'text = "It says something else now."'))
    assert "claims on the page" in notebooks.stale(path)


def test_a_notebook_that_was_never_executed_has_no_table_to_renew(path):
    stored(path, [])
    with pytest.raises(ValueError, match=r"tiny\.ipynb was not executed yet"):
        notebooks.renew_claims(path)
