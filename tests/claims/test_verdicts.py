"""Every verdict from records made by hand, and the rules against an independent reading of them."""

import math

import pytest
from compactvision.claims import Claim, Rule, decide, judge
from compactvision.claims.rules import quantity
from hypothesis import given
from hypothesis import strategies as st


def claim(rule: Rule, kind: str = "trained", **others) -> Claim:
    return Claim("a", "text", "source", kind, "quick", "refuted", rule, **others)


def accuracies(make_record, ours, theirs):
    return make_record([{"ours.accuracy": a, "random.accuracy": b} for a, b in zip(ours, theirs, strict=True)])


BEATS = Rule(difference=("ours.accuracy", "random.accuracy"), above=0.02)


@pytest.mark.parametrize(
    ("ours", "level", "trained", "scaled", "symbol"),
    [
        ((0.93, 0.95, 0.94), "full", "reproduced", "seen", "✓"),
        ((0.91, 0.91, 0.91), "partly", "partly", "partly seen", "◐"),
        ((0.89, 0.90, 0.89), "no", "not reproduced", "not seen at small scale", "✗"),
    ],
)
def test_a_difference_gives_each_verdict_in_both_vocabularies(make_record, ours, level, trained, scaled, symbol):
    record = accuracies(make_record, ours, (0.9, 0.9, 0.9))
    for kind, word in (("trained", trained), ("scaled", scaled)):
        verdict = judge(claim(BEATS, kind), record)
        assert (verdict.level, verdict.word, verdict.symbol) == (level, word, symbol)
        assert verdict.values == pytest.approx([a - 0.9 for a in ours])


def test_two_seeds_are_not_enough_to_compare_accuracies(make_record):
    verdict = judge(claim(BEATS), accuracies(make_record, (0.99, 0.99), (0.1, 0.1)))
    assert (verdict.word, verdict.symbol, verdict.ours) == ("not run", "–", "")
    assert verdict.reason == "a comparison needs three seeds; the quick record has 2"


def test_one_seed_is_enough_for_counts_exact_identities_and_single_values(make_record):
    record = make_record([{"small.macs": 40, "large.macs": 100}])
    ratio = Rule(ratio=("small.macs", "large.macs"), below=0.5)
    assert judge(claim(ratio, "scaled"), record).level == "not run"
    assert judge(claim(Rule(ratio=ratio.ratio, below=0.5, deterministic=True), "scaled"), record).level == "full"
    assert judge(claim(ratio, "exact"), record).level == "full"
    assert judge(claim(Rule(value="small.macs", above=39), "trained"), record).level == "full"


def test_what_is_missing_is_not_run_with_its_reason(make_record):
    record = make_record([{"a": 1.0, "curve": [1.0, 2.0], "zero": 0}])
    of = {
        "there is no quick record yet": (Rule(value="a", target=1), None),
        "the quick record has no value 'b'": (Rule(value="b", target=1), record),
        "'curve' is a list in the record; a rule compares single numbers": (Rule(value="curve", target=1), record),
        "'zero' is 0 in the record, so that the ratio has no value": (
            Rule(ratio=("a", "zero"), above=1, deterministic=True),
            record,
        ),
    }
    for reason, (rule, given_record) in of.items():
        verdict = judge(claim(rule), given_record)
        assert (verdict.level, verdict.reason, verdict.values) == ("not run", reason, ())


@pytest.mark.parametrize(
    ("rule", "values", "level"),
    [
        (Rule(value="v", target=853018), (853018,), "full"),
        (Rule(value="v", target=853018), (853019,), "no"),
        (Rule(value="v", target=10, abs=1), (11,), "full"),
        (Rule(value="v", target=10, abs=1), (11.5,), "no"),
        (Rule(value="v", target=10, rel=0.2), (8,), "full"),
        (Rule(value="v", target=-10, rel=0.2), (-12,), "full"),
        (Rule(value="v", target=10, abs=1, partly=0), (3,), "partly"),  # same side of 0 as 10
        (Rule(value="v", target=10, abs=1, partly=0), (-3,), "no"),
        (Rule(value="v", target=10, abs=1, partly=20), (15,), "partly"),  # claimed to lie below 20
        (Rule(value="v", above=1), (1,), "no"),  # strict
        (Rule(value="v", below=1), (1,), "no"),
        (Rule(value="v", above=1, partly=0.5), (0.7,), "partly"),
        (Rule(difference=("a", "b"), above=0), (0.0, 0.0), "no"),  # a tie is no improvement
        (Rule(difference=("a", "b"), above=0), (-0.1,), "no"),  # and there is nothing weaker than 0
        (Rule(difference=("a", "b"), below=-0.1), (-0.05,), "partly"),
        (Rule(difference=("a", "b"), above=-0.01), (-0.005,), "full"),  # loses less than a point
        (Rule(difference=("a", "b"), above=-0.01), (-0.02,), "no"),
        (Rule(ratio=("a", "b"), below=0.5), (0.8,), "partly"),
        (Rule(ratio=("a", "b"), below=0.5), (1.2,), "no"),
        (Rule(value="v", above=1), (0.99, 1.2, 1.1), "partly"),  # the mean is, one seed is not
        (Rule(value="v", above=1), (1.1, 1.2), "full"),
        (Rule(value="v", above=1, seeds="all"), (0.99, 1.2, 1.1), "no"),
        (Rule(value="v", above=1, seeds="all", partly=0), (0.99, 1.2, 1.1), "partly"),
        (Rule(value="v", above=1, seeds="all", partly=0.9), (0.89, 1.2, 1.1), "no"),
        (Rule(value="v", above=1, seeds="all"), (1.1, 1.2), "full"),
    ],
)
def test_rules(rule, values, level):
    assert decide(rule, values)[0] == level


