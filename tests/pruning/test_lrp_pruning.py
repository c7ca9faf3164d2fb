"""Relevance through whole networks: conservation, other libraries, invariants, state, errors, and the cut network."""

import copy
import doctest

import pytest
import torch
import torch.nn.functional as F
from compactvision import models, surgery
from compactvision.pruning import lrp_pruning as lrp
from compactvision.pruning.lrp_pruning import arguments, importance, propagation, rules
from torch import nn

from networks import with_statistics

TARGETS = torch.tensor([0, 2, 1])


def mlp(bias=True, seed=0, dtype=torch.float64):
    """Two hidden layers, with negative weights and biases."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [
            nn.Linear(4, 8, bias),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(8, 6, bias),
            nn.ReLU(),
            nn.Linear(6, 3, bias),
        ]
        return nn.Sequential(*layers).to(dtype).train()


def convolutional(seed=0, inplace=False):
    """Convolutions with BatchNorm, both kinds of pooling and a linear layer."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(2, 12, 3, stride=2, padding=1),
            nn.BatchNorm2d(12),
            nn.ReLU(inplace),
            nn.MaxPool2d(3, stride=1),
            nn.Conv2d(12, 8, 3, padding=2, dilation=2, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, 3),
        )
        return with_statistics(model).double()


def images(*shape, seed=0):
    """Non-negative pixels in float64."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("module", [importance, propagation, rules])
def test_examples_run(module):
    found = doctest.testmod(module)
    assert found.failed == 0
    assert found.attempted >= 5


class TestConservation:
    def test_each_layer_loses_what_arrives_at_its_sinks(self):
        model, x = mlp().eval(), images(3, 4)
        found = lrp.relevance(model, x, TARGETS)
        a = {"0": x, "3": model[:2](x), "5": model[:5](x)}
        below = {"0": found.inputs, "3": found.layers["0"], "5": found.layers["3"]}
        for name, inputs in a.items():
            sinks = F.linear(inputs, model.get_submodule(name).weight.clamp(min=0)) == 0
            expected = found.layers[name].masked_fill(sinks, 0).sum(1)
            torch.testing.assert_close(below[name].sum(1), expected)

    def test_nothing_is_lost_without_sinks(self):
        model, x = convolutional(), images(3, 2, 12, 12)
        for module in model:
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.uniform_(module.weight, 0.1, 1)
            if isinstance(module, nn.BatchNorm2d):
                nn.init.ones_(module.weight)
        found = lrp.relevance(model, x, TARGETS)
        for values in (found.inputs, *found.layers.values()):
            torch.testing.assert_close(values.flatten(1).sum(1), torch.ones(3, dtype=torch.float64))
            assert (values >= 0).all()

    @pytest.mark.parametrize("shortcut", ["A", "B"])
    def test_residual_network(self, shortcut):
        model = with_statistics(models.ResNet(1, 3, width=16, shortcut=shortcut)).double()
        for module in model.modules():  # a 1 x 1 convolution has few inputs: with weights below zero it can be a sink
            if isinstance(module, nn.Sequential) and isinstance(module[0], nn.Conv2d):
                module[0].weight.data.abs_()
                module[1].weight.data.abs_()
        found = lrp.relevance(model, images(3, 3, 16, 16), TARGETS)
        torch.testing.assert_close(found.inputs.flatten(1).sum(1), torch.ones(3, dtype=torch.float64))

    def test_residual_sum_by_hand(self):
        class Sum(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(2, 2, bias=False)

            def forward(self, x):
                return x + self.fc(x)

        model = Sum()
        model.fc.weight.data = torch.tensor([[3.0, 1.0], [0.0, 1.0]])
        found = lrp.relevance(model, torch.tensor([[1.0, 2.0]]), torch.tensor([0]))
        # 1 + (3 + 2) = 6: a sixth goes straight to the first input, 5/6 to the layer, shared out as 3 to 2
        torch.testing.assert_close(found.layers["fc"], torch.tensor([[5 / 6, 0]]))
        torch.testing.assert_close(found.inputs, torch.tensor([[1 / 6 + 3 / 6, 2 / 6]]))

    def test_windows_that_overlap_and_ties(self):
        for pool in (nn.MaxPool2d(3, stride=1), nn.AvgPool2d(3, stride=2), nn.AdaptiveAvgPool2d(2)):
            model = nn.Sequential(pool, nn.Flatten(), nn.LazyLinear(3, bias=False)).double()
            x = torch.ones(3, 1, 7, 7, dtype=torch.float64)
            model(x)
            nn.init.uniform_(model[2].weight, 0.1, 1)
            found = lrp.relevance(model, x, TARGETS)
            torch.testing.assert_close(found.inputs.flatten(1).sum(1), torch.ones(3, dtype=torch.float64))


class TestAgainstOthers:
    @pytest.mark.parametrize("make", [mlp, convolutional])
    def test_captum(self, make):
        from captum.attr import LRP
        from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule

        model = fused(make().eval())
        x = images(3, 4) if make is mlp else images(3, 2, 12, 12)
        for ours, theirs in (
            (rules.z_plus, lambda: Alpha1_Beta0_Rule(set_bias_to_zero=True)),
            (rules.epsilon(1e-9), lambda: EpsilonRule(1e-9)),
        ):
            others = copy.deepcopy(model)
            for index, module in enumerate(others):
                if isinstance(module, nn.Flatten):
                    others[index] = nn.Dropout()  # flattening by hand below; captum knows no layer for it
                if isinstance(module, (nn.Conv2d, nn.Linear)):
                    module.rule = theirs()
            found = lrp.relevance(model, x, TARGETS, initial_relevance="logit", default=ours).inputs
            assert (found.flatten(1).abs().amax(1) > 1e-3).all()
            if make is mlp:
                expected = LRP(others).attribute(x, target=TARGETS)
                torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
                continue
            expected = LRP(Flattened(others).eval()).attribute(x, target=TARGETS)
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)

    def test_zennit_on_a_residual_network(self):
        import torchvision
        from zennit.attribution import Gradient
        from zennit.composites import LayerMapComposite
        from zennit.layer import Sum
        from zennit.rules import Norm, ZPlus
        from zennit.torchvision import ResNetCanonizer
        from zennit.types import AvgPool, Convolution, Linear

        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = with_statistics(torchvision.models.resnet18(num_classes=3)).double()
        x = images(3, 3, 32, 32)
        layers = [
            (Sum, Norm(stabilizer=1e-12)),
            (AvgPool, Norm(stabilizer=1e-12)),
            (Convolution, ZPlus(stabilizer=1e-12, zero_params="bias")),
            (Linear, ZPlus(stabilizer=1e-12, zero_params="bias")),
        ]
        composite = LayerMapComposite(layers, canonizers=[ResNetCanonizer()])
        with Gradient(copy.deepcopy(model), composite) as attributor:
            _, expected = attributor(x, torch.eye(3, dtype=torch.float64)[TARGETS])
        found = lrp.relevance(model, x, TARGETS).inputs
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))

    def test_without_biases_epsilon_is_gradient_times_input(self):
        model, x = mlp(bias=False).eval(), images(3, 4).requires_grad_()
        score = model(x).gather(1, TARGETS[:, None]).sum()
        expected = x.detach() * torch.autograd.grad(score, x)[0]
        found = lrp.relevance(model, x, TARGETS, initial_relevance="logit", default=rules.epsilon(0)).inputs
        torch.testing.assert_close(found, expected)

    def test_batch_norm_is_folded(self):
        model, x = convolutional(), images(3, 2, 12, 12)
        for default in (rules.z_plus, rules.epsilon()):
            one, other = (lrp.relevance(network, x, TARGETS, default=default) for network in (model, fused(model)))
            torch.testing.assert_close(one.inputs, other.inputs)
            for name in ("0", "4", "9"):
                torch.testing.assert_close(one.layers[name], other.layers[name])


class Flattened(nn.Module):
    """A sequential model that flattens by a function in front of its last layer."""

    def __init__(self, layers):
        super().__init__()
        self.features, self.last = layers[:-1], layers[-1]

    def forward(self, x):
        return self.last(torch.flatten(self.features(x), 1))


def fused(model):
    """Return a copy with each BatchNorm folded by PyTorch's own function."""
    model = copy.deepcopy(model)
    for index, module in enumerate(model):
        if isinstance(module, nn.BatchNorm2d):
            model[index - 1] = nn.utils.fuse_conv_bn_eval(model[index - 1], module)
            model[index] = nn.Dropout().eval()
    return model


