"""The primer's code runs as it stands, from top to bottom, and prints what its text says."""

import re


def test_code_of_the_primer_runs(repo, capsys):
    text = (repo / "book" / "factorise.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 5
    names = {}
    exec(compile("\n".join(blocks), "book/factorise.md", "exec"), names)
    weak, strong = (float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()[:2])
    assert weak > 0.1
    assert strong == 0
    break_even = max(r for r in range(1, 65) if r * (576 + 64) < names["kernel"].numel())
    assert f"only if $r$ is at most {break_even}" in text


def test_the_cheat_sheet_counts_like_the_layers(repo):
    from compactvision.models import factorised

    layer = factorised.TTConv2d(64, 64, 3, ranks=(20, 20), bias=False)
    held = sum(parameter.numel() for parameter in layer.parameters())
    assert f"{held:,} weights" in (repo / "book" / "_static" / "factorise.svg").read_text(encoding="utf-8")
