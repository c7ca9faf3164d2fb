"""Records: checked on reading, written whole or not at all, the same text for the same record."""

import json
import os
from dataclasses import replace

import pytest
from compactvision import records
from compactvision.records import DataSource, Training, provenance
from compactvision.records.stored import content_digest, from_json, to_json
from compactvision.records.texts import write_text


@pytest.fixture
def record(make_record):
    return make_record(
        [{"a": 1, "b": [0.5, 1.5]}, {"a": 4, "b": [1.5, 2.5]}, {"a": 7, "b": [2.5, 0.5]}],
        data=[DataSource("glyphs", "generated", "00")],
        bands={"a": 0.5},
    )


def test_statistics_over_seeds(record):
    assert record.seeds == [0, 1, 2]
    assert record.seconds == [10.0, 11.0, 12.0]
    assert record.names == ["a", "b"]
    assert record.values("a") == [1, 4, 7]
    assert (record.mean("a"), record.sd("a"), record.range("a")) == (4.0, 3.0, (1, 7))
    assert record.mean("b") == [1.5, 1.5]
    assert record.sd("b") == [1.0, 1.0]
    assert record.range("b") == ([0.5, 0.5], [2.5, 2.5])
    with pytest.raises(KeyError, match="tiny/quick has no value 'c'"):
        record.values("c")


def test_one_seed_has_no_spread(make_record):
    assert make_record([{"a": 3.0}]).sd("a") == 0.0


def test_text_and_record_are_the_same_thing(record, tmp_path):
    text = to_json(record)
    assert from_json(text, "x") == record
    assert to_json(from_json(text, "x")) == text
    records.write(record, tmp_path / "deep" / "quick.json")
    assert (tmp_path / "deep" / "quick.json").read_text() == text
    assert records.read(tmp_path / "deep" / "quick.json") == record


def test_records_have_their_place(record, book):
    assert records.load("tiny", "quick") is None
    path = records.save(record)
    assert path == book / "records" / "tiny" / "quick.json"
    assert records.load("tiny", "quick") == record
    with pytest.raises(ValueError, match="profile: 'slow' is not one of quick, full"):
        records.load("tiny", "slow")
    path.rename(path.with_name("full.json"))
    with pytest.raises(ValueError, match=r"records/tiny/full.json: it is the record of tiny/quick"):
        records.load("tiny", "full")


def test_records_of_arms_have_their_place_and_say_what_they_are(make_record, book):
    training = Training("net", ["measure"], {"epochs": 2, "schedule": "cosine"})
    record = make_record([{"a": 1}], profile="trained", training=training)
    assert from_json(to_json(record), "x") == record
    assert '"training"' not in to_json(make_record([{"a": 1}]))
    assert records.load_arms("tiny") == []
    assert records.save(record) == book / "records" / "tiny" / "trained-net.json"
    records.save(replace(record, profile="scaled"))
    assert records.load_arms("tiny") == [record]
    assert records.load_arms("tiny", "scaled") == [replace(record, profile="scaled")]
    with pytest.raises(ValueError, match="kind: 'full' is not one of trained, scaled, dry"):
        records.load_arms("tiny", "full")
    with pytest.raises(ValueError, match="profile is 'full', known are trained, scaled, dry"):
        replace(record, profile="full")
    with pytest.raises(ValueError, match="profile is 'trained', known are quick, full"):
        replace(record, training=None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(training={"arm": "net"}), "x: training: field 'files' is missing"),
        (lambda c: c.update(schema=2), "x: field 'schema' is not 1"),
        (lambda c: c.update(more=2), "x: unknown field 'more'"),
        (lambda c: c.pop("device"), "x: device is not an object"),
        (lambda c: c.pop("runs"), "x: field 'runs' is not a list"),
        (lambda c: c["runs"][1].pop("seconds"), "x: run 1: field 'seconds' is missing"),
        (lambda c: c["data"][0].update(url=""), "x: data 0: unknown field 'url'"),
        (lambda c: c["runs"][1].update(values={"a": 1}), "seed 1: names or lengths"),
        (lambda c: c["runs"][1].update(values={"a": 1, "b": [1]}), "seed 1: names or lengths"),
        (lambda c: c["runs"][1]["values"].update(a="1"), "seed 1: value 'a' is '1'"),
        (lambda c: c["runs"][1]["values"].update(a=True), "seed 1: value 'a' is True"),
        (lambda c: c["runs"][1].update(seed=0), r"seeds \[0, 0, 2\]"),
        (lambda c: c.update(profile="slow"), "profile is 'slow'"),
        (lambda c: c.update(runs=[]), "it holds no seed"),
        (lambda c: c.update(bands={"c": 1}), "band 'c' has no value"),
        (lambda c: c.update(bands={"a": -1}), "band 'a' is -1"),
    ],
)
def test_a_malformed_record_is_refused_by_field(record, change, words):
    content = json.loads(to_json(record))
    change(content)
    content["digest"] = content_digest(content)
    with pytest.raises(ValueError, match=words):
        from_json(json.dumps(content), "x")