class TestInvariants:
    def test_scale_of_units(self):
        model, x = mlp().eval(), images(3, 4)
        scaled, factors = copy.deepcopy(model), torch.logspace(-2, 2, 8, dtype=torch.float64)
        with torch.no_grad():
            scaled[0].weight.mul_(factors[:, None])
            scaled[0].bias.mul_(factors)
            scaled[3].weight.div_(factors)
        torch.testing.assert_close(scaled(x), model(x))
        one, other = (lrp.relevance(network, x, TARGETS) for network in (model, scaled))
        torch.testing.assert_close(one.layers, other.layers)
        l1 = [surgery.criteria.l1()(network)["0"].argsort() for network in (model, scaled)]
        assert not torch.equal(*l1)

    def test_order_of_units(self):
        model, x = mlp().eval(), images(3, 4)
        mixed, order = copy.deepcopy(model), torch.tensor([5, 2, 7, 0, 1, 3, 6, 4])
        with torch.no_grad():
            mixed[0].weight.copy_(model[0].weight[order])
            mixed[0].bias.copy_(model[0].bias[order])
            mixed[3].weight.copy_(model[3].weight[:, order])
        one, other = (lrp.relevance(network, x, TARGETS) for network in (model, mixed))
        torch.testing.assert_close(one.layers["0"][:, order], other.layers["0"])
        torch.testing.assert_close(one.inputs, other.inputs)

    def test_scores_add_up_over_images(self):
        model, x = convolutional(), images(3, 2, 12, 12)
        together = lrp.lrp([(x, TARGETS)])(model)
        one_by_one = lrp.lrp([(x[n : n + 1], TARGETS[n : n + 1]) for n in range(3)])(model)
        torch.testing.assert_close(together, one_by_one)

    def test_relevance_scales_with_the_logit(self):
        model, x = mlp().eval(), images(3, 4)
        logits = model(x).detach().gather(1, TARGETS[:, None])
        one, logit = (lrp.relevance(model, x, TARGETS, initial_relevance=how).inputs for how in arguments.INITIAL)
        torch.testing.assert_close(one * logits, logit)

    def test_signed_and_absolute_differ_only_with_signs(self):
        model, batch = mlp().eval(), [(images(3, 4), TARGETS)]
        torch.testing.assert_close(lrp.lrp(batch)(model), lrp.lrp(batch, signed=True)(model))
        eps = rules.epsilon()
        absolute, signed = (lrp.lrp(batch, signed=s, default=eps)(model)["0"] for s in (False, True))
        assert (absolute >= signed.abs() - 1e-12).all()
        assert (absolute > signed.abs() + 1e-6).any()

    def test_dead_units_and_empty_images_give_numbers(self):
        model = mlp(dtype=torch.float32).eval()
        with torch.no_grad():
            model[0].weight[0] = -1
            model[3].weight[:, 2] = 0
        for x in (torch.zeros(3, 4), images(3, 4).float()):
            found = lrp.relevance(model, x, TARGETS)
            assert all(values.isfinite().all() for values in (found.inputs, *found.layers.values()))

    def test_rules_of_single_layers(self):
        model, x = convolutional(), images(3, 2, 12, 12)
        plain = lrp.relevance(model, x, TARGETS)
        chosen = {"0": rules.box(0.0, 1.0), "9": rules.epsilon()}
        found = lrp.relevance(model, x, TARGETS, rules=chosen)
        torch.testing.assert_close(found.layers["9"], plain.layers["9"])
        assert not torch.allclose(found.layers["4"], plain.layers["4"])
        first = lrp.relevance(model, x, TARGETS, rules={"0": rules.box(0.0, 1.0)})
        torch.testing.assert_close(first.layers, plain.layers)  # no filter lies below the first layer


