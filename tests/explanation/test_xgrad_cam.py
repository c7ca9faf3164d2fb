"""XGrad-CAM: hand-computed toys, a slow oracle, the exact facts behind the axioms, and two libraries."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from compactvision import models
from compactvision.explanation import evidence
from compactvision.explanation.xgrad_cam import activation_maps, axioms, baselines
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from oracles import xgrad_cam as oracle


def toy_1(bias=0.5):
    """Spec's four-number example: two channels of 2 x 2, a linear score."""
    model = nn.Sequential(OrderedDict(relu=nn.ReLU(), flat=nn.Flatten(), fc=nn.Linear(8, 1)))
    weight = torch.tensor([[1.0, 0, 0, 1, -1, 1, 1, 1]])
    model.fc.weight.data, model.fc.bias.data = weight, torch.tensor([bias])
    return model, torch.tensor([[[[1.0, 2], [3, 4]], [[4, 0], [0, 0]]]])


def spatial_net(norm=True, seed=0, bias=True):
    """Convolutions with a flattened head, random weights, float64; `features.relu2` is 6 x 4 x 4."""
    torch.manual_seed(seed)

    def block(channels, width):
        return [nn.Conv2d(channels, width, 3, padding=1, bias=bias)] + ([nn.BatchNorm2d(width)] if norm else [])

    features = OrderedDict()
    for i, (channels, width) in enumerate([(3, 5), (5, 6), (6, 7)], start=1):
        for j, layer in enumerate(block(channels, width)):
            features[f"{'conv' if j == 0 else 'norm'}{i}"] = layer
        features[f"relu{i}"] = nn.ReLU()
        if i < 3:
            features[f"pool{i}"] = nn.MaxPool2d(2) if i == 1 else nn.AvgPool2d(2)
    head = nn.Sequential(
        nn.Flatten(), nn.Linear(28, 9, bias=bias), nn.ReLU(), nn.Dropout(0.5), nn.Linear(9, 4, bias=bias)
    )
    model = nn.Sequential(OrderedDict(features=nn.Sequential(features), head=head)).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(0, 0.5)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            if bias:
                module.bias.data.normal_(0, 0.3)
    return model.eval(), torch.randn(2, 3, 8, 8, dtype=torch.float64)


def seen(model, layer, inputs, classes=None):
    found = evidence.gather(model, layer, inputs, classes)
    return found, activation_maps.xgrad_cam_weights(found.activation, found.gradient)


