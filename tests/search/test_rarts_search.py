"""The loop on a super-network: budgets, what is shared and what is not, and that each method does what it says."""

import math

import pytest
import torch
from compactvision import measure
from compactvision.models.cells import CellNetwork, SuperNetwork, dense_edges
from compactvision.search import rarts
from compactvision.search.rarts import loop

from oracles import rarts as oracle

PLACES = ((0, 2), (1, 2))
OPERATIONS = ("none", "skip_connect", "conv_3x3")


def network():
    return SuperNetwork(PLACES, OPERATIONS, 2, 3, 3, stem=1, generator=torch.Generator().manual_seed(0))


def half(seed):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(6, 3, 6, 6, generator=generator), torch.arange(6) % 3) for _ in range(2)]


def found(method="rarts", passes=10, **options):
    options = {"recipe": loop.Recipe(alpha_rate=0.05), "generator": torch.Generator().manual_seed(1)} | options
    return rarts.search(network(), half(1), half(2), method, passes=passes, **options)


@pytest.mark.parametrize("method", loop.METHODS)
class TestEveryMethod:
    def test_stays_in_its_budget(self, method):
        made = found(method, 12)
        assert made.passes == loop.PASSES[method] * (12 // loop.PASSES[method])
        assert {iteration.passes for iteration in made.history} == {loop.PASSES[method]}
        assert len(made.entropies) == len(made.history)
        assert all(math.isfinite(iteration.train_loss + iteration.valid_loss) for iteration in made.history)

    def test_has_two_sets_of_weights_only_if_it_is_rarts(self, method):
        made = found(method, 12)
        gap = max((made.weights[name] - made.twin[name]).abs().max() for name in made.weights)
        assert (gap > 1e-4) == method.startswith("rarts")
        start = dict(network().named_parameters())
        assert all((made.weights[name] != start[name]).any() for name in ("conv1.weight", "fc.weight"))

    def test_leaves_the_network_as_it_was(self, method):
        model = network()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        rarts.search(model, half(1), half(2), method, passes=10)
        assert model.training
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        assert all(tensor.grad is None for tensor in model.parameters())

    def test_moves_the_architecture_and_repeats_itself(self, method):
        one, again = found(method), found(method)
        assert all(torch.equal(a, b) for a, b in zip(one.alpha, again.alpha, strict=True))
        first = found(method, passes=5, recipe=loop.Recipe(alpha_rate=1e-12))
        assert (one.alpha[0] - first.alpha[0]).abs().max() > 0.01


def test_the_first_losses_are_those_of_the_network():
    made, model = found("rarts", 4), network()
    mixtures = [torch.softmax(1e-3 * torch.randn(2, 3, generator=g), 1) for g in [torch.Generator().manual_seed(1)] * 2]
    x, targets = half(1)[0]
    loss = torch.nn.functional.cross_entropy(model(x, *mixtures), targets)
    assert made.history[0].train_loss == pytest.approx(loss.item(), rel=1e-5)


def test_a_strong_spring_holds_the_sets_together():
    gaps = []
    for coupling in (0.0, 5.0):
        made = found("rarts", 48, coupling=coupling)
        gaps.append(sum((made.weights[name] - made.twin[name]).square().sum() for name in made.weights).sqrt())
    assert gaps[1] < 0.5 * gaps[0]


def test_numbers_that_are_none_are_refused_by_name():
    empty = [(torch.zeros(0, 3, 6, 6), torch.zeros(0, dtype=torch.long))]
    with pytest.raises(ValueError, match=r"valid must give a finite loss .*got nan"):
        rarts.search(network(), half(1), empty, passes=4)
    broken = network()
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="network must have finite parameters"):
        rarts.search(broken, half(1), half(2), passes=4)
    with pytest.raises(ValueError, match="must give a finite loss"):
        found(passes=400, recipe=loop.Recipe(rate=1e9, clip=1e9), coupling=0.0)


