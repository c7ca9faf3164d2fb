"""The primer's code runs as it stands, from top to bottom, and prints what its text says."""

import re

import pytest


def test_code_of_the_primer_runs(repo, capsys):
    text = (repo / "book" / "search.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    names = {}
    exec(compile("\n".join(blocks), "book/search.md", "exec"), names)
    space, bilevel, idle, loud, quiet = capsys.readouterr().out.splitlines()
    assert names["pairs_of_cells"] == pytest.approx(1e18, rel=0.2)
    assert space.endswith("pairs of cells")
    whole, direct, unrolled = (float(number) for number in re.findall(r"-?\d+\.\d+", bilevel))
    assert whole < unrolled < 0 < direct  # "wrong sign"; "the sign right and the size wrong"
    assert 0 < names["idle"] < names["whole_size"]
    assert idle.startswith(str(names["idle"]))
    assert float(quiet.split()[-1]) < 0.1 * float(loud.split()[-1])


def test_the_cheat_sheet_counts_like_the_package(repo):
    from compactvision.models.cells import NAT_OPERATIONS, cost

    text = (repo / "book" / "search-cheat-sheet.md").read_text(encoding="utf-8")
    rows = {row[0]: row[1] for row in re.findall(r"^\| ([^|]+) \| \$([^|$]+)\$ \|", text, flags=re.MULTILINE)}
    for name in (name for name in NAT_OPERATIONS if "conv" in name):
        kind = {"s": "separable", "d": "dilated"}.get(name[0])
        formula = rows[f"{kind} $k \\times k$" if kind else "$k \\times k$ convolution"]
        code = re.sub(r"(?<=\d) (?=[C(])", "*", formula.replace("^", "**"))
        assert eval(code, {"k": int(name[-1]), "C": 12}) == cost(name, 12, 8).parameters, name


def test_the_picture_tells_the_size_of_the_space(repo):
    from compactvision.search import small_cells

    text = (repo / "book" / "_static" / "search.svg").read_text(encoding="utf-8")
    assert f"3 of {len(small_cells.all_choices())}" in text
