"""The primer's code runs as it stands, from top to bottom, and prints what its text says."""

import json
import re
from statistics import fmean, stdev

import pytest


def test_code_of_the_primer_runs(repo, capsys):
    text = (repo / "book" / "search.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 5
    names = {}
    exec(compile("\n".join(blocks), "book/search.md", "exec"), names)
    space, *counted, bilevel, idle, loud, quiet = capsys.readouterr().out.splitlines()
    assert names["pairs_of_cells"] == pytest.approx(1e18, rel=0.2)
    assert space.endswith("pairs of cells")
    rows = re.findall(r"^\| (\d) \| (\d+) \| (\d+) % \|", text, flags=re.MULTILINE)
    assert counted == [f"{n} convolutions of 3 x 3: {int(c):3d} cells read {m} % on average" for n, c, m in rows]
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


def test_what_the_primer_says_of_the_bench(repo):
    from compactvision.search import small_cells

    text = (repo / "book" / "search.md").read_text(encoding="utf-8")
    table, record = small_cells.table(), json.loads(small_cells.FILE.read_text(encoding="utf-8"))
    means = {choice: fmean(row.test) for choice, row in table.items()}
    for count, cells, *told in re.findall(r"^\| (\d) \| (\d+) \| (\d+) % \| (\d+) % \| (\d+) % \|", text, re.MULTILINE):
        found = [value for choice, value in means.items() if choice.count("conv_3x3") == int(count)]
        assert len(found) == int(cells)
        assert [f"{100 * value:.0f}" for value in (fmean(found), min(found), max(found))] == told
    different = {small_cells.canonical(choice) for choice in table}
    assert f"{len(different)} different cells" in text
    assert set(record["cells"]) == set(map(small_cells.key, different))
    recipe = record["recipe"]
    assert len(recipe["seeds"]) == 3
    assert f"{recipe['steps']} steps of {recipe['batch_size']} characters" in text
    assert f"rises to {recipe['learning_rate']}" in text
    assert f"{small_cells.SIZE} × {small_cells.SIZE} pixels" in text
    spread = fmean(stdev(table[choice].test) for choice in different)
    assert f"{100 * spread:.0f} points in the mean" in text
    second, best = sorted(means[choice] for choice in different)[-2:]
    assert best - second < spread