class TestState:
    def test_model_is_left_as_it_was(self):
        model, x = mlp(), images(3, 4)
        before = copy.deepcopy(model.state_dict())
        with torch.no_grad():
            lrp.lrp([(x, TARGETS)])(model)
        assert model.training
        assert not x.requires_grad
        assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
        assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
        torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
        with pytest.raises(ValueError, match="targets must be"):
            lrp.relevance(model, x, TARGETS + 5)
        assert model.training

    def test_in_place_operations(self):
        plain, inplace = convolutional(), convolutional(inplace=True)
        x = images(3, 2, 12, 12)
        torch.testing.assert_close(lrp.relevance(plain, x, TARGETS).layers, lrp.relevance(inplace, x, TARGETS).layers)

    def test_current_weights_are_scored(self):
        model, batch = mlp(), [(images(3, 4), TARGETS)]
        importance = lrp.lrp(batch)
        before = importance(model)["0"]
        best = before.argmax()
        with torch.no_grad():
            model[3].weight[:, best] = -1
        assert before[best] > 0
        assert importance(model)["0"][best] == 0

    @pytest.mark.parametrize(
        "build",
        [
            lambda: models.ResNet(1, 10, width=8),
            lambda: models.ResNet(1, 10, width=8, shortcut="B"),
            lambda: models.densenet40(),
            lambda: models.PreResNet(1, 10, width=8),
        ],
    )
    def test_networks_are_scored_and_cut(self, build):
        model = with_statistics(build()).double()  # logits are in the hundreds: rounding would hide a difference
        x, y = images(2, 3, 32, 32), torch.tensor([1, 2])
        graph = surgery.channel_graph(model, (3, 32, 32))
        plan = surgery.make_plan(graph, lrp.lrp([(x, y)]), keep_macs=0.6, global_pruning=True)
        assert plan.macs <= 0.6 * graph.macs
        with torch.no_grad(), surgery.mask(model, plan):
            masked = model(x)
        with torch.no_grad():
            torch.testing.assert_close(surgery.prune(model, plan)(x), masked, rtol=1e-5, atol=1e-5)


