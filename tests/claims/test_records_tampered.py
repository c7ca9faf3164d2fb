"""Records that were changed by hand, damaged, or that say what cannot be: refused on every way in."""

import json
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from compactvision import claims, records
from compactvision.records import DataSource, Training, provenance
from compactvision.records.stored import content_digest, from_json, to_json
from compactvision.records.texts import LARGEST, read_text

CLAIMS = """
[chapter]
title = "A chapter"
part = "cut"

[[claim]]
id = "right"
text = "It is right on more than nine of ten."
source = "abstract"
kind = "scaled"
profile = "quick"
refuted_by = "It is not."
unit = "%"
rule = { value = "net.accuracy", above = 0.9 }

[[claim]]
id = "ahead"
text = "It is ahead."
source = "abstract"
kind = "scaled"
profile = "quick"
refuted_by = "It is not."
unit = "points"
rule = { value = "net.lead", above = 0.0 }

[[claim]]
id = "slow"
text = "It takes longer."
source = "abstract"
kind = "scaled"
profile = "quick"
refuted_by = "It does not."
unit = "%"
rule = { value = "net.time", above = 1.0 }
"""
GOOD = {"net.accuracy": 0.93, "net.lead": -0.02, "net.time": 1.7, "list": [1, 2.5]}


@pytest.fixture
def record(make_record, book):
    (book / "claims" / "tiny.toml").write_text(CLAIMS)
    source = DataSource("glyphs", "generated", "00")
    return make_record([GOOD, GOOD, GOOD], data=[source], bands={"net.accuracy": 0.05}, notebook="ab")


@pytest.fixture
def content(record):
    return json.loads(to_json(record))


