"""The primer's code runs as it stands, from top to bottom."""

import re


def test_code_of_the_primer_runs(repo, capsys):
    text = (repo / "book" / "proximal-maps.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 5
    exec(compile("\n".join(blocks), "book/proximal-maps.md", "exec"), {})
    assert "sub-gradient: 0 exact zeros" in capsys.readouterr().out