def test_reasons_carry_the_numbers():
    assert decide(Rule(value="v", target=853018), (853018,))[1] == "853,018 is equal to 853,018"
    assert decide(Rule(value="v", target=853018), (853019,))[1] == "853,019 is not equal to 853,018"
    beats = Rule(difference=("a", "b"), above=0.02)
    assert decide(beats, (0.012,), "points") == ("partly", "1.2 points is above 0 points, but not above 2 points")
    assert decide(beats, (-0.012,), "points") == ("no", "−1.2 points is not above 0 points")
    assert decide(beats, (0.021, 0.017, 0.029), "points")[1].endswith("is above 2 points, but only 2 of 3 seeds are so")
    every = Rule(value="v", below=1, seeds="all")
    assert decide(every, (0.5, 1.2, 0.9))[1] == "2 of 3 seeds are below 1"
    assert decide(every, (1.5, 2.0))[1] == "no seed is below 1"
    assert decide(every, (0.5,))[1] == "0.5 is below 1"
    wide = decide(beats, (-0.02, 0.222, 0.066), "points")
    assert wide == ("untold", "8.933 points: the limit of 2 points is below the smallest detectable effect, 21 points")
    assert decide(Rule(value="v", target=0.5, abs=0.01), (0.505,))[1] == "0.505 is within 0.01 of 0.5"


def test_quantities_are_rounded_as_their_spread_allows():
    assert quantity(853018) == "853,018"
    assert quantity(125485696.0) == "125,485,696"
    assert quantity(0.9413, "%") == "94.13 %"
    assert quantity(0.9413, "%", 0.0021) == "94.13 ± 0.21 %"
    assert quantity(12.3456, "ms", 1.5) == "12.3 ± 1.5 ms"
    assert quantity(1234567.8, spread=250.0) == "1,234,568 ± 250"
    assert quantity(7.4e-16, spread=1.8e-16) == "7.4e-16 ± 1.8e-16"


def test_ours_is_mean_deviation_and_number_of_seeds(make_record):
    rule = Rule(value="x", above=0)
    three = make_record([{"x": 0.1}, {"x": 0.2}, {"x": 0.3}])
    assert judge(claim(rule), three).ours == "0.20 ± 0.10 (3 seeds; detectable: 0.17)"
    assert judge(claim(rule, "exact"), three).ours == "0.20 ± 0.10 (3 seeds)"
    assert judge(claim(rule), make_record([{"x": 7}])).ours == "7 (1 seed)"
    assert judge(claim(rule, unit="%", paper=0.404), three).paper == "40.4 %"
    assert judge(claim(rule, paper="barely changes"), three).paper == "barely changes"
    assert judge(claim(rule), three).paper == ""


numbers = st.floats(-10, 10, allow_nan=False).map(lambda x: round(x, 3))


@given(values=st.lists(numbers, min_size=1, max_size=5), every=st.booleans(), above=st.booleans())
def test_a_direction_agrees_with_its_plain_reading(values, every, above):
    sign = 1 if above else -1
    rule = Rule(difference=("a", "b"), seeds="all" if every else "mean", **{"above" if above else "below": 0.0})
    if all(sign * value > 0 for value in values):
        expected = "full"
    else:
        expected = "partly" if sign * math.fsum(values) > 0 and not every else "no"
    assert decide(rule, tuple(values))[0] == expected


@given(value=numbers, aim=numbers, absolute=st.floats(0, 3), limit=numbers)
def test_a_target_is_partly_met_only_on_its_own_side_of_the_limit(value, aim, absolute, limit):
    if limit == aim:
        return
    level, _ = decide(Rule(value="v", target=aim, abs=absolute, partly=limit), (value,))
    if abs(value - aim) <= absolute:
        assert level == "full"
    else:
        assert level == ("partly" if (value - limit) * (aim - limit) > 0 else "no")
