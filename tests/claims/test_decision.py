"""The rule of verdicts: every seed for "seen", and no verdict on what the spread over seeds cannot tell."""

import json
import tomllib

import numpy as np
import pytest
from compactvision import records
from compactvision.claims import Rule, decide, judge, slugs, verdicts
from compactvision.claims.decision import smallest_detectable
from compactvision.claims.schema import CERTAIN, KINDS, Claim
from compactvision.records.places import claims_folder
from hypothesis import given
from hypothesis import strategies as st

from oracles import verdicts as oracle

TEXTBOOK = {1: 6.314, 2: 2.920, 3: 2.353, 4: 2.132, 5: 2.015, 9: 1.833, 29: 1.699}


@pytest.mark.parametrize(("freedom", "quantile"), TEXTBOOK.items())
def test_the_smallest_detectable_effect_has_the_quantile_of_the_textbooks(freedom, quantile):
    n = freedom + 1
    values = tuple(float(place) for place in range(n))
    error = np.std(values, ddof=1) / np.sqrt(n)
    assert smallest_detectable(values) == pytest.approx(quantile * error, rel=3e-4)
    assert smallest_detectable(values) == pytest.approx(oracle.detectable(list(values)), rel=1e-6)


def test_without_a_spread_nothing_is_said_to_be_detectable():
    assert smallest_detectable((0.5,)) is None
    assert smallest_detectable((0.5, 0.5, 0.5)) is None


@pytest.mark.parametrize(
    ("limit", "values", "level"),
    [
        # the nine that one seed contradicts, as they stood in the records
        (0.0, (0.016, -0.031, 0.039), "partly"),
        (0.0, (0.0065, 0.0035, -0.0055), "partly"),
        (-0.02, (-0.0261, -0.0118, -0.0201), "partly"),
        (-0.02, (0.032, 0.014, -0.024), "untold"),  # sees no less than 4.8 points, asked for 2
        (0.05, (0.0405, 0.0625, 0.1123), "untold"),
        (0.02, (-0.02, 0.222, 0.066), "untold"),
        (0.85, (0.903, 0.903, 0.847), "partly"),
        # all on the right side
        (0.0, (0.001, 0.002, 0.2), "full"),  # a direction has no size
        (0.01, (0.04, 0.05, 0.06), "full"),  # 1.7 points can be told, but the mean is 4 away
        (0.01, (0.011, 0.05, 0.06), "untold"),
        # none on the right side
        (0.01, (-0.28, -0.25, 0.0), "no"),
        (0.01, (-0.28, -0.25, 0.02), "untold"),
        (0.01, (-0.28, -0.26, 0.02), "untold"),
        (0.01, (-0.28, -0.26, -0.02, 0.02), "untold"),
        (0.01, (-0.28, -0.26, -0.27, 0.02), "no"),
        (0.01, (-0.28, -0.29, -0.285, -0.27, 0.011), "no"),  # 14 points can be told, the mean is 23 away
    ],
)
def test_limits(limit, values, level):
    rule = Rule(difference=("a", "b"), above=limit) if limit != 0.85 else Rule(value="a", above=limit)
    assert decide(rule, values)[0] == level
    mirrored = tuple(-value for value in values)
    assert decide(Rule(difference=("b", "a"), below=-limit), mirrored)[0] == level or limit == 0.85


def test_a_target_needs_every_seed_within_its_tolerance():
    rule = Rule(value="a", target=1.0, abs=0.1)
    assert decide(rule, (1.09, 1.05, 1.01))[0] == "full"
    assert decide(rule, (1.12, 1.09, 1.01)) == ("partly", "1.073 is within 0.1 of 1, but only 2 of 3 seeds are so")
    assert decide(rule, (1.2, 1.0, 0.9))[0] == "untold"  # 0.26 can be told
    assert decide(rule, (1.09, 1.2, 1.31))[0] == "untold"  # 0.19 can be told, and the edge of the tolerance is 0.1 away


