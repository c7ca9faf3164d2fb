"""The board: every claim that was not run has a row with command, hours, GPU and data; what is sent is looked at."""

import json
import re
from dataclasses import asdict, replace

import pytest
from compactvision import claims, records
from compactvision.__main__ import main
from compactvision.claims.report import Scorecard
from compactvision.claims.rules import judge
from compactvision.queue import arms, board
from compactvision.queue.entries import ENTRIES, FULL, TRAINED, Entry, find
from compactvision.queue.recipes import Arm, Recipe
from compactvision.records import Device, Record, SeedRun, Training
from compactvision.records.stored import content_digest, to_json

TINY = """
[chapter]
title = "A chapter: of tests"
part = "cut"

[[claim]]
id = "as-trained"
text = "On CIFAR-10 it is right on more than nine of ten."
source = "table 1"
kind = "trained"
profile = "trained"
refuted_by = "It is not."
rule = { value = "net.accuracy", above = 0.9 }

[[claim]]
id = "larger"
text = "On ImageNet | it <b>is</b> as well."
source = "table 1"
kind = "trained"
profile = "trained"
refuted_by = "It is not."
rule = { value = "large.accuracy", above = 0.7 }
"""
RECIPE = Recipe("A net", 4, 128, 0.1, 1e-4, "steps", "a table")


def of_net(arm: str, **others) -> Training:
    return Training(arm, ["training/fit.py"], {**asdict(RECIPE), "images": 50000, **others})


def sent(**others) -> Record:
    fields = {
        "slug": "tiny",
        "profile": "trained",
        "created": "2026-11-26T10:00:00+00:00",
        "commit": "0123456789abcdef",
        "dirty": False,
        "method": "m",
        "notebook": None,
        "device": Device("cuda", "A card", 2),
        "versions": {"torch": "2.11.0"},
        "data": [],
        "runs": [SeedRun(0, 7200.0, 100.0, {"net.accuracy": 0.94, "curve": [0.1, 0.2]})],
        "training": of_net("net"),
        "credit": "Ada <b>L.</b>",
    }
    return Record(**(fields | others))


@pytest.fixture
def place(book, monkeypatch):
    """The place of a record of a chapter with two claims, in an empty book."""
    (book / "claims" / "tiny.toml").write_text(TINY)
    monkeypatch.setattr(arms, "find", lambda entry: Arm(RECIPE, dict, ("training/fit.py",)))
    folder = book / "records" / "tiny"
    folder.mkdir()
    return folder / "trained-net.json"


@pytest.fixture(scope="module")
def card():
    """Verdicts as they would be without a single record."""
    chapters = [claims.load(slug) for slug in claims.slugs()]
    return Scorecard(tuple((one, tuple(judge(claim, None, slug=one.slug) for claim in one.claims)) for one in chapters))


def test_a_row_for_each_claim_that_was_not_run_and_nothing_in_it_is_left_open(card):
    page = board.page(card)
    kind = re.compile(r"\((exact|scaled|trained|check), [a-z0-9-]+\)")
    rows = [line.split(" | ") for line in page.splitlines() if kind.search(line)]
    assert len(rows) == len(card.verdicts)
    assert {len(row) for row in rows} == {len(board.COLUMNS)}
    waiting = [row for row in rows if "(trained, " in row[0]]
    assert not [row for row in waiting if not row[-1].strip(" |")], "a claim names no data"


def test_the_lines_of_the_queue_are_found_from_the_claims():
    of = {
        f"{slug}/{claim.id}": board.entry_of(slug, claim)
        for slug in claims.slugs()
        for claim in claims.load(slug).claims
    }
    named = {key: entry and entry.name for key, entry in of.items()}
    assert named["autobot/vgg16-tuned"] == "autobot/vgg16-tuned"
    assert named["dcff/googlenet-accuracy"] == "dcff/googlenet"
    assert named["energy_aware_pruning/resnet56-accuracy"] == "energy_aware_pruning/resnet56"
    assert named["nat_plus_plus/cifar-nat2-beats-random"] == "nat_plus_plus/random_darts"
    assert named["nat_plus_plus/papers-schedule"] is None
    assert named["sidt/cifar100-random"] == "sidt/full"
    assert named["dcff/resnet50-step-accuracy"] is None
    trained = [entry.name for entry in ENTRIES if entry.kind == TRAINED and entry.slug != "baselines"]
    starts = {need for entry in ENTRIES for need in entry.needs}
    assert set(trained) - set(filter(None, named.values())) <= starts  # no line without a claim
    assert {find(name).kind for name in filter(None, named.values())} == {TRAINED, FULL}


