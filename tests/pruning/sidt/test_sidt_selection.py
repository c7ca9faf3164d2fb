"""Which dimensions stay: shares, ties, guards, scopes, random controls."""

import pytest
import torch
from compactvision import surgery
from compactvision.pruning.sidt import selection
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.swin_transformer import SwinTransformer


def drawn(seed=0, heads=(2, 3), size=5, hidden=(7, 12)):
    generator = torch.Generator().manual_seed(seed)
    return {
        f"block{place}": {
            "qk": torch.randn(h, size, generator=generator),
            "v": torch.randn(h, size, generator=generator),
            "hidden": torch.randn(f, generator=generator),
        }
        for place, (h, f) in enumerate(zip(heads, hidden, strict=True))
    }


def by_hand(scores, kind, rho, guarded=True):
    """One dimension at a time, the lowest first; one that is the last of its head or layer is passed over."""
    places = [
        (abs(float(value)), layer, head, index)
        for layer, of_block in enumerate(scores.values())
        for head, row in enumerate(of_block[kind].reshape(-1, of_block[kind].shape[-1]))
        for index, value in enumerate(row)
    ]
    left, cut = {}, []
    for _, layer, head, _ in places:
        left[layer, head] = left.get((layer, head), 0) + 1
    for _, layer, head, index in sorted(places):
        if len(cut) < round(rho * len(places)) and (left[layer, head] > 1 or not guarded):
            left[layer, head] -= 1
            cut.append((layer, head, index))
    return cut


def removed(keep, kind):
    return [
        (layer, head, index)
        for layer, of_block in enumerate(keep.values())
        for head, row in enumerate(of_block[kind].reshape(-1, of_block[kind].shape[-1]))
        for index, stays in enumerate(row.tolist())
        if not stays
    ]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 99), rho=st.floats(0, 0.99), coarse=st.booleans())
def test_global_is_one_after_the_other(seed, rho, coarse):
    scores = drawn(seed)
    if coarse:  # many ties
        scores = {name: {kind: score.round() for kind, score in of.items()} for name, of in scores.items()}
    keep = selection.select(scores, rho)
    for kind in ("qk", "v", "hidden"):
        assert removed(keep, kind) == sorted(by_hand(scores, kind, rho))


def test_shares_are_rounded_half_to_even_kind_by_kind():
    scores = {"a": {"hidden": torch.arange(10.0) + 1, "qk": torch.ones(1, 5)}}
    for rho, gone in ((0.25, 2), (0.35, round(0.35 * 10)), (0.2, 2), (0.0, 0), (0.99, 9)):
        assert (~selection.select(scores, rho)["a"]["hidden"]).sum() == gone
    keep = selection.select(scores, {"hidden": 0.5, "qk": 0.2})["a"]
    assert keep["hidden"].tolist() == [False] * 5 + [True] * 5
    assert keep["qk"].tolist() == [[False, True, True, True, True]]  # of equal scores the first goes


def test_signs_do_not_matter():
    scores = drawn()
    flipped = {name: {kind: -score for kind, score in of.items()} for name, of in scores.items()}
    for name, of_block in selection.select(scores, 0.4).items():
        for kind, mask in of_block.items():
            assert torch.equal(mask, selection.select(flipped, 0.4)[name][kind])


def test_each_head_and_layer_keeps_one():
    scores = drawn()
    scores["block0"] = {kind: score * 1e-3 for kind, score in scores["block0"].items()}
    keep = selection.select(scores, 0.9)
    for of_block in keep.values():
        for mask in of_block.values():
            assert mask.any(-1).all()


def test_whole_heads_may_go_and_take_their_queries():
    scores = {"a": {"qk": torch.ones(2, 4), "v": torch.tensor([[0.1] * 4, [1.0] * 4])}}
    keep = selection.select(scores, {"qk": 0.0, "v": 0.5}, heads_may_go=True)["a"]
    assert keep["v"].tolist() == keep["qk"].tolist() == [[False] * 4, [True] * 4]
    keep = selection.select(scores, 0.99, heads_may_go=True)["a"]
    assert keep["v"].sum() == 1
    assert selection.select(scores, {"qk": 0.0, "v": 0.5})["a"]["v"].any(1).all()