def test_no_json_and_no_nan(record, make_record):
    with pytest.raises(ValueError, match="x: not JSON"):
        from_json("{", "x")
    with pytest.raises(ValueError, match="value 'a' is nan"):
        make_record([{"a": float("nan")}])


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "quick.json"
    path.write_text("old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("digest_of", [records.text_digest, records.method_digest])
def test_digests_follow_names_and_texts_only(tmp_path, monkeypatch, digest_of):
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    (tmp_path / "family").mkdir()
    one, two = tmp_path / "family" / "one.py", tmp_path / "two.py"
    one.write_bytes(b"x = 1\ny = 2\n")
    two.write_bytes(b"z = 3\n")
    digest = digest_of(("family", "two.py"))
    one.write_bytes(b"x = 1   \r\ny = 2\r\n\r\n")
    assert digest_of(("family", "two.py")) == digest
    one.write_bytes(b"x = 1\ny = 3\n")
    assert digest_of(("family", "two.py")) != digest
    one.write_bytes(b"x = 1\ny = 2\n")
    assert digest_of(("family/one.py", "two.py")) == digest
    with pytest.raises(ValueError, match=r"files: 'three\.py' is no file or sub-package"):
        digest_of(("three.py",))


def test_words_change_the_digest_of_the_text_but_not_that_of_the_method(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    file = tmp_path / "one.py"

    def digests(text):
        file.write_text(text)
        return records.text_digest(("one.py",)), records.method_digest(("one.py",))

    code = 'A = "# no comment"\n"""What A is."""\ndef f(x):\n    """Old\n    words."""\n    return "x"  # old\n'
    text, method = digests(code)
    for change in (("Old", "New"), ("# old", "# new"), ("What", "Which"), ("words.", "words.\n\n    More.")):
        other = digests(code.replace(*change))
        assert other[0] != text
        assert other[1] == method
    for change in (("no comment", "comment"), ('"x"', '"y"'), ("A =", "B ="), ("    return", "    x = 1\n    return")):
        assert digests(code.replace(*change))[1] != method


def test_the_commit_is_that_of_the_working_copy_or_unknown(tmp_path, monkeypatch):
    records.commit.cache_clear()
    git = {"ls-files": "__init__.py", "rev-parse": "c0ffee", "status": " M run.py"}
    monkeypatch.setattr(provenance, "_git", lambda command, *_: git[command])
    assert records.commit() == ("c0ffee", True)
    records.commit.cache_clear()
    git["status"] = ""
    assert records.commit() == ("c0ffee", False)
    records.commit.cache_clear()
    git["ls-files"] = None
    assert records.commit() == (None, False)
    records.commit.cache_clear()


def test_git_that_is_missing_or_fails_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    assert provenance._git("rev-parse", "HEAD") is None
    monkeypatch.setenv("PATH", "")
    assert provenance._git("--version") is None


def test_device_and_versions():
    device = records.describe_device("cpu")
    assert device.kind == "cpu"
    assert device.name
    assert device.threads >= 1
    assert {"compactvision", "python", "torch", "torchvision", "numpy"} <= set(records.versions())


def test_the_runs_of_a_record_are_not_shared(record):
    with pytest.raises(ValueError, match="seeds"):
        replace(record, runs=list(reversed(record.runs)))