def test_a_command_runs_what_the_claim_needs_and_hours_count_what_it_starts_from():
    entry = find("autobot/vgg16-tuned")
    minutes = 3 + 1 + 6  # tuning, cut, and the network
    assert board.hours(entry) == pytest.approx(minutes / 60)
    assert board.command_of("autobot", entry) == "make gpu-queue ONLY=autobot/vgg16-tuned OUT=out MINUTES=20"
    assert board.command_of("foundations", None) == "make full SLUG=foundations"
    first, second = Entry("a", "b", TRAINED, 10, 3, (0, 1)), Entry("a", "c", TRAINED, 20, 3, (0, 1), ("a/b",))
    assert board.hours(second, (first, second)) == pytest.approx(1)


def test_what_is_sent_is_kept_with_a_name_and_stands_on_the_board(place, tmp_path, capsys):
    records.write(sent(credit=None), tmp_path / "back" / "trained-net.json")
    assert board.page().count("Nobody outside this book") == 1
    assert main(["queue", "keep", str(tmp_path / "back"), "--credit", "Ada <b>L.</b>"]) == 0
    assert records.read(place).credit == "Ada <b>L.</b>"
    page = board.page()
    assert "| Ada &lt;b&gt;L.&lt;/b&gt; | tiny/net | A card | 2.0 | 2026-11-26 |" in page
    assert "as-trained" not in page
    assert "these have none yet" in page
    assert "A chapter: On ImageNet \\| it &lt;b&gt;is&lt;/b&gt; as well" in page
    assert "1 claims were not run" in page


def test_the_check_says_as_text_what_a_record_holds_and_what_would_come_of_it(place, capsys):
    records.save(sent())
    assert main(["queue", "check", str(place)]) == 0
    said = capsys.readouterr().out
    assert "tiny/trained-net: seeds 0, cuda 'A card', commit 0123456789abcdef, run by 'Ada <b>L.</b>'" in said
    assert "'net.accuracy': 0.94" in said
    assert "'curve': 2 numbers" in said
    assert "✓ reproduced: as-trained: 0.94 is above 0.9" in said
    assert "larger" not in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dirty": True}, "path: the record tiny/trained is of code that was not committed"),
        ({"commit": None}, "path: the record tiny/trained is of code that was not committed"),
        ({"slug": "other"}, "path: the record other/trained is of an unknown chapter"),
        (
            {"training": Training("net", ["a"], {**asdict(RECIPE), "epochs": 2})},
            "has the recipe 'epochs' 2; the arm 'net'",
        ),
        ({"training": Training("net", ["a"], {})}, "has the recipe 'network' None"),
        (
            {"training": Training("another", ["a"], {**asdict(RECIPE)})},
            "its place is records/tiny/trained-another.json",
        ),
    ],
)
def test_what_has_no_place_in_the_book_is_refused(place, change, words):
    records.write(sent(**change), place)
    with pytest.raises(ValueError, match=re.escape(words)):
        board.looked_at(place)


def test_an_edited_value_and_a_credit_put_in_afterwards_are_refused(place):
    for old, new in ((": 0.94", ": 0.99"), ('"Ada <b>L.</b>"', '"Someone"')):
        place.write_text(to_json(sent()).replace(old, new))
        with pytest.raises(ValueError, match="was changed by hand"):
            board.looked_at(place)


@pytest.mark.parametrize("credit", ["", "  ", "x" * 101, 3, ["Ada"]])
def test_a_credit_is_a_short_name(credit):
    with pytest.raises(ValueError, match="field 'credit' is"):
        sent(credit=credit)


def test_records_without_a_credit_stay_as_they_were(place):
    text = to_json(sent(credit=None))
    assert "credit" not in text
    records.write(sent(credit=None), place)
    assert records.read(place) == sent(credit=None)
    content = json.loads(text)
    assert content["digest"] == content_digest(content)
    assert replace(records.read(place), credit="Ada").credit == "Ada"


def test_the_page_is_written_once_and_left_alone_while_it_says_the_same(place, tmp_path):
    path = board.write_page(tmp_path / "generated")
    before = path.stat().st_mtime_ns
    assert board.write_page(tmp_path / "generated").stat().st_mtime_ns == before
    assert path.read_text() == board.page()