class TestToys:
    def test_first_toy(self):
        model, inputs = toy_1()
        found, weights = seen(model, "relu", inputs)
        drops = axioms.channel_drops(model, "relu", inputs)
        grad = activation_maps.grad_cam_weights(found.gradient)
        assert found.score.tolist() == [1.5]
        assert drops.tolist() == [[5, -4]]
        assert weights.tolist() == [[0.5, -1]]
        assert grad.tolist() == [[0.5, 0.5]]
        assert activation_maps.weighted_map(found.activation, weights).tolist() == [[[-3.5, 1], [1.5, 2]]]
        assert activation_maps.weighted_map(found.activation, grad).tolist() == [[[2.5, 1], [1.5, 2]]]
        assert baselines.hires_cam_map(found.activation, found.gradient).tolist() == [[[-3, 0], [0, 4]]]
        mass, grad_mass = (axioms.masses(found.activation, w) for w in (weights, grad))
        assert mass.sum().item() == 1
        assert grad_mass.sum().item() == 7
        assert axioms.sensitivity_residual(drops, mass).item() == 0
        assert axioms.sensitivity_residual(drops, grad_mass).item() == pytest.approx(6 / 9)
        assert axioms.conservation_residual(found.score, mass).item() == pytest.approx(1 / 3)
        assert axioms.conservation_residual(found.score, grad_mass).item() == pytest.approx(11 / 3)
        plus = baselines.grad_cam_plus_plus_weights(found.activation, found.gradient)
        assert plus[0].tolist() == pytest.approx([1 / 6, 1 / 2], abs=1e-6)
        original = baselines.ablation_cam_weights(drops, found.score)
        assert original[0].tolist() == pytest.approx([10 / 3, -8 / 3])
        assert baselines.ablation_cam_sum_weights(drops, found.activation).tolist() == [[0.5, -1]]
        assert axioms.bias_term(model, "relu", inputs).tolist() == [0.5]

    def test_second_toy_has_a_bent_score(self):
        model = nn.Sequential(OrderedDict(f=nn.ReLU(), flat=nn.Flatten(), fc=nn.Linear(2, 1), top=nn.ReLU()))
        model.fc.weight.data, model.fc.bias.data = torch.ones(1, 2), torch.tensor([-2.5])
        inputs = torch.tensor([2.0, 3]).view(1, 2, 1, 1)
        found, weights = seen(model, "f", inputs)
        drops, mass = axioms.channel_drops(model, "f", inputs), axioms.masses(found.activation, weights)
        assert found.score.tolist() == [2.5]
        assert drops.tolist() == [[2, 2.5]]
        assert mass.tolist() == [[2, 3]]
        assert axioms.sensitivity_residual(drops, mass).item() == pytest.approx(0.5 / 4.5)
        assert axioms.bias_term(model, "f", inputs).tolist() == [-2.5]
        assert axioms.conservation_residual(found.score, mass).item() == 1


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("layer", ["features.relu1", "features.pool2", "features.relu3"])
def test_equals_the_slow_oracle(norm, layer):
    model, inputs = spatial_net(norm, seed=3)
    classes = torch.tensor([2, 0])
    found, weights = seen(model, layer, inputs, classes)
    drops = axioms.channel_drops(model, layer, inputs, classes, batch_size=5)
    epsilon = axioms.bias_term(model, layer, inputs, classes)
    raw = activation_maps.weighted_map(found.activation, weights)
    plus = baselines.grad_cam_plus_plus_weights(found.activation, found.gradient)
    for b, number in enumerate(classes.tolist()):
        activation = oracle.activation_of(model, layer, inputs[b])
        gradient = oracle.gradient_by_differences(model, layer, inputs[b], number)
        np.testing.assert_allclose(found.activation[b], activation, rtol=0, atol=1e-12)
        smooth = activation > 0 if layer.endswith("relu1") else np.full(activation.shape, True)  # zeros tie in a max
        np.testing.assert_allclose(found.gradient[b][smooth], gradient[smooth], rtol=0, atol=1e-7)
        np.testing.assert_allclose(drops[b], oracle.drops(model, layer, inputs[b], number), rtol=0, atol=1e-12)
        slow = oracle.xgrad_weights(activation, found.gradient[b].numpy())
        np.testing.assert_allclose(weights[b], slow, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(raw[b], oracle.raw_map(activation, slow), rtol=1e-10, atol=1e-13)
        grad = oracle.grad_cam_weights(activation, found.gradient[b].numpy())
        np.testing.assert_allclose(activation_maps.grad_cam_weights(found.gradient)[b], grad, rtol=1e-10, atol=1e-13)
        slow_plus = oracle.grad_cam_plus_plus_weights(activation, found.gradient[b].numpy())
        np.testing.assert_allclose(plus[b], slow_plus, rtol=1e-10, atol=1e-13)
        assert epsilon[b].item() == pytest.approx(oracle.bias_term(model, layer, inputs[b], number), rel=1e-10)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("layer", ["features.relu1", "features.pool1", "features.relu2", "features.relu3"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_identity_in_two_independent_ways(norm, layer, dtype, tolerance):
    model, inputs = spatial_net(norm, seed=5)
    model, inputs = model.to(dtype), inputs.to(dtype)
    largest = 0.0
    for number in range(4):
        found = evidence.gather(model, layer, inputs, number)
        from_activations = found.score - (found.gradient * found.activation).sum((1, 2, 3))
        from_biases = axioms.bias_term(model, layer, inputs, number)
        torch.testing.assert_close(from_biases, from_activations, rtol=tolerance, atol=tolerance)
        largest = max(largest, from_biases.abs().max().item())
    assert largest > 0.2  # there is something to explain


def test_identity_on_real_networks():
    torch.manual_seed(1)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    resnet = models.resnet20().double()
    vgg = models.vgg11_bn(hidden=16).double()
    for model, layer in [(resnet, "layer1"), (resnet, "layer3"), (vgg, "features.10"), (vgg, "features.27")]:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.bias.data.normal_(0, 0.3)
        found = evidence.gather(model, layer, images)
        rest = found.score - (found.gradient * found.activation).sum((1, 2, 3))
        torch.testing.assert_close(axioms.bias_term(model, layer, images), rest, rtol=1e-10, atol=1e-10)


def test_identity_without_affine_batchnorm_and_with_a_linear_on_tokens():
    torch.manual_seed(2)

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu, self.norm, self.fc = nn.ReLU(), nn.BatchNorm2d(4, affine=False), nn.Linear(4, 3)

        def forward(self, x):
            x = self.norm(self.relu(x))  # (B, 4, H, W)
            return self.fc(x.flatten(2).transpose(1, 2)).mean(1)  # the linear layer sees (B, H W, 4)

    model, inputs = Tokens().double(), torch.randn(2, 4, 3, 3, dtype=torch.float64)
    model.norm.running_mean.normal_()
    model.norm.running_var.uniform_(0.5, 2)
    found = evidence.gather(model, "relu", inputs, 1)
    rest = found.score - (found.gradient * found.activation).sum((1, 2, 3))
    torch.testing.assert_close(axioms.bias_term(model, "relu", inputs, 1), rest)


def test_identity_fails_behind_gelu_and_says_so():
    torch.manual_seed(4)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(64, 3))
    inputs = 3 * torch.randn(2, 3, 8, 8)
    with pytest.raises(ValueError, match="'3', a GELU"):
        axioms.bias_term(model, "1", inputs)
    found = evidence.gather(model, "1", inputs)
    gap = (
        found.score
        - (found.gradient * found.activation).sum((1, 2, 3))
        - axioms.bias_term(model, "1", inputs, strict=False)
    )
    assert gap.abs().min() > 1e-3


class TestFacts:
    def test_global_average_pooling_makes_the_methods_equal(self):
        model = models.small_cnn(5, norm=True).double().eval()
        model.classifier.bias.data.normal_()
        inputs = torch.randn(4, 3, 32, 32, dtype=torch.float64)
        last = f"features.{len(model.features) - 1}"
        found, weights = seen(model, last, inputs)
        drops = axioms.channel_drops(model, last, inputs)
        positions = found.activation[0, 0].numel()
        cam = model.classifier.weight.detach()[found.targets] / positions
        alive = found.activation.sum((2, 3)) > 0
        assert alive.float().mean() > 0.5
        for other in (
            activation_maps.grad_cam_weights(found.gradient),
            baselines.ablation_cam_sum_weights(drops, found.activation),
            cam,
        ):
            torch.testing.assert_close(weights[alive], other[alive], rtol=0, atol=1e-6)
        mass = axioms.masses(found.activation, weights)
        assert axioms.sensitivity_residual(drops, mass).max() < 1e-10
        gap = found.score - activation_maps.weighted_map(found.activation, weights).sum((1, 2))
        torch.testing.assert_close(gap, model.classifier.bias.detach()[found.targets])

    @pytest.mark.parametrize("layer", ["features.relu1", "features.relu2", "features.relu3"])
    def test_without_biases_it_is_conservative(self, layer):
        model, inputs = spatial_net(norm=False, bias=False)
        found, weights = seen(model, layer, inputs)
        total = activation_maps.weighted_map(found.activation, weights).sum((1, 2))
        torch.testing.assert_close(total, found.score)

    def test_conservation_is_the_same_before_and_behind_a_max_pooling(self):
        model, inputs = spatial_net(seed=7)
        before, w_before = seen(model, "features.relu1", inputs)
        behind, w_behind = seen(model, "features.pool1", inputs)
        masses = [axioms.masses(e.activation, w) for e, w in ((before, w_before), (behind, w_behind))]
        torch.testing.assert_close(masses[0], masses[1])  # channel by channel
        assert (w_before / w_behind).nan_to_num(1).log().abs().max() > 0.1

    def test_a_linear_head_is_sensitive_for_xgrad_cam_only(self):
        model = models.small_cnn(5, head="fc").double().eval()
        inputs = torch.randn(3, 3, 32, 32, dtype=torch.float64)
        last = f"features.{len(model.features) - 1}"
        found, weights = seen(model, last, inputs)
        drops = axioms.channel_drops(model, last, inputs)
        residual = axioms.sensitivity_residual(drops, axioms.masses(found.activation, weights))
        grad = axioms.masses(found.activation, activation_maps.grad_cam_weights(found.gradient))
        assert residual.max() < 1e-10
        assert axioms.sensitivity_residual(drops, grad).min() > 0.1

    def test_constant_and_single_position_channels(self):
        gradient = torch.randn(1, 2, 3, 3, dtype=torch.float64)
        activation = torch.zeros_like(gradient)
        activation[0, 0] = 2.5
        activation[0, 1, 1, 2] = 4
        weights = activation_maps.xgrad_cam_weights(activation, gradient)
        assert weights[0, 0].item() == pytest.approx(gradient[0, 0].mean().item())
        assert weights[0, 1].item() == pytest.approx(gradient[0, 1, 1, 2].item())

    def test_scaling_a_channel_away_changes_no_map(self):
        model, inputs = spatial_net(norm=False, seed=9)
        before = activation_maps.XGradCAM(model, "features.relu2").raw(inputs, 1)
        first, second = model.features.conv2, model.features.conv3
        first.weight.data[3] *= 3.7
        first.bias.data[3] *= 3.7
        second.weight.data[:, 3] /= 3.7
        torch.testing.assert_close(activation_maps.XGradCAM(model, "features.relu2").raw(inputs, 1), before)

    def test_other_logits_do_not_matter_and_maps_are_linear_in_the_logit(self):
        model, inputs = spatial_net(seed=11)
        cam = activation_maps.XGradCAM(model, "features.relu2")
        maps = [cam.raw(inputs, number) for number in (0, 1)]
        model.head[-1].bias.data[2] += 100
        assert torch.equal(cam.raw(inputs, 0), maps[0])
        last = model.head[-1]
        last.weight.data[0] -= last.weight.data[1].clone()
        torch.testing.assert_close(cam.raw(inputs, 0), maps[0] - maps[1])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), channels=st.integers(1, 5), size=st.integers(1, 5))