@pytest.mark.parametrize("rho", [0.2, 0.4, 0.6])
def test_layers_and_heads_lose_the_same_share(rho):
    scores = drawn()
    for name, of_block in selection.select(scores, rho, scope="layer").items():
        for kind, mask in of_block.items():
            assert (~mask).sum() == round(rho * mask.numel())
            assert mask.any(-1).all()
            one = {name: {kind: scores[name][kind]}}
            assert torch.equal(selection.select(one, rho)[name][kind], mask)
    for of_block in selection.select(scores, rho, scope="head").values():
        for kind in ("qk", "v"):
            assert (~of_block[kind]).sum(1).tolist() == [round(rho * 5)] * len(of_block[kind])


def test_random_controls():
    scores, generator = drawn(heads=(4, 4), size=16, hidden=(64, 64)), torch.Generator().manual_seed(0)
    keep = selection.select(scores, 0.4)
    same = selection.random_of_same_widths(keep, generator)
    overall = selection.select(selection.random_scores(scores, generator), 0.4)
    for name, of_block in keep.items():
        for kind, mask in of_block.items():
            assert torch.equal(same[name][kind].sum(-1), mask.sum(-1))
            assert not torch.equal(same[name][kind], mask)
    for kind in ("qk", "v", "hidden"):
        assert sum(of[kind].sum() for of in overall.values()) == sum(of[kind].sum() for of in keep.values())
    again = selection.random_of_same_widths(keep, torch.Generator().manual_seed(0))
    assert all(torch.equal(again[n][k], mask) for n, of in same.items() for k, mask in of.items())


def test_widths_of_one_ranking_and_choice_of_another():
    scores, other = drawn(0), drawn(1)
    keep = selection.select(scores, 0.4)
    mixed = selection.same_widths(other, keep)
    for name, of_block in keep.items():
        for kind, mask in of_block.items():
            assert torch.equal(selection.same_widths(scores, keep)[name][kind], mask)
            for row, chosen in zip(other[name][kind].reshape(-1, mask.shape[-1]).abs(),
                                   mixed[name][kind].reshape(-1, mask.shape[-1]), strict=True):  # fmt: skip
                assert chosen.all() or row[chosen].min() > row[~chosen].max()


@pytest.mark.parametrize("shared", [False, True])
def test_masks_fit_the_network_that_gave_the_scores(shared):
    model = surgery.insert_scores(SwinTransformer([4, 4], 24, [2], [2], [4, 4], num_classes=2), shared=shared)
    for score in surgery.block_scores(model)["features.1.0"].values():
        torch.nn.init.normal_(score)
    small = surgery.cut_dimensions(model, selection.select(surgery.block_scores(model), 0.4))
    assert surgery.find_blocks(small)["features.1.0"].sites["hidden"].dimensions < 96


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: selection.select(drawn(), 1.0), r"rho must be in \[0, 1\), got 1.0"),
        (lambda: selection.select(drawn(), {"qk": 0.1}), "rho must have a share for each kind, got none for 'v'"),
        (lambda: selection.select(drawn(), 0.1, scope="block"), "scope must be one of global, layer, head"),
        (lambda: selection.select({}, 0.1), "scores must hold tensors by block and kind"),
        (lambda: selection.select({"a": {"qk": torch.ones(3)}}, 0.1), r"scores\['a'\]\['qk'\] must be \(heads, size\)"),
        (lambda: selection.select({"a": {"hidden": torch.full((3,), torch.nan)}}, 0.1), "must be finite"),
        (lambda: selection.select(drawn(), 0.1, scope="head", heads_may_go=True), "heads_may_go must be False"),
        (lambda: selection.random_scores(drawn(), None), "generator must be of class Generator"),
        (lambda: selection.random_of_same_widths(drawn(), torch.Generator()), "must be of type bool"),
        (lambda: selection.same_widths({}, selection.select(drawn(), 0.1)), "scores must hold tensors"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
