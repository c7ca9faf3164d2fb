"""Mutants are found where code decides something, written back at their place, and killed or not by tests."""

import ast

from mutants import changes
from mutants.__main__ import judged, report, sample
from mutants.hunt import KILLED, SURVIVED
from mutants.record import PACKAGE, Contexts

CODE = '''"""Text 1 + 1."""
LIST = [1]


def f(x: int = 3, y="a") -> int:
    """Text 2 < 3."""
    if x > 2 and not y:
        raise ValueError(f"x must be {x + 1}")
    for pair in zip(x, y, strict=True):
        x.append(min(pair))
    return abs(x) - 1


class A:
    def __repr__(self):
        return 1 + 1
'''


def _found(tmp_path):
    (tmp_path / "code.py").write_text(CODE, encoding="utf-8")
    return changes.mutants(tmp_path, "code.py")


def test_each_kind_of_change_is_found_and_text_is_left_alone(tmp_path):
    found = {(mutant.old, mutant.new) for mutant in _found(tmp_path)}
    assert found >= {
        ("3", "(4)"), ("x > 2", "(x >= 2)"), ("x > 2 and not y", "(x > 2 or not y)"), ("not y", "y"),
        ("x > 2 and not y", "(not (x > 2 and (not y)))"), ('raise ValueError(f"x must be {x + 1}")', "pass"),
        ("zip(x, y, strict=True)", "(zip(y, x, strict=True))"), ("x.append(min(pair))", "pass"),
        ("min(pair)", "(max(pair))"), ("abs(x)", "x"), ("abs(x) - 1", "(abs(x) + 1)"),
        ("return abs(x) - 1", "return"),
    }  # fmt: skip
    assert not {old for old, _ in found} & {"x + 1", "1 + 1", "True", "2 < 3", "strict=True"}


def test_a_mutant_is_the_file_with_one_change_and_has_a_key_of_its_own(tmp_path):
    found = _found(tmp_path)
    assert len({mutant.key for mutant in found}) == len(found)
    for mutant in found:
        changed = mutant.applied(CODE)
        assert changed != CODE
        ast.parse(changed)
        assert CODE[mutant.start : mutant.end] == mutant.old


def test_all_mutants_of_the_package_can_be_read_by_python():
    texts = {}
    for mutant in sample("pruning/dcff", 60, 1):
        text = texts.setdefault(mutant.path, (PACKAGE / mutant.path).read_text(encoding="utf-8"))
        ast.parse(mutant.applied(text))


def test_samples_follow_the_seed():
    assert sample("", 20, 5) == sample("", 20, 5) != sample("", 20, 6)


def test_the_fastest_tests_of_a_line_come_first():
    contexts = Contexts({"a.py": {1: ["slow", "fast"], 2: ["other"]}}, {"slow": 2.0, "fast": 0.1, "other": 1.0})
    assert contexts.tests("a.py", 1, 1) == ["fast", "slow"]
    assert contexts.tests("a.py", 9, 9) == ["fast", "other", "slow"]  # a line that runs at import
    assert contexts.tests("b.py", 1, 1) == []


def test_the_report_counts_what_is_judged_equivalent_apart():
    first, second, third = sample("dcff", 3, 0)
    results = {first.key: [KILLED, 1], second.key: [SURVIVED, 4], third.key: [SURVIVED, 2]}
    text = report([first, second, third], results, {third.key: "the same number"})
    assert "killed: 1 of 2, 50.0 %" in text
    assert "judged equivalent: the same number" in text
    assert second.key in text


def test_keys_of_the_judged_ones_are_those_of_mutants():
    assert set(judged()) <= {mutant.key for mutant in sample("", 10**6, 0)}