def test_channel_masses_are_those_of_gradient_times_activation(seed, channels, size):
    generator = torch.Generator().manual_seed(seed)
    activation = torch.randn(2, channels, size, size, generator=generator).clamp(min=0)
    gradient = torch.randn(2, channels, size, size, generator=generator)
    mass = axioms.masses(activation, activation_maps.xgrad_cam_weights(activation, gradient))
    torch.testing.assert_close(mass, (gradient * activation).sum((2, 3)), rtol=1e-5, atol=1e-5)
    hires = baselines.hires_cam_map(activation, gradient).sum((1, 2))
    torch.testing.assert_close(mass.sum(1), hires, rtol=1e-5, atol=1e-4)


class TestLibraries:
    @pytest.fixture
    def case(self):
        torch.manual_seed(0)
        model = models.small_cnn(10, widths=(8, 12), head="fc").eval()
        return model, "features.6", torch.randn(2, 3, 32, 32), torch.tensor([3, 7])

    def test_pytorch_grad_cam(self, case, monkeypatch):
        import pytorch_grad_cam as library
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        # its Score-CAM aligns the corners of the masks, ours the pixels' edges as everywhere else
        monkeypatch.setattr(nn, "UpsamplingBilinear2d", lambda size: nn.Upsample(size, mode="bilinear"))
        model, layer, inputs, classes = case
        found, weights = seen(model, layer, inputs, classes)
        drops = axioms.channel_drops(model, layer, inputs, classes)
        masked = baselines.masked_scores(model, inputs, found.activation, classes)
        ours = {
            library.XGradCAM: weights,
            library.GradCAM: activation_maps.grad_cam_weights(found.gradient),
            library.GradCAMPlusPlus: baselines.grad_cam_plus_plus_weights(found.activation, found.gradient),
            library.AblationCAM: baselines.ablation_cam_weights(drops, found.score),
            library.ScoreCAM: baselines.score_cam_weights(masked),
        }
        targets = [ClassifierOutputTarget(c) for c in classes.tolist()]
        module = model.get_submodule(layer)
        for kind, own in ours.items():
            cam = kind(model=model, target_layers=[module])
            kept = {}
            inner = cam.get_cam_weights

            def spy(*args, inner=inner, kept=kept, **kwargs):
                kept["weights"] = np.asarray(inner(*args, **kwargs))
                return kept["weights"]

            cam.get_cam_weights = spy
            cam(input_tensor=inputs, targets=targets)
            scale = own.abs().max().item()
            np.testing.assert_allclose(
                kept["weights"], own.numpy(), rtol=0, atol=1e-5 * max(1, scale), err_msg=str(kind)
            )

    def test_captum(self, case):
        from captum.attr import LayerGradCam

        model, layer, inputs, classes = case
        found = evidence.gather(model, layer, inputs, classes)
        ours = activation_maps.weighted_map(found.activation, activation_maps.grad_cam_weights(found.gradient))
        theirs = LayerGradCam(model, model.get_submodule(layer)).attribute(inputs, classes, relu_attributions=False)
        torch.testing.assert_close(ours, theirs[:, 0].detach(), rtol=0, atol=1e-6)