def test_one_architecture_for_both_kinds_of_cells():
    made = found(shared=True)
    assert len(made.alpha) == 1
    assert made.genotype.normal == made.genotype.reduction
    assert len(found().alpha) == 2


def test_the_genotype_has_no_none_and_two_sources_for_each_node():
    names = ("none", "skip_connect", "avg_pool_3x3")
    model = SuperNetwork(dense_edges(3), names, 2, 1, 3, stem=1)
    made = rarts.search(model, half(1), half(2), passes=4)
    for cell in (made.genotype.normal, made.genotype.reduction):
        assert "none" not in {edge.operation for edge in cell}
        for node in (2, 3, 4):
            assert len({edge.source for edge in cell if edge.target == node}) == 2
    x = half(1)[0][0]
    assert CellNetwork(made.genotype, 2, 3, 3)(x).shape == (6, 3)


def test_the_toy_super_network_has_the_published_count():
    model = SuperNetwork(dense_edges(2), channels=4, cells=3)
    assert measure.parameters(model) == 26_958


class TestRecipe:
    def test_the_cosine_goes_from_rate_to_final_rate(self):
        recipe = loop.Recipe(rate=0.4, final_rate=0.1)
        assert [loop.cosine(recipe, share) for share in (0, 0.5, 1)] == pytest.approx([0.4, 0.25, 0.1])
        with pytest.raises(ValueError, match="share must be"):
            loop.cosine(recipe, 1.5)

    def test_weight_decay_of_weights_is_none_of_the_architecture(self):
        made = found(passes=4, recipe=loop.Recipe(weight_decay=100.0, alpha_rate=1e-9, alpha_decay=0.0))
        start = 1e-3 * torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
        assert (made.alpha[0] - start).abs().max() < 1e-6
        kernel, first = made.weights["conv1.weight"], network().conv1.weight
        assert kernel.norm() > 1.1 * first.norm()  # a rate of 0.025 and a decay of 100 turn it around

    @pytest.mark.parametrize("name", ["rate", "clip", "alpha_rate"])
    def test_is_checked(self, name):
        with pytest.raises(ValueError, match=f"{name} must be above 0"):
            loop.Recipe(**{name: 0})
        with pytest.raises(ValueError, match="momentum must be at least 0"):
            loop.Recipe(momentum=-0.1)


def test_entropy_is_the_oracles():
    rows = torch.randn(4, 5, dtype=torch.float64)
    assert loop.entropy((rows,)) == pytest.approx(oracle.mean_entropy(rows.numpy()))
    assert loop.entropy((torch.zeros(2, 7),)) == pytest.approx(1)
    with pytest.raises(ValueError, match=r"alpha\[0\] must have shape"):
        loop.entropy((torch.zeros(3),))


def test_batches_are_begun_anew():
    assert [x for x, _ in zip(loop.endless([1, 2], "train"), range(5))] == [1, 2, 1, 2, 1]
    with pytest.raises(ValueError, match="valid must hold at least one batch"):
        next(loop.endless([], "valid"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "drats"}, "method must be one of"),
        ({"passes": 3}, "passes must pay for one iteration of rarts, 4, got 3"),
        ({"coupling": -1}, "coupling must be at least 0"),
        ({"network": torch.nn.Linear(2, 2)}, "network must be of class SuperNetwork"),
        ({"train": 3}, "train must be pairs"),
        ({"train": [(torch.zeros(2, 1, 8, 8), torch.zeros(2).long())]}, r"must be images \(B, 3, H, W\)"),
        ({"valid": []}, "valid must hold at least one batch"),
        ({"valid": [(torch.zeros(2, 3, 8, 8), torch.tensor([0, 7]))]}, "valid: the model fails"),
        ({"shared": 1}, "shared must be True or False"),
        ({"recipe": {}}, "recipe must be of class Recipe"),
    ],
)
def test_bad_arguments_are_named(options, message):
    given = {"network": network(), "train": half(1), "valid": half(2), "method": "rarts", "passes": 8} | options
    with pytest.raises(ValueError, match=message):
        rarts.search(**given)
