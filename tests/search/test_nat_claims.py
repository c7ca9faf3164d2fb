"""The chapter's claims: what the record must hold, and numbers of its prose that follow from counts."""

import json

import pytest
from compactvision import claims, records
from compactvision.models.cells import CONSISTENT, PUBLISHED, cost
from compactvision.search import small_cells

from oracles import cells as oracle

SLUG = "nat_plus_plus"
BROKEN = {"moves-cost-nothing": 1, "no-extra-cost": 4}  # by the letter; the paper's promise, not our code
ARMS = ("source", "policy1", "policy10", "policy_kept", "nat10", "random1", "random10", "random_kept", "edits10",
        "all_legal", "optimum")  # fmt: skip


@pytest.fixture(scope="module")
def record():
    found = records.load(SLUG, "quick")
    if found is None:
        pytest.skip("there is no record yet")
    return found


def test_every_quick_claim_is_answered_by_three_seeds(record):
    assert list(record.seeds) == [0, 1, 2]
    verdicts = [one for one in claims.verdicts(SLUG) if one.claim.profile == "quick"]
    assert [one.claim.id for one in verdicts if one.level == "not run"] == []


def test_exact_claims_hold_but_for_the_two_that_the_paper_breaks(record):
    verdicts = [one for one in claims.verdicts(SLUG) if one.claim.kind == "exact"]
    assert {one.claim.id for one in verdicts if one.level != "full"} == set(BROKEN)
    values = {one.claim.id: one.claim.rule.value for one in verdicts}
    assert {name: record.values(values[name])[0] for name in BROKEN} == BROKEN


def test_arms_of_the_bench_are_complete(record):
    """The source is its own measure, and every arm has every number."""
    for name in ("test", "macs", "dearer", "better"):
        assert all(len(record.values(f"bench.{arm}.{name}")) == 3 for arm in ARMS)
    for seed in range(3):
        assert record.values("bench.source.macs")[seed] == pytest.approx(1)
        assert record.values("bench.source.dearer")[seed] == record.values("bench.source.better")[seed] == 0


def test_gains_of_the_toy_are_shares(record):
    for arm in ("loops", "no_loops", "blind"):
        assert all(value <= 1 for value in record.values(f"toy.{arm}.greedy") + record.values(f"toy.{arm}.best10"))


def plain(genotype):
    return oracle.network(genotype.normal, genotype.reduction, len(genotype.outputs))


def test_two_poolings_of_the_reduction_cell_became_skips(repo):
    """52,704 parameters and as many MACs as two halving skips are left when the normal cell is accounted for."""
    source, changed = PUBLISHED["darts_v2"], CONSISTENT["nat_darts"]
    explained = oracle.network(changed.normal, source.reduction, 4)
    left = [a - b for a, b in zip(plain(changed), explained, strict=True)]
    two = [
        2 * (cost("skip_connect", channels, size, 2).parameters + 2 * channels)
        for channels, size in ((72, 32), (144, 16))
    ]
    assert left[0] == sum(two) == 52_704
    assert left[1] == 2 * sum(cost("skip_connect", c, s, 2).macs for c, s in ((72, 32), (144, 16)))
    cells = json.loads((repo / "notebooks" / f"{SLUG}.ipynb").read_text(encoding="utf-8"))["cells"]
    assert any("52,704 parameters" in "".join(cell["source"]) for cell in cells)


def test_which_of_the_five_poolings_cannot_be_told_by_counting():
    source, changed = PUBLISHED["darts_v2"], CONSISTENT["nat_darts"]
    halving = [i for i, edge in enumerate(source.reduction) if edge.source < 2]
    assert len(halving) == 5
    for a in halving:
        for b in halving[halving.index(a) + 1 :]:
            edges = [("skip_connect", *e[1:]) if i in (a, b) else e for i, e in enumerate(source.reduction)]
            assert oracle.network(changed.normal, edges, 4) == plain(changed)


def test_the_bench_counts_sources_as_the_chapter_says():
    usable = [choice for choice in small_cells.all_choices() if "none" not in choice]
    assert len(usable) == 256