def test_a_second_class_moves_the_map_to_its_object():
    """Two hand-made channels see red and blue; each class is one of them."""
    from compactvision.data.scenes import COLOURS, scenes

    drawn = scenes(1500, difficulty="easy", objects=(2, 2))
    red, blue = COLOURS.index("red"), COLOURS.index("blue")
    drawn = drawn.subset((drawn.labels("colour")[:, [red, blue]].sum(1) == 2) & (drawn.fill == 0).all(1))
    assert len(drawn) >= 3
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 32 * 32, 2))
    model[0].weight.data = torch.tensor([[1.0, -1, -1], [-1, -1, 1]]).view(2, 3, 1, 1)
    model[0].bias.data.fill_(-0.1)
    model[3].weight.data = torch.eye(2).repeat_interleave(32 * 32, 1)
    cam = activation_maps.XGradCAM(model, "1")
    images = drawn.images.float() / 255
    maps = [cam(images, number) for number in (0, 1)]
    masks = drawn.class_masks("colour")
    for number, (own, other) in enumerate([(red, blue), (blue, red)]):
        inside = (maps[number] * masks[:, own]).sum((1, 2))
        outside = (maps[number] * masks[:, other]).sum((1, 2))
        assert (inside > 5 * outside).float().mean() > 0.9
    from scipy.stats import spearmanr

    assert np.mean([spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(*maps)]) < 0.5


def test_random_head_gives_another_map():
    model, inputs = spatial_net(seed=13)
    cam = activation_maps.XGradCAM(model, "features.relu2")
    before = cam.raw(inputs, 0)
    model.head[1].reset_parameters()
    model.head[-1].reset_parameters()
    after = cam.raw(inputs, 0)
    correlation = [np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in zip(before, after)]
    assert max(correlation) < 0.95
