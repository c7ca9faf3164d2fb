"""The search: proximal steps on scores behind the optimiser's, and what it refuses."""

import pytest
import torch
import torch.nn.functional as F
from compactvision import surgery, training
from compactvision.pruning import sidt
from torchvision.models import SwinTransformer


def network(seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    return SwinTransformer([4, 4], 8, [2], [2], [2, 2], stochastic_depth_prob=0.0, num_classes=3).to(dtype)


def batches(n=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(4, 3, 16, 16, generator=generator, dtype=torch.float64), torch.tensor([0, 1, 2, 0]))
        for _ in range(n)
    ]


def optimizer_of(scored, rate=0.05, kind=torch.optim.SGD, **options):
    return kind(training.parameter_groups(scored, sidt.score_rule(rate)), lr=0.01, **options)


def searched(penalty, n=3, rate=0.05):
    scored = surgery.insert_scores(network())
    search = sidt.DimensionSearch(penalty)
    training.fit(scored, batches(n), epochs=1, optimizer=optimizer_of(scored, rate), callbacks=[search], progress=False)
    return scored, search


def test_each_step_is_the_optimisers_and_then_the_proximal_one():
    scored, _ = searched(0.7)
    slow = surgery.insert_scores(network())
    alphas = [each for kinds in surgery.block_scores(slow).values() for each in kinds.values()]
    others = [p for p in slow.parameters() if all(p is not each for each in alphas)]
    for inputs, targets in batches():
        gradients = torch.autograd.grad(F.cross_entropy(slow(inputs), targets), [*alphas, *others])
        with torch.no_grad():
            for place, (p, g) in enumerate(zip([*alphas, *others], gradients, strict=True)):
                p -= (0.05 if place < len(alphas) else 0.01) * g
            for alpha in alphas:
                for index in range(alpha.numel()):  # Eq. (3), number by number
                    value = float(alpha.view(-1)[index])
                    sign = (value > 0) - (value < 0)
                    alpha.view(-1)[index] = sign * max(abs(value) - 0.05 * 0.7, 0.0)
    for name, parameter in scored.state_dict().items():
        torch.testing.assert_close(parameter, slow.state_dict()[name], rtol=1e-10, atol=1e-12)


def test_under_adam_the_penalty_is_rescaled_as_the_gradient_is():
    scored = surgery.insert_scores(network())
    optimizer = optimizer_of(scored, kind=torch.optim.AdamW)
    kept = {}

    class Before:  # the optimiser's step is known before the search takes its own
        def on_step(self, state):
            kept.update({k: v.detach().clone() for k, v in state.model.named_parameters() if "scores" in k})

    callbacks = [Before(), sidt.DimensionSearch(0.3)]
    training.fit(scored, batches(1), epochs=1, optimizer=optimizer, callbacks=callbacks, progress=False)
    for name, parameter in scored.named_parameters():
        if "scores" not in name:
            continue
        gradient = optimizer.state[parameter]["exp_avg"] / (1 - 0.9)  # of the only step
        size = 0.3 * 0.05 / (gradient.abs() + 1e-8)
        expected = kept[name].sign() * (kept[name].abs() - size).clamp(min=0)
        torch.testing.assert_close(parameter, expected, rtol=1e-8, atol=1e-10)


def test_without_a_penalty_it_is_plain_training():
    scored, _ = searched(0.0)
    plain = surgery.insert_scores(network())
    training.fit(plain, batches(), epochs=1, optimizer=optimizer_of(plain), progress=False)
    for name, parameter in plain.state_dict().items():
        assert torch.equal(scored.state_dict()[name], parameter), name


def test_a_higher_penalty_leaves_a_smaller_norm_and_in_the_end_zeros():
    norms = [searched(penalty)[1].norm() for penalty in (0.0, 1.0, 3.0)]
    assert norms[0] > norms[1] > norms[2]
    assert searched(1.0, n=24)[1].zeros() > 0


def test_a_penalty_of_a_kind_moves_that_kind_alone():
    scored = surgery.insert_scores(network(), ["qk", "hidden"])
    search = sidt.DimensionSearch({"qk": 5.0, "hidden": 0.0})
    optimizer = optimizer_of(scored, rate=0.01)
    training.fit(scored, batches(), epochs=1, optimizer=optimizer, callbacks=[search], progress=False)
    scores = surgery.block_scores(scored)["features.1.0"]
    assert float(scores["qk"].detach().max()) < 0.9 < float(scores["hidden"].detach().min())


