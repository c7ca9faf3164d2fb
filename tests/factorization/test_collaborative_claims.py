"""The chapter's claims: what the record must hold, and values that are made of others worked out again."""

import pytest
from compactvision import claims, records

SLUG = "collaborative_compression"
SHARES = ("50", "25", "15")
ARMS = ("both", "channels", "ranks", "random", "scan", "sequence", "l1", "uniform", "gamma0", "flat", "both_kept",
        "channels_kept", "scan_kernel")  # fmt: skip


@pytest.fixture(scope="module")
def record():
    found = records.load(SLUG, "quick")
    if found is None:
        pytest.skip("there is no record yet")
    return found


def test_every_quick_claim_is_answered_by_three_seeds(record):
    assert list(record.seeds) == [0, 1, 2]
    verdicts = [one for one in claims.verdicts(SLUG) if one.claim.profile == "quick"]
    assert len(verdicts) > 40
    assert [one.claim.id for one in verdicts if one.level == "not run"] == []


def test_every_exact_claim_holds(record):
    verdicts = [one for one in claims.verdicts(SLUG) if one.claim.kind in ("exact", "check")]
    assert len(verdicts) == 15
    assert [one.claim.id for one in verdicts if one.level != "full"] == []


def test_what_needs_imagenet_or_cifar_is_not_run():
    """Of the paper's tables only the abstract's numbers are confirmed, so that no other is claimed."""
    trained = [one for one in claims.verdicts(SLUG) if one.claim.kind == "trained"]
    assert [(one.claim.id, one.level, one.claim.paper) for one in trained] == [("resnet50-drop", "not run", 0.0056)]


def test_leads_are_those_of_their_parts(record):
    for share in SHARES:
        both, *single = (record.values(f"refit.{share}.{arm}") for arm in ("both", "channels", "ranks"))
        best = [max(pair) for pair in zip(*single, strict=True)]
        assert record.values(f"refit.{share}.best_single") == best
        leads = [a - b for a, b in zip(both, best, strict=True)]
        assert record.values(f"lead.{share}") == pytest.approx(leads)


def test_every_arm_was_judged_at_every_budget(record):
    assert {f"refit.{share}.{arm}" for share in SHARES for arm in ARMS} <= set(record.names)
    assert set(record.values("budget.failures")) == {0}


def test_losses_are_shares(record):
    for arm in ARMS:
        rows = [record.values(f"loss.{share}.{arm}") for share in SHARES]
        for seed in range(3):
            losses = [row[seed] for row in rows]
            assert 0 < losses[0] < losses[1] < losses[2] <= 1
