"""What the queue tells and hands out: status, records of all seeds, what may be kept, the sealed commit."""

import json
from dataclasses import replace

import pytest
from compactvision import records
from compactvision.__main__ import main
from compactvision.claims import verdicts
from compactvision.experiment.collect import only_run
from compactvision.queue import report, state
from compactvision.queue.entries import Entry
from compactvision.queue.state import Places
from compactvision.records import Device, Record, SeedRun, Training, provenance
from compactvision.records.stored import content_digest, to_json

FIRST = Entry("baselines", "first", "trained", 20, 3, seeds=(0, 1))
AFTER = Entry("tiny", "after", "trained", 30, 4, needs=("baselines/first",))
LIST = (FIRST, AFTER)
TINY = """
[chapter]
title = "A chapter"
part = "cut"

[[claim]]
id = "as-trained"
text = "It is right on more than nine of ten."
source = "abstract"
kind = "trained"
profile = "trained"
refuted_by = "It is not."
rule = { value = "after.accuracy", above = 0.9 }
"""


def record_of(entry, seed, **others):
    fields = {
        "slug": entry.slug,
        "profile": "trained",
        "created": f"2026-11-26T10:00:0{seed}+00:00",
        "commit": "0123456789abcdef",
        "dirty": False,
        "method": "m",
        "notebook": None,
        "device": Device("cuda", "A card", 2),
        "versions": {"torch": "2.11.0"},
        "data": [],
        "runs": [SeedRun(seed, 5.0, 100.0, {f"{entry.arm}.accuracy": 0.91 + seed / 100})],
        "training": Training(entry.arm, ["training/fit.py"], {"epochs": 4}),
    }
    return Record(**(fields | others))


@pytest.fixture
def places(tmp_path, book):
    (book / "claims" / "tiny.toml").write_text(TINY)
    return Places(tmp_path / "work", tmp_path / "out", "trained")


def finish(places, entry, seed, **others):
    folder = places.folder(entry, seed)
    records.write(record_of(entry, seed, **others), folder / state.RECORD)
    (folder / state.RESULT).write_bytes(b"weights")


def test_status_tells_what_is_done_what_is_left_and_what_it_takes(places):
    finish(places, FIRST, 0)
    state.write_progress(places.folder(FIRST, 1), {"steps": 75, "total": 100, "seconds": 12.4})
    lines = report.status(LIST, places).splitlines()
    assert lines[0] == "The queue (trained), most valuable first:"
    assert [line.split()[0] for line in lines[1:4]] == ["baselines/first,", "baselines/first,", "tiny/after,"]
    assert lines[1].endswith("done")
    assert lines[2].endswith("5 min    3 GiB  at step 75 of 100, 12 s so far")
    assert lines[3].endswith("30 min    4 GiB  open")
    assert lines[4] == "1 of 3 jobs are done; the others would take 35 minutes of an H100, one at a time."
    state.write_progress(places.folder(AFTER, 0), {"error": "RuntimeError: no", "steps": 1, "total": 2})
    assert "failed: RuntimeError: no" in report.status(LIST, places)


def test_status_says_what_an_entry_waits_for(places):
    assert report.status(LIST, places).splitlines()[3].endswith("waits for baselines/first")


def test_finished_seeds_are_handed_out_as_one_record_and_decide_their_claim(places, book):
    finish(places, FIRST, 0)
    finish(places, AFTER, 0)
    said = []
    written = report.hand_out(LIST, places, said.append)
    assert [path.relative_to(places.out).as_posix() for path in written] == [
        "records/baselines/trained-first.json",
        "records/tiny/trained-after.json",
    ]
    assert records.read(written[0]).seeds == [0]
    finish(places, FIRST, 1)
    assert records.read(report.hand_out(LIST, places, said.append)[0]).seeds == [0, 1]
    assert places.result_path(FIRST, 1).read_bytes() == b"weights"
    assert verdicts("tiny")[0].level == "not run"
    kept = report.keep(places.out)
    assert kept[1] == book / "records" / "tiny" / "trained-after.json"
    (verdict,) = verdicts("tiny")
    assert (verdict.level, verdict.values, said) == ("full", (0.91,), [])


def test_seeds_of_different_machines_are_not_put_into_one_record(places):
    finish(places, FIRST, 0)
    finish(places, FIRST, 1, device=Device("cuda", "Another card", 2))
    said = []
    assert records.read(report.hand_out(LIST, places, said.append)[0]).seeds == [0]
    assert said[0].startswith("left out: baselines/first, seed 1: device: ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"profile": "dry"}, "is of a dry run"),
        ({"dirty": True}, "is of code that was not committed"),
        ({"commit": None}, "is of code that was not committed"),
        ({"profile": "quick", "training": None}, "is not of the queue"),
    ],
)
def test_only_finished_records_of_committed_code_are_kept(places, book, change, words):
    good, bad = record_of(AFTER, 0), replace(record_of(AFTER, 0), **change)
    records.write(good, places.out / "a" / "good.json")
    records.write(bad, places.out / "b" / "bad.json")
    with pytest.raises(ValueError, match=words):
        report.keep(places.out)
    assert not (book / "records" / "tiny").exists()
    with pytest.raises(ValueError, match="holds no record"):
        report.keep(places.out / "none")


