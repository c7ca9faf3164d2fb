"""Numbers in prose carry the key of a record's value, and are what it gives."""

import pytest
from compactvision import records
from compactvision.notebooks import numbers

SLUG = "proximal_network_slimming"


def page(*cells: tuple[str, dict]) -> dict:
    texts = [("## The experiment", {}), *cells, ("## Exercises\n\nSay 12.5 % of it.", {})]
    return {
        "cells": [
            {"cell_type": "markdown", "source": text, "metadata": {"numbers": keys} if keys else {}}
            for text, keys in texts
        ]
    }


def text_of(name: str, *, scale: float = 100, digits: int = 1) -> str:
    return f"{scale * records.load(SLUG, 'quick').mean(name):.{digits}f}"


@pytest.fixture(scope="module")
def name() -> str:
    """Return a value of the record that is a fraction, and differs from seed to seed."""
    record = records.load(SLUG, "quick")
    found = [n for n in record.names if not isinstance(record.values(n)[0], list)]
    apart = [n for n in found if len(set(record.values(n))) == len(record.seeds)]
    return next(n for n in apart if all(0.1 < v < 0.9 for v in record.values(n)))


def test_what_counts_as_a_number_of_a_result():
    text = (
        "Of 16 filters 58, 90 and 94 % stay, at 2.4 ± 0.3 points; 3 × 3 kernels, $0.5$, `0.25`, [a](x/1.5) "
        "and 8\u00a0% and 1 point, 1.5 times; resnet56 has 1,024 parts, −0.2 points."
    )
    assert numbers.printed(text) == [
        ("58", "%"),
        ("90", "%"),
        ("94 %", "%"),
        ("2.4 ± 0.3 points", "points"),
        ("8 %", "%"),
        ("1 point", "points"),
        ("1.5 times", "times"),
        ("−0.2 points", "points"),
    ]


def test_a_number_without_a_key_and_a_key_without_its_number_are_told(name):
    found = numbers.problems(page(("It keeps 81.5 %, and 0.9 of it.", {"0.9": "setting", "7 %": "paper"})), SLUG)
    assert found == ["cell 1: '81.5 %' has no key", "cell 1: '7 %' has a key, and is not in the text"]


def test_the_printed_digits_are_compared_with_the_record(name):
    right = text_of(name)
    assert numbers.problems(page((f"It keeps {right} %.", {f"{right} %": f"{{{name}}}"})), SLUG) == []
    bare = {f"{right}": f"{{{name}}}"}
    assert numbers.problems(page((f"It keeps {right}.", bare)), SLUG) == []
    other = f"{float(right) + 0.2:.1f} %"  # a value half-way between two digits may be printed as either
    (found,) = numbers.problems(page((f"It keeps {other}.", {other: f"{{{name}}}"})), SLUG)
    assert found.startswith(f"cell 1: '{other}' is printed, and {{{name}}} gives ")


def test_a_changed_record_turns_the_number(name, monkeypatch):
    right = text_of(name)
    text = page((f"It keeps {right} %.", {f"{right} %": f"{{{name}}}"}))
    monkeypatch.setattr(numbers, "_values", lambda *_: numbers.np.array([0.001, 0.002, 0.003]))
    assert len(numbers.problems(text, SLUG)) == 1


def test_every_key_of_a_list_has_to_give_the_number(name):
    right = f"{text_of(name)} %"
    assert numbers.problems(page((f"Both {right}.", {right: [f"{{{name}}}", "setting"]})), SLUG) == []
    assert len(numbers.problems(page((f"Both {right}.", {right: [f"{{{name}}}", f"{{{name}}} / 2"]})), SLUG)) == 1


def test_expressions_go_over_seeds_and_lists(name):
    one = records.load(SLUG, "quick").values(name)
    key = f"{{{name}}}"
    assert numbers.evaluated(f"{key} - {key} / 2", SLUG) == pytest.approx([v / 2 for v in one])
    assert numbers.evaluated(f"most({key}) - least({key})", SLUG) == pytest.approx(max(one) - min(one))
    assert numbers.evaluated(f"at_seed({key}, 1)", SLUG) == pytest.approx(one[1])
    assert numbers.evaluated(f"largest({key}, -{key})", SLUG) == pytest.approx(one)
    assert numbers.evaluated(f"mean({key}) * 2 + 1", SLUG) == pytest.approx(2 * sum(one) / len(one) + 1)


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("{no.such.value}", "has no value 'no.such.value'"),
        ("{trained: a}", "there is no trained record"),
        ("guess", "names no value of a record"),
        ("{", "is no expression"),
        ("__import__('os').system('true') + {NAME}", "is not understood"),
        ("{NAME} ** 2", "is not understood"),
    ],
)
def test_keys_that_lead_nowhere_are_refused(key, told, name):
    with pytest.raises(ValueError, match=told):
        numbers.evaluated(key.replace("NAME", name), SLUG)


def test_a_number_may_come_from_an_arm_that_was_trained(name, monkeypatch):
    record = records.load(SLUG, "quick")
    shown = text_of(name)
    cell = page((f"It keeps {shown} %.", {f"{shown} %": f"{{trained: {name}}}"}))
    monkeypatch.setattr(records, "load_arms", lambda slug: [])
    assert numbers.problems(cell, SLUG) == [f"cell 1: {f'{shown} %'!r}: there is no trained record of {SLUG}"]
    other = records.load("xgrad_cam", "quick")
    monkeypatch.setattr(records, "load_arms", lambda slug: [other, record])
    assert numbers.problems(cell, SLUG) == []
    monkeypatch.setattr(records, "load_arms", lambda slug: [other])
    assert f"the trained record of {SLUG} has no value {name!r}" in numbers.problems(cell, SLUG)[0]