def leaves(value, path=()):
    """Every place of a JSON value that holds a number, a text, a truth value or null."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [leaf for key, item in items for leaf in leaves(item, (*path, key))]
    return [path]


def other(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return "0" * 12 if value is None else f"{value}0"


def test_a_change_at_any_place_is_noticed(content):
    places = [path for path in leaves(content) if path != ("schema",)]
    assert len(places) > 30
    for path in places:
        changed = deepcopy(content)
        inner = changed
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = other(inner[path[-1]])
        with pytest.raises(ValueError, match="x: was changed by hand or damaged"):
            from_json(json.dumps(changed), "x")


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["runs"].pop(),
        lambda c: c["runs"].append({**c["runs"][2], "seed": 3}),
        lambda c: c["runs"][1]["values"].pop("list"),
        lambda c: c["bands"].clear(),
        lambda c: c["versions"].update(more="1"),
        lambda c: c["data"].clear(),
        lambda c: c.update(more=1),
        lambda c: c.update(digest=None),
        lambda c: c.update(digest=c["digest"].upper()),
    ],
)
def test_what_is_taken_out_or_put_in_is_noticed(content, change):
    change(content)
    with pytest.raises(ValueError, match="x: was changed by hand or damaged"):
        from_json(json.dumps(content), "x")


def test_another_layout_is_the_same_content(record, content):
    assert from_json(json.dumps(content, sort_keys=True, indent=3), "x") == record
    assert content_digest({name: content[name] for name in reversed(content)}) == content["digest"]


def test_a_record_without_a_digest_is_refused(content):
    del content["digest"]
    with pytest.raises(ValueError, match="x: field 'digest' is missing"):
        from_json(json.dumps(content), "x")


def test_every_way_in_refuses_it(record, content, tmp_path):
    path = records.save(record)
    assert [verdict.level for verdict in claims.verdicts("tiny")] == ["full", "no", "full"]
    content["runs"][0]["values"]["net.accuracy"] = 0.99
    path.write_text(json.dumps(content))
    ways = (
        lambda: records.read(path),
        lambda: records.load("tiny", "quick"),
        lambda: claims.verdicts("tiny"),
        lambda: claims.table("tiny"),
        claims.scorecard,
        claims.scorecard_page,
        claims.status_page,
        lambda: claims.write_pages(tmp_path),
    )
    for way in ways:
        with pytest.raises(ValueError, match=r"quick\.json: was changed by hand or damaged"):
            way()


def signed(content, **changes):
    """The content with changes and the digest that goes with it, as somebody with the package could make it."""
    changed = {**content, **changes}
    return json.dumps({**changed, "digest": content_digest(changed)})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"commit": "hello"}, "field 'commit' is 'hello', not the hexadecimal name"),
        ({"commit": "HEAD~1"}, "field 'commit' is 'HEAD~1'"),
        ({"commit": "0123456789ABCDEF"}, "field 'commit' is"),
        ({"commit": "abc"}, "field 'commit' is 'abc'"),
        ({"commit": 1234567}, "field 'commit' is 1234567, not text"),
        ({"created": "3000-01-01T00:00:00+00:00"}, "field 'created' is '3000-.*', which lies in the future"),
        ({"created": "9999-12-31T23:59:59-12:00"}, "which lies in the future"),
        ({"created": "2026-11-21T10:00:00"}, "without a time zone"),
        ({"created": "yesterday"}, "not a date and time"),
        ({"created": None}, "field 'created' is None, not text"),
        ({"created": ["2026"]}, "field 'created' is"),
        ({"slug": "../x"}, "field 'slug' is '../x', not the name of a chapter"),
        ({"slug": "a/b"}, "field 'slug'"),
        ({"slug": "a\0"}, "field 'slug'"),
        ({"slug": ""}, "field 'slug' is '', not text"),
        ({"profile": {}}, "field 'profile' is {}"),
        ({"method": 5}, "field 'method' is 5"),
        ({"notebook": False}, "field 'notebook' is False"),
        ({"dirty": "no"}, "field 'dirty' is 'no'"),
        ({"device": {"kind": "cpu", "name": 3, "threads": 2}}, "field 'device' is"),
        ({"device": {"kind": "cpu", "name": "A", "threads": "2"}}, "field 'device' is"),
        ({"device": {"kind": "cpu", "name": "A", "threads": 0}}, "field 'device' is"),
        ({"device": []}, "x: device is not an object"),
        ({"versions": []}, "field 'versions' is"),
        ({"versions": {"torch": 2}}, "field 'versions' is"),
        ({"bands": [1]}, "field 'bands' is"),
        ({"bands": {"net.accuracy": "wide"}}, "band 'net.accuracy' is 'wide'"),
        ({"data": [{"name": "a", "provenance": 3, "digest": ""}]}, "field 'data' holds"),
        ({"data": [[]]}, "x: data 0 is not an object"),
        ({"runs": {}}, "field 'runs' is not a list"),
        ({"runs": [3]}, "x: run 0 is not an object"),
        ({"training": 3}, "x: training is not an object"),
        ({"schema": True, "more": 1}, "unknown field 'more'"),
    ],
)
def test_what_cannot_be_is_refused_with_a_digest_that_fits(content, changes, words):
    with pytest.raises(ValueError, match=words) as caught:
        from_json(signed(content, **changes), "x")
    assert str(caught.value).startswith("x: ")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": "1"}, "seed '1' is not a whole number"),
        ({"seed": -1}, "seed -1 is not"),
        ({"seed": 2**32}, "seed 4294967296 is not"),
        ({"seed": 1.0}, "seed 1.0 is not"),
        ({"seed": True}, "seed True is not"),
        ({"seed": [1]}, r"seed \[1\] is not"),
        ({"seed": 0}, r"seeds \[0, 0, 2\] are not in order or repeat"),
        ({"seed": 2}, r"seeds \[0, 2, 2\] are not in order or repeat"),
        ({"seconds": "long"}, "seed 1: field 'seconds' is 'long'"),
        ({"seconds": -1}, "seed 1: field 'seconds' is -1"),
        ({"peak_memory_mb": None}, "seed 1: field 'peak_memory_mb' is None"),
        ({"peak_gpu_memory_mb": []}, "seed 1: field 'peak_gpu_memory_mb' is"),
        ({"values": []}, "seed 1: field 'values' is"),
        ({"values": {}}, "seed 1: names or lengths"),
        ({"values": {"net.accuracy": [[1]]}}, "seed 1: value 'net.accuracy' is"),
        ({"values": {"net.accuracy": None}}, "seed 1: value 'net.accuracy' is None"),
    ],
)
def test_a_run_that_cannot_be_is_refused(content, changes, words):
    content["runs"][1] |= changes
    with pytest.raises(ValueError, match=words):
        from_json(signed(content), "x")


@pytest.mark.parametrize("arm", ["../x", "a/b", "", "..", "a\0", 3, None, "-a", ".a"])
def test_an_arm_is_a_name(content, arm):
    training = {"arm": arm, "files": ["measure"], "recipe": {"epochs": 1}}
    with pytest.raises(ValueError, match="training: field 'arm' is"):
        from_json(signed(content, profile="trained", training=training), "x")


@pytest.mark.parametrize(
    ("field", "value"), [("files", "measure"), ("files", [3]), ("recipe", []), ("recipe", {"a": None})]
)
def test_a_training_of_wrong_types(content, field, value):
    training = {"arm": "net", "files": ["measure"], "recipe": {"epochs": 1}} | {field: value}
    with pytest.raises(ValueError, match=f"training: field '{field}' is"):
        from_json(signed(content, profile="trained", training=training), "x")


def test_clocks_may_differ_by_a_day(record):
    for hours, refused in ((20, False), (30, True)):
        made = (datetime.now(UTC) + timedelta(hours=hours)).isoformat(timespec="seconds")
        text = to_json(replace(record, created=made))
        if refused:
            with pytest.raises(ValueError, match="lies in the future"):
                from_json(text, "x")
        else:
            from_json(text, "x")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("net.accuracy", 5.0, "'%' of claim 'right' allows 0 to 1"),
        ("net.accuracy", -0.1, "'%' of claim 'right' allows 0 to 1"),
        ("net.accuracy", 1.0001, "'%' of claim 'right' allows 0 to 1"),
        ("net.lead", 2.0, "'points' of claim 'ahead' allows -1 to 1"),
        ("net.lead", -93.0, "'points' of claim 'ahead' allows -1 to 1"),
    ],
)
def test_values_out_of_the_range_of_the_unit_are_refused(record, name, value, allowed):
    runs = [replace(run, values={**run.values, name: value if run.seed == 2 else GOOD[name]}) for run in record.runs]
    records.save(replace(record, runs=runs))
    with pytest.raises(ValueError, match=rf"record tiny/quick: value '{name}' is {value}; the unit {allowed}"):
        claims.verdicts("tiny")


def test_the_edges_of_the_range_are_allowed(record):
    edges = {"net.accuracy": 1.0, "net.lead": -1.0, "net.time": 25.0}
    records.save(replace(record, runs=[replace(run, values={**run.values, **edges}) for run in record.runs]))
    assert [verdict.level for verdict in claims.verdicts("tiny")] == ["full", "no", "full"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 200_000, "not JSON: it is nested too deep"),
        ('{"a":' * 200_000, "not JSON: it is nested too deep"),
        ("", "not JSON"),
        ('{"schema": 1, "created": NaN}', "not JSON: NaN is no number"),
        ('{"schema": 1, "created": -Infinity}', "not JSON: -Infinity is no number"),
        ("[]", "field 'schema' is not 1"),
        ("null", "field 'schema' is not 1"),
        ('"text"', "field 'schema' is not 1"),
        ('{"schema": "1"}', "field 'schema' is not 1"),
    ],
)
def test_texts_that_are_no_record(book, text, words):
    path = book / "records" / "tiny" / "quick.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"records/tiny/quick\.json: {words}"):
        records.load("tiny", "quick")


def test_files_that_are_no_text(book):
    path = book / "records" / "tiny" / "quick.json"
    path.mkdir(parents=True)
    with pytest.raises(ValueError, match=r"records/tiny/quick\.json: it is no file"):
        records.load("tiny", "quick")
    path.rmdir()
    path.write_bytes(b'{"slug": "\xff"}')
    with pytest.raises(ValueError, match=r"records/tiny/quick\.json: not UTF-8 text"):
        records.load("tiny", "quick")
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)  # takes no room on the disk
    with pytest.raises(ValueError, match=r"quick\.json: it has 67,108,865 bytes; at most 67,108,864 are read"):
        read_text(path)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(OSError, match=r"quick\.json"):
        read_text(path)


def test_the_files_of_a_method_lie_in_the_package():
    for name in ("../README.md", "/etc/passwd", "measure/../../../x", str(Path(provenance.PACKAGE).parent)):
        with pytest.raises(ValueError, match="lies outside compactvision"):
            records.method_digest((name,))


def test_a_record_that_names_files_elsewhere_is_of_older_code(make_record, book):
    (book / "claims" / "tiny.toml").write_text(CLAIMS)
    training = Training("net", ["../../etc/passwd"], {"epochs": 1})
    record = make_record([GOOD], profile="trained", training=training)
    assert claims.rules.is_older(record)


def test_a_commit_from_the_environment_has_the_form_of_one(monkeypatch):
    monkeypatch.setattr(provenance, "_git", lambda *_: None)
    for text in ("hello", "abcdef:xyz", "abcdef0:12:34", "../x"):
        records.commit.cache_clear()
        monkeypatch.setenv("COMPACTVISION_COMMIT", text)
        with pytest.raises(ValueError, match="COMPACTVISION_COMMIT is"):
            records.commit()
    records.commit.cache_clear()