class Twice(nn.Module):
    """Uses one layer twice."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        return self.fc(self.fc(x).relu())


class Shifted(nn.Linear):
    """Adds a constant."""

    def forward(self, x):
        return super().forward(x) + 1


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (nn.Sequential(nn.Linear(3, 3), nn.Sigmoid()), {}, "no rule says how relevance passes 'sigmoid'"),
        (nn.Sequential(nn.Linear(3, 3), nn.Softmax(1)), {}, "no rule says how relevance passes 'softmax'"),
        (nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)), {}, "no rule says how relevance passes 'layer_norm'"),
        (Twice(), {}, "layer 'fc' runs twice"),
        (Shifted(3, 3), {}, "a sum with a constant"),
        (
            nn.Linear(3, 3),
            {"initial_relevance": "softmax"},
            "initial_relevance must be one of one-hot, logit, got 'softmax'",
        ),
        (nn.Linear(3, 3), {"rules": {"fc": rules.z_plus}}, "rules: the model has no layer 'fc'"),
        (nn.Linear(3, 3), {"rules": {"": "z_plus"}}, r"rules\[''\] must be a function of . arguments?, got 'z_plus'"),
        (nn.Linear(3, 3), {"rules": [rules.z_plus]}, "rules must be a mapping"),
        (nn.Linear(3, 3), {"default": nn.ReLU()}, r"default must be a function of . arguments?, got ReLU\(\)"),
        (
            nn.Linear(3, 3),
            {"default": lambda *_: torch.ones(2, 3)},
            r"rule of layer '' must give a tensor \(3, 3\) on cpu",
        ),
        (nn.Linear(3, 3), {"default": lambda *_: 0.5}, "must give a tensor .* got 0.5"),
        (nn.Linear(3, 2), {}, "targets must be 3 int64 classes below 2"),
        (nn.Sequential(nn.Linear(3, 3), nn.Unflatten(1, (3, 1))), {}, "model must return scores"),
    ],
)
def test_refuses(model, options, message):
    with pytest.raises(ValueError, match=message):
        lrp.relevance(model, torch.rand(3, 3), TARGETS, **options)


class Constant(nn.Module):
    """Looks at no input."""

    def forward(self, x):
        return torch.ones(len(x), 3)


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (nn.Linear(3, 3), [1.0], "inputs must be a batch of floating-point numbers, got list"),
        (
            nn.Linear(3, 3),
            torch.ones(3, 3, dtype=torch.long),
            "inputs must be a batch of floating-point numbers, got torch.int64",
        ),
        (nn.Linear(3, 3), torch.ones(0, 3), "inputs must be a batch"),
        (nn.Linear(3, 3), torch.full((3, 3), torch.nan), "inputs must be finite, got nan"),
        (Constant(), torch.ones(3, 3), "its outputs do not depend on its inputs"),
    ],
)
def test_refuses_inputs(model, inputs, message):
    with pytest.raises(ValueError, match=message):
        lrp.relevance(model, inputs, TARGETS)


def test_works_in_inference_mode():
    model, x = mlp().eval(), images(3, 4)
    expected = lrp.lrp([(x, TARGETS)])(model)
    with torch.inference_mode():
        torch.testing.assert_close(lrp.lrp([(x.clone(), TARGETS)])(model), expected)


def test_refuses_no_batch():
    with pytest.raises(ValueError, match="batches must hold at least one batch"):
        lrp.lrp([])(mlp())


def test_refuses_a_model_without_units():
    with pytest.raises(ValueError, match="model has no convolution and no linear layer"):
        lrp.lrp([(torch.rand(3, 3), TARGETS)])(nn.Sequential(nn.ReLU()))


@pytest.mark.parametrize(
    ("batches", "options", "message"),
    [
        (None, {}, "batches must be pairs of inputs and targets, got None"),
        ("ab", {}, "batches must be pairs"),
        ([torch.ones(2, 4)], {}, "batches must be pairs"),
        ([(torch.ones(3, 4), [0, 1, 2])], {}, r"batches \(targets\) must be a tensor"),
        ([(torch.ones(3, 4), TARGETS.to("meta"))], {}, r"batches \(targets\) must be a dense tensor"),
        ([(torch.eye(3, 4).to_sparse(), TARGETS)], {}, r"batches \(inputs\) must be a dense tensor"),
        ([(torch.ones(3, 4), TARGETS)], {"signed": "no"}, "signed must be True or False"),
        ([(torch.ones(3, 4), TARGETS)], {"default": None}, "default must be a function of . arguments?, got None"),
    ],
)
def test_an_importance_refuses(batches, options, message):
    with pytest.raises(ValueError, match=message):
        lrp.lrp(batches, **options)(mlp())


def test_targets_of_another_device_are_named():
    with pytest.raises(ValueError, match=r"targets must be 3 int64 .* got them on meta for outputs on cpu"):
        lrp.relevance(mlp(), images(3, 4), TARGETS.to("meta"))
