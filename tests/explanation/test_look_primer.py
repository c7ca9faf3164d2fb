"""The primer's code runs as it stands, from top to bottom."""

import re


def test_code_of_the_primer_runs(repo):
    text = (repo / "book" / "look.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 6
    names = {}
    exec(compile("\n".join(blocks), "book/look.md", "exec"), names)
    assert names["drop"].shape == (4,)
    assert names["drop"].abs().max() > 0.01
