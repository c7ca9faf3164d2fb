"""The chapter's claims: what the record must hold, and numbers of the exact ones worked out again."""

import math

import pytest
from compactvision import claims, records
from compactvision.factorization.admm_tensor_train import published, toy

SLUG = "admm_tensor_train"


@pytest.fixture(scope="module")
def record():
    found = records.load(SLUG, "quick")
    if found is None:
        pytest.skip("there is no record yet")
    return found


def test_every_quick_claim_is_answered_by_three_seeds(record):
    assert record.seeds == [0, 1, 2] or tuple(record.seeds) == (0, 1, 2)
    verdicts = [one for one in claims.verdicts(SLUG, record) if one.claim.profile == "quick"]
    assert len(verdicts) > 20
    assert [one.claim.id for one in verdicts if one.level == "not run"] == []


def test_exact_claims_hold_but_those_on_the_said_reductions(record):
    verdicts = [one for one in claims.verdicts(SLUG, record) if one.claim.kind == "exact"]
    failed = {one.claim.id for one in verdicts if one.level != "full"}
    assert failed == {"said-parameters", "said-operations"}


def test_nothing_that_was_not_run_is_called_so():
    trained = [one for one in claims.verdicts(SLUG) if one.claim.kind == "trained"]
    assert {one.claim.id for one in trained} == {"resnet20-cifar100", "resnet32-cifar100", "resnet18-imagenet", "video"}
    assert {one.level for one in trained} == {"not run"}


def test_the_said_reductions_that_the_tables_do_not_have(record):
    """2 of 8 in parameters, 3 of 3 in operations, worked out from the counts of tests/factorization/test_admm_ranks."""
    factors = {name: published.count(table).factors for name, table in published.TABLES.items()}
    assert round(factors["ResNet-32, Tucker 2x"][0]) == 3
    assert f"{factors['ResNet-50, TT general'][0]:.2f}" == "2.51"
    assert record.values("said.parameters_off") == [2, 2, 2]
    for name, said in (
        ("ResNet-18, TT special", 2.65),
        ("ResNet-18, TT general", 2.68),
        ("ResNet-18, Tucker", 2.65),
    ):
        assert max(factors[name][1:]) < said - 0.05
    assert record.values("said.macs_off") == [3, 3, 3]


def test_derived_values_are_those_of_their_parts(record):
    chosen = {0.3: "admm_low", 1.0: "admm_mid", 3.0: "admm_high"}
    for seed, rho in enumerate(record.values("rho.chosen")):
        for name in ("after", "renewed"):
            best, ours = record.values(f"{name}.{chosen[rho]}"), record.values(f"{name}.admm")
            assert best[seed] == ours[seed]
        lead = [record.values(f"{name}.admm")[seed] - record.values(f"{name}.direct")[seed] for name in
                ("after", "renewed")]  # fmt: skip
        assert record.values("lead.share_renewed")[seed] == pytest.approx(lead[1] / lead[0])


def test_leads_on_other_formats_are_those_of_their_parts(record):
    for when in ("after", "tuned"):
        for seed, least in enumerate(record.values(f"others.least_lead_{when}")):
            leads = [
                record.values(f"{when}.{name}_admm")[seed] - record.values(f"{when}.{name}_epoch")[seed]
                for name in ("tucker", "cp", "ring")
            ]
            assert least == pytest.approx(min(leads))


def test_the_smaller_network_costs_what_the_trains_cost(record):
    assert set(record.values("scratch.macs")) == {6_747_136}
    assert set(record.values("scratch.parameters")) == {42_592}
    assert set(record.values("smaller.macs")) == {6_709_568}
    assert set(record.values("smaller.parameters")) == {43_634}


def test_projections_are_counted(record):
    """Eighteen kernels, six epochs of twenty steps; ADMM projects once before it begins."""
    assert set(record.values("svds.step")) == {18 * 6 * 20}
    assert set(record.values("svds.epoch")) == {18 * 6}
    assert set(record.values("svds.admm_mid")) == {18 * 7}


def test_the_threshold_of_the_toy():
    assert math.isclose(toy.smallest_rho((4, 3, 2, 1), 2), 2 / 3)