def test_chance_is_no_part_of_an_exact_claim_and_a_check():
    values = (0.011, 0.05, 0.06)
    rule = Rule(difference=("a", "b"), above=0.01)
    assert [decide(rule, values, kind=kind)[0] for kind in KINDS] == ["full", "untold", "untold", "full"]
    assert [decide(rule, (0.5, 0.5, 0.009), kind=kind)[0] for kind in CERTAIN] == ["partly", "partly"]
    assert decide(Rule(value="a", target=0), (0.0, 0.0, 1.0), kind="exact")[0] == "no"


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match=r"^kind must be one of exact, trained, scaled, check, got 'sure'"):
        decide(Rule(value="a", target=0), (0.0,), kind="sure")


def test_a_scaled_claim_shows_what_its_seeds_can_tell(make_record):
    claim = Claim("a", "text", "source", "scaled", "quick", "x", Rule(value="v", above=0), unit="points")
    three = judge(claim, make_record([{"v": 0.1}, {"v": 0.2}, {"v": 0.3}]))
    assert three.ours == "20 ± 10 points (3 seeds; detectable: 17 points)"
    assert judge(claim, make_record([{"v": 0.2}])).ours == "20 points (1 seed)"


def test_what_is_the_same_by_construction_is_not_called_three_seeds(make_record):
    claim = Claim("a", "text", "source", "scaled", "quick", "x", Rule(value="v", above=0, seeds="all"))
    same = judge(claim, make_record([{"v": 7}] * 3))
    assert (same.ours, same.reason, same.detectable) == ("7 (the same in every seed)", "7 is above 0", None)


def test_a_second_blind_implementation_agrees_with_every_verdict_of_every_record():
    compared = 0
    for slug in slugs():
        table = tomllib.loads((claims_folder() / f"{slug}.toml").read_text(encoding="utf-8"))
        for entry, found in zip(table["claim"], verdicts(slug), strict=True):
            seeds = _values(slug, entry)
            values = None if seeds is None else oracle.quantities(entry["rule"], seeds)
            expected = "not run" if values is None else oracle.level(entry["rule"], values, entry["kind"])
            assert found.level == expected, f"{slug}/{entry['id']}: {values}"
            compared += values is not None
    assert compared > 400


def _values(slug: str, entry: dict) -> list[dict] | None:
    """Return the values of all seeds of the record that decides, read from its file."""
    if entry["profile"] == "trained":
        names = entry["rule"].get("difference") or entry["rule"].get("ratio") or [entry["rule"]["value"]]
        found = [record for record in records.load_arms(slug) if set(names) <= set(record.names)]
        return [run.values for run in found[0].runs] if found else None
    path = records.path_of(slug, entry["profile"])
    return [run["values"] for run in json.loads(path.read_text())["runs"]] if path.exists() else None


numbers = st.integers(-400, 400).map(lambda number: number / 100)


@st.composite
def tables(draw):
    """Draw the table of a rule as a claim file may hold it."""
    quantity = draw(st.sampled_from(["value", "difference", "ratio"]))
    table = {quantity: "a" if quantity == "value" else ["a", "b"]}
    test = draw(st.sampled_from(["target", "above", "below"]))
    table[test] = draw(numbers)
    if test == "target":
        table |= draw(st.fixed_dictionaries({}, optional={"abs": st.integers(0, 99).map(lambda n: n / 100)}))
        table |= draw(st.fixed_dictionaries({}, optional={"rel": st.integers(0, 99).map(lambda n: n / 100)}))
    if draw(st.booleans()):
        partly = draw(numbers)
        if test == "target" or (partly < table[test] if test == "above" else partly > table[test]):
            table["partly"] = partly
    return table | draw(st.sampled_from([{}, {"seeds": "all"}, {"seeds": "mean"}]))


@given(table=tables(), values=st.lists(numbers, min_size=1, max_size=6), kind=st.sampled_from(KINDS))
def test_a_second_blind_implementation_agrees_on_any_rule_and_values(table, values, kind):
    content = {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}
    assert decide(Rule(**content), tuple(values), kind=kind)[0] == oracle.level(table, values, kind)