def rewritten(change, sign):
    content = json.loads(to_json(record_of(AFTER, 0)))
    change(content)
    return json.dumps(content | ({"digest": content_digest(content)} if sign else {}))


@pytest.mark.parametrize(
    ("change", "sign", "words"),
    [
        (lambda c: c["runs"][0]["values"].update({"after.accuracy": 0.99}), False, "changed by hand or damaged"),
        (lambda c: c["device"].update(name="Another card"), False, "changed by hand or damaged"),
        (lambda c: c.pop("digest"), False, "field 'digest' is missing"),
        (lambda c: c.update(slug="../../evil"), True, "field 'slug' is '../../evil'"),
        (lambda c: c["training"].update(arm="../../evil"), True, "field 'arm' is '../../evil'"),
        (lambda c: c.update(slug="evil"), True, "the record evil/trained is of an unknown chapter"),
        (lambda c: c.update(commit="hello"), True, "field 'commit' is 'hello'"),
        (lambda c: c.update(created="2999-01-01T00:00:00+00:00"), True, "lies in the future"),
        (
            lambda c: c["runs"][0]["values"].update({"after.accuracy": 5.0}),
            True,
            "'after.accuracy' is 5.0; the unit '%'",
        ),
    ],
)
def test_what_was_tampered_with_is_not_kept(places, book, change, sign, words):
    (book / "claims" / "tiny.toml").write_text(TINY.replace("rule =", 'unit = "%"\nrule ='))
    records.write(record_of(FIRST, 0), places.out / "a" / "good.json")
    (places.out / "b").mkdir()
    (places.out / "b" / "bad.json").write_text(rewritten(change, sign))
    with pytest.raises(ValueError, match=words):
        report.keep(places.out)
    assert list((book / "records").iterdir()) == []


def test_two_records_of_one_place_are_not_kept(places, book):
    records.write(record_of(AFTER, 0), places.out / "a" / "one.json")
    records.write(replace(record_of(AFTER, 0), dirty=False, versions={"torch": "3"}), places.out / "b" / "two.json")
    with pytest.raises(ValueError, match="folder: it holds two records of tiny/trained/after"):
        report.keep(places.out)
    assert list((book / "records").iterdir()) == []


@pytest.fixture
def no_git(monkeypatch, tmp_path):
    """The package as files alone, whose commit travels sealed."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "one.py").write_text("x = 1\n")
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "package")
    monkeypatch.setattr(provenance, "_git", lambda *arguments: None)
    provenance.commit.cache_clear()
    yield tmp_path / "package" / "one.py"
    provenance.commit.cache_clear()


def test_without_git_the_sealed_commit_counts_as_long_as_the_files_are_those(no_git, monkeypatch):
    assert provenance.commit() == (None, False)
    monkeypatch.setenv("COMPACTVISION_COMMIT", f"abc123:{provenance._seal()}")
    provenance.commit.cache_clear()
    assert provenance.commit() == ("abc123", False)
    no_git.write_text("x = 2\n")
    provenance.commit.cache_clear()
    assert provenance.commit() == ("abc123", True)
    monkeypatch.setenv("COMPACTVISION_COMMIT", "abc123")
    provenance.commit.cache_clear()
    assert provenance.commit() == ("abc123", True)
    with pytest.raises(ValueError, match="commit: the package's files differ"):
        provenance.sealed_commit()


def test_the_command_tells_the_status_and_refuses_nonsense(places, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COMPACTVISION_CACHE", str(tmp_path / "cache"))
    folder = ["--work", str(places.work), "--out", str(places.out)]
    assert main(["queue", "status", "--only", "dcff/vgg16", *folder]) == 0
    out = capsys.readouterr().out
    assert "dcff/vgg16, seed 0" in out
    assert "0 of 1 jobs are done" in out
    assert main(["queue", "status", "--only", "autobot/vgg16-tuned", *folder]) == 0
    named = [line.split(",")[0].strip() for line in capsys.readouterr().out.splitlines()[1:-1]]
    assert named == ["baselines/vgg16", "autobot/vgg16-cut", "autobot/vgg16-tuned"]  # with what it starts from
    assert main(["queue", "status", "--only", "dcff/vgg17", *folder]) == 2
    assert "'dcff/vgg17' is no entry of the queue; known are baselines/resnet56" in capsys.readouterr().err
    assert main(["queue", "run", "--epochs", "0", *folder]) == 2
    assert "epochs: 0 is not at least 1" in capsys.readouterr().err
    with only_run("queue", "trained"):
        assert main(["queue", "run", "--only", "dcff/vgg16", *folder]) == 1
    assert "another trained run is going on (queue, process" in capsys.readouterr().err
    assert main(["queue", "keep", str(places.out)]) == 2
    assert main(["queue", "walk"]) == 2
