"""The primer's code runs as it stands, from top to bottom."""

import re


def test_code_of_the_primer_runs(repo, capsys):
    text = (repo / "book" / "cut.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 5
    names = {}
    exec(compile("\n".join(blocks), "book/cut.md", "exec"), names)
    assert names["plan"].macs < names["graph"].macs
    assert "stream" in capsys.readouterr().out
