"""The chapter's claims: what the record must hold, and numbers of its prose that follow from counts."""

import json
from statistics import fmean

import pytest
from compactvision import claims, records
from compactvision.models.cells import CONSISTENT, PUBLISHED, cost
from compactvision.search import small_cells
from compactvision.search.nat_plus_plus import training

from oracles import cells as oracle

SLUG = "nat_plus_plus"
BROKEN = {"moves-cost-nothing": 1, "no-extra-cost": 4}  # by the letter; the paper's promise, not our code
ARMS = ("source", "policy1", "policy10", "policy_kept", "nat10", "random1", "random10", "random_kept", "edits10",
        "all_legal", "all_legal_800", "optimum")  # fmt: skip


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


def every_seed(record, larger, smaller):
    """Whether one value exceeds the other in each seed."""
    return all(a > b for a, b in zip(record.values(larger), record.values(smaller), strict=True))


def test_the_prose_on_the_toy_says_what_the_record_shows(record):
    for first, second in (
        ("toy.loops.greedy", "toy.no_loops.greedy"),  # "sight pays"
        ("toy.no_loops.best10", "toy.edits10"),
        ("toy.no_loops.greedy", "toy.random.best10"),
        ("toy.edits50", "toy.edits10"),
        ("toy.edits50", "toy.no_loops.greedy"),
    ):
        assert every_seed(record, first, second), (first, second)
    deaf = [record.values(f"toy.{arm}.greedy") for arm in ("no_loops", "blind")]
    assert deaf[0] == pytest.approx(deaf[1], abs=0.03)  # "end where their kind must"
    assert min(record.values("toy.edits10")) > 0.5  # "more than half"
    loops, edits, lower = (
        fmean(record.values(f"toy.{name}")) for name in ("loops.greedy", "edits50", "no_loops.greedy")
    )
    assert loops > 0.95  # "nearly all"
    assert loops - 0.05 < edits < loops  # "nearly as much"
    assert 0.15 < loops - lower < 0.25  # "a fifth lower"
    assert fmean(record.values("toy.nat_optimum")) < lower


def test_the_prose_on_the_bench_says_what_the_record_shows(record):
    source = fmean(record.values("bench.source.test"))
    for arm in ("policy1", "policy10", "policy_kept", "nat10", "edits10", "all_legal"):
        found = record.values(f"bench.{arm}.test")
        assert source - 0.03 < min(found) <= max(found) < source + 0.005, arm  # "nothing clearly beats the source"
        assert fmean(found) < source, arm
    assert fmean(record.values("bench.all_legal_800.test")) == pytest.approx(source, abs=0.01)
    for arm in ("policy_kept", "random_kept"):
        edits = fmean(record.values("bench.edits10.test"))
        assert fmean(record.values(f"bench.{arm}.test")) == pytest.approx(edits, abs=0.005), arm
    assert max(record.values("bench.random10.test")) < source - 0.05  # "clearly worse"
    assert fmean(record.values("bench.random_kept.test")) == pytest.approx(source, abs=0.01)  # "harmless"
    assert fmean(record.values("bench.optimum.test")) > source + 0.04
    assert fmean(record.values("bench.optimum.better")) > 0.5  # "for most sources"
    shared, within = (fmean(record.values(f"bench.tau_shared{part}")) for part in ("", "_within"))
    assert shared - 0.1 < within < shared  # "nearly as well"
    assert fmean(record.values("bench.tau_parameters_within")) == pytest.approx(within, abs=0.1)  # "so does the number"
    assert 0.9 < fmean(record.values("bench.policy10.macs")) < 0.99  # "saves a few per cent"
    assert min(record.values("bench.policy10.dearer")) > 0


def test_the_recipe_of_the_prose_is_that_of_the_code(repo):
    recipe = training.Recipe()
    cells = json.loads((repo / "notebooks" / f"{SLUG}.ipynb").read_text(encoding="utf-8"))["cells"]
    prose = " ".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert f"{recipe.steps:,} steps of {recipe.batch} cells" in prose
    assert recipe.draws == 8
    assert f"eight draws for each of {recipe.batch // recipe.draws} sources" in prose
    rewards = recipe.steps * recipe.batch
    assert f"{rewards:,} rewards" in prose
    assert f"{rewards // 50:,} cells, and twenty times" in prose
    assert 20 <= rewards / 13**4 < 22


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