def test_scores_have_a_rate_of_their_own_and_no_decay():
    scored = surgery.insert_scores(network())
    optimizer = optimizer_of(scored, kind=torch.optim.AdamW, weight_decay=0.1)
    alphas = {id(each) for kinds in surgery.block_scores(scored).values() for each in kinds.values()}
    (group,) = (g for g in optimizer.param_groups if g["lr"] == 0.05)
    assert {id(p) for p in group["params"]} == alphas
    assert group["weight_decay"] == 0
    assert any(g["weight_decay"] == 0.1 for g in optimizer.param_groups)


def refused(scored, search, optimizer, match):
    with pytest.raises(ValueError, match=match):
        training.fit(scored, batches(1), epochs=1, optimizer=optimizer, callbacks=[search], progress=False)


def test_what_would_not_search_is_refused():
    plain = network()
    refused(plain, sidt.DimensionSearch(0.1), torch.optim.SGD(plain.parameters(), lr=0.1), "no scores to search")
    scored = surgery.insert_scores(network())
    decays = torch.optim.AdamW(scored.parameters(), lr=0.1, weight_decay=0.1)
    refused(scored, sidt.DimensionSearch(0.1), decays, "weight decay of 0.1")
    some = torch.optim.SGD([p for n, p in scored.named_parameters() if "scores" not in n], lr=0.1)
    refused(scored, sidt.DimensionSearch(0.1), some, "in none of its groups")
    refused(scored, sidt.DimensionSearch({"qk": 0.1}), optimizer_of(scored), "none for the kind 'v'|for the kind")


@pytest.mark.parametrize("penalty", [-0.1, float("nan"), float("inf"), "0.1", None, {"qk": -1.0}])
def test_penalties_out_of_range_are_refused(penalty):
    with pytest.raises(ValueError, match="penalty"):
        sidt.DimensionSearch(penalty)


@pytest.mark.parametrize("rate", [0, -1.0, float("nan"), "fast"])
def test_rates_out_of_range_are_refused(rate):
    with pytest.raises(ValueError, match="learning_rate"):
        sidt.score_rule(rate)


def test_before_training_there_is_nothing_to_tell():
    for question in (sidt.DimensionSearch(0.1).norm, sidt.DimensionSearch(0.1).zeros):
        with pytest.raises(ValueError, match="not started"):
            question()


def test_weight_norms_are_those_of_rows_and_columns():
    model = network()
    norms = sidt.weight_norms(model)
    block = model.features[1][1]
    weight, project = block.attn.qkv.weight, block.attn.proj.weight
    for head in range(2):
        for place in range(4):
            row = 4 * head + place
            q, k, v = (weight[8 * part + row] for part in range(3))
            expected = q.square().sum().sqrt() * k.square().sum().sqrt()
            assert float(norms["features.1.1"]["qk"][head, place]) == pytest.approx(float(expected))
            expected = v.square().sum().sqrt() * project[:, row].square().sum().sqrt()
            assert float(norms["features.1.1"]["v"][head, place]) == pytest.approx(float(expected))
    first, second = block.mlp[0].weight, block.mlp[3].weight
    expected = first[7].square().sum().sqrt() * second[:, 7].square().sum().sqrt()
    assert float(norms["features.1.1"]["hidden"][7]) == pytest.approx(float(expected))
    expected = weight[:, 3].square().sum().sqrt()
    assert float(norms["features.1.1"]["attention_input"][3]) == pytest.approx(float(expected))


def test_copies_of_hidden_units_get_the_lowest_scores():
    """A unit split into two equal halves: each has half the gradient of the whole one, and closes first."""
    torch.manual_seed(3)
    block = surgery.insert_scores(network().features[1][:1], ["hidden"])
    first, second = block[0].mlp[0], block[0].mlp[3]
    with torch.no_grad():
        first.weight.normal_(0, 0.5)
        second.weight.normal_().div_(second.weight.norm(dim=0))  # all units speak equally loud
        first.weight[:4], first.bias[:4] = first.weight[4:8], first.bias[4:8]  # units 0 to 3 copy 4 to 7
        second.weight[:, 4:8] /= 2
        second.weight[:, :4] = second.weight[:, 4:8]
    inputs = torch.randn(32, 4, 4, 8, dtype=torch.float64)
    target = block(inputs).detach()  # what it says with all taps open
    optimizer = torch.optim.SGD(
        training.parameter_groups(block, lambda name, _: {} if "scores" in name else None), lr=0.5
    )
    search = sidt.DimensionSearch(0.02)
    training.fit(
        block,
        [(inputs, target)] * 60,
        epochs=1,
        loss=F.mse_loss,
        optimizer=optimizer,
        callbacks=[search],
        progress=False,
    )
    found = surgery.block_scores(block)["0"]["hidden"].detach()
    lowest = set(found.argsort()[:8].tolist())
    assert len(lowest & set(range(8))) >= 6  # by chance 2 of 32
