"""Arguments of another kind, for records, claims and verdicts: refused by name, before anything is read or written."""

from dataclasses import replace
from pathlib import Path

import pytest
from compactvision import claims, records
from compactvision.claims import rules
from compactvision.claims.schema import Rule
from compactvision.records import provenance

OBJECTS = (None, 3, b"a", ["a"], {"a": 1}, int)


@pytest.fixture
def record(make_record):
    return make_record([{"a": 1.0}, {"a": 2.0}])


@pytest.mark.parametrize("path", [*OBJECTS, "", "a\0b", Path("a\0b")])
def test_paths(path, record):
    with pytest.raises(ValueError, match=r"^path must be the path of a file, got "):
        records.read(path)
    with pytest.raises(ValueError, match=r"^path must be the path of a file, got "):
        records.write(record, path)


def test_text_is_a_path_too(record, tmp_path):
    records.write(record, str(tmp_path / "a.json"))
    assert records.read(str(tmp_path / "a.json")) == record


@pytest.mark.parametrize("other", OBJECTS)
def test_no_record(other, tmp_path):
    with pytest.raises(ValueError, match=r"^record must be of class Record, got "):
        records.write(other, tmp_path / "a.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", [3, b"a", ["a"]])
def test_where_is_a_text(where, record, tmp_path):
    records.write(record, tmp_path / "a.json")
    with pytest.raises(ValueError, match=r"^where must be a text, got "):
        records.read(tmp_path / "a.json", where)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("tiny", "slow"), "profile: 'slow' is not one of quick, full"),
        (("tiny", "trained"), "profile: 'trained' is not one of quick, full"),
        (("tiny", "quick", "vgg"), "profile: 'quick' is not one of trained, scaled, dry"),
        (("tiny", ["quick"]), "profile: "),
        (("tiny", "trained", ""), "arm: '' is not the name"),
        (("tiny", "trained", "../vgg"), "arm: '../vgg' is not the name"),
        (("tiny", "trained", 1), "arm: 1 is not the name"),
        (("../tiny", "quick"), "slug: '../tiny' is not the name"),
    ],
)
def test_places(given, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        records.path_of(*given)


@pytest.mark.parametrize("name", [*OBJECTS, "", "b"])
@pytest.mark.parametrize("method", ["values", "mean", "sd", "range"])
def test_names_of_values(method, name, record):
    with pytest.raises(KeyError, match="name: the record tiny/quick has no value "):
        getattr(record, method)(name)


@pytest.mark.parametrize("field", ["runs", "data", "device"])
@pytest.mark.parametrize("value", [*OBJECTS, "a", [[]], [None]])
def test_parts_of_a_record(field, value, record):
    with pytest.raises(ValueError, match=f"record tiny/quick: field '{field}' is "):
        replace(record, **{field: value})


def test_training_and_missing_runs(record):
    with pytest.raises(ValueError, match="field 'training' is 'vgg', not a Training"):
        replace(record, training="vgg")
    with pytest.raises(ValueError, match="it holds no seed in 'runs'"):
        replace(record, runs=[])


@pytest.mark.parametrize("digest", [records.method_digest, records.text_digest, provenance.method_files])
@pytest.mark.parametrize("files", [None, 3, int, "", "proximal.py", b"proximal.py", [None], [b"a"], [["proximal.py"]]])
def test_files_of_a_method(digest, files):
    with pytest.raises(ValueError, match=r"^files must be a sequence of texts, got "):
        digest(files)


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "a\0b"])
def test_files_that_no_system_can_hold(name):
    with pytest.raises(ValueError, match=r"^files: .* is no file or sub-package"):
        records.method_digest((name,))


@pytest.mark.parametrize("kind", [*OBJECTS, "", "tpu", "cpu:0"])
def test_kinds_of_devices(kind):
    with pytest.raises(ValueError, match=r"^kind must be one of cpu, cuda, mps, got "):
        records.describe_device(kind)


def test_a_card_that_is_not_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match=r"^kind is 'cuda', and torch finds no card"):
        records.describe_device("cuda")


RULE = Rule(value="a", above=0.5)


@pytest.mark.parametrize("values", [None, 3, "12", {}, (), [], {1.0}, (None,), ([],), ("1",), (True,)])
def test_values_that_are_none(values):
    with pytest.raises(ValueError, match=r"^values(\[0\])? must be a number"):
        rules.decide(RULE, values)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite(number):
    with pytest.raises(ValueError, match=r"^values\[1\] must be finite"):
        rules.decide(RULE, (1.0, number))


@pytest.mark.parametrize("other", [None, 3, "rule", {}, Rule])
def test_rules_and_units(other):
    with pytest.raises(ValueError, match=r"^rule must be of class Rule, got "):
        rules.decide(other, (1.0,))
    if not isinstance(other, str):
        with pytest.raises(ValueError, match=r"^unit must be a text, got "):
            rules.decide(RULE, (1.0,), other)


@pytest.fixture
def claim():
    return claims.load("foundations").claims[0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"claim": {}}, "claim must be of class Claim"),
        ({"record": "quick"}, "record must be of class Record"),
        ({"slug": None}, "slug must be a text"),
        ({"older": "no"}, "older must be True or False"),
    ],
)
def test_judge(given, said, claim, record):
    given = {"claim": claim, "record": record, **given}
    with pytest.raises(ValueError, match=f"^{said}"):
        claims.judge(given.pop("claim"), given.pop("record"), **given)


def test_a_ratio_beyond_all_numbers_is_not_run(make_record, claim):
    ratio = replace(claim, rule=Rule(ratio=("a", "b"), above=1.0, deterministic=True))
    verdict = claims.judge(ratio, make_record([{"a": 1e99, "b": 1e-300}]))
    assert (verdict.level, verdict.values) == ("not run", ())
    assert "'b' is so near 0" in verdict.reason


@pytest.mark.parametrize("live", [3, "quick", {}, []])
def test_live_is_a_record(live):
    with pytest.raises(ValueError, match=r"^live must be of class Record"):
        claims.verdicts("foundations", live)


def test_live_is_a_record_of_the_chapter(record):
    with pytest.raises(ValueError, match=r"^live must be a record of foundations, got one of tiny"):
        claims.verdicts("foundations", record)


@pytest.mark.parametrize("found", [None, 3, "", "ab", {}, [None], ["a"], [[]]])
def test_tables_of_verdicts(found):
    with pytest.raises(ValueError, match=r"^found(\[0\])? must be of class "):
        claims.report.tables(found)


@pytest.mark.parametrize("group", [*OBJECTS, "", "paper"])
def test_groups_of_a_scorecard(group):
    with pytest.raises(ValueError, match=r"^group must be one of exact, trained, scaled, check, got "):
        claims.Scorecard(()).summary(group)
