"""XGrad-CAM where things are odd: empty channels, in-place layers, callers' modes, half precision, wrong arguments."""

import copy
import warnings
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
import torchvision
from compactvision import models
from compactvision.explanation import evidence
from compactvision.explanation.xgrad_cam import activation_maps, axioms, baselines
from torch import nn
from torch.nn.utils import prune


def small(inplace=False, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 6, 3, padding=1),
            norm=nn.BatchNorm2d(6),
            relu=nn.ReLU(inplace=inplace),
            drop=nn.Dropout(0.5),
            conv2=nn.Conv2d(6, 5, 3, padding=1),
            relu2=nn.ReLU(inplace=inplace),
            flat=nn.Flatten(),
            fc=nn.Linear(5 * 36, 4),
        )
    )


@pytest.fixture
def images():
    return torch.randn(3, 3, 6, 6, generator=torch.Generator().manual_seed(1))


class TestMaps:
    def test_pictures_have_the_size_of_the_image_and_span_zero_to_one(self, images):
        maps = activation_maps.XGradCAM(models.small_cnn(4), "features.6")(torch.randn(5, 3, 32, 32), 1)
        assert maps.shape == (5, 32, 32)
        assert torch.equal(maps.amin((1, 2)), torch.zeros(5))
        assert torch.equal(maps.amax((1, 2)), torch.ones(5))

    def test_a_map_without_positive_values_is_zero(self):
        assert torch.equal(evidence.picture(-torch.rand(2, 4, 4), (8, 8)), torch.zeros(2, 8, 8))
        model = nn.Sequential(OrderedDict(relu=nn.ReLU(), flat=nn.Flatten(), fc=nn.Linear(8, 1)))
        model.fc.weight.data.fill_(-1)
        assert torch.equal(activation_maps.XGradCAM(model, "relu")(torch.rand(1, 2, 2, 2)), torch.zeros(1, 2, 2))

    def test_picture_is_relu_then_resize_then_scale(self):
        raw = torch.tensor([[[-1.0, 2], [0, 4]]])
        expected = torch.tensor([[0.0, 0.125, 0.375, 0.5], [0.0625, 0.1875, 0.4375, 0.5625]])
        shown = evidence.picture(raw, (4, 4))[0]
        # rows 0 and 1 of the bilinear enlargement of [[0, 2], [0, 4]], divided by its largest value 4
        rows = torch.tensor([[0.0, 0.5, 1.5, 2.0], [0.0, 0.625, 1.875, 2.5]]) / 4
        assert expected.shape == rows.shape
        torch.testing.assert_close(shown[:2], rows)

    def test_batch_equals_singles_and_repeats(self, images):
        model = small()
        classes = torch.tensor([0, 3, 2])
        cam = activation_maps.XGradCAM(model, "relu")
        together = cam.raw(images, classes)
        alone = torch.cat([cam.raw(images[i : i + 1], int(classes[i])) for i in range(3)])
        torch.testing.assert_close(together, alone)
        assert torch.equal(together, cam.raw(images, classes))
        drops = axioms.channel_drops(model, "relu", images, classes)
        for batch_size in (1, 4, 1000):
            same = axioms.channel_drops(model, "relu", images, classes, batch_size=batch_size)
            torch.testing.assert_close(same, drops)

    def test_default_class_is_the_largest_logit(self, images):
        model = small().eval()
        with torch.no_grad():
            largest = model(images).argmax(1)
        assert torch.equal(evidence.gather(model, "relu", images).targets, largest)
        cam = activation_maps.XGradCAM(model, "relu")
        assert torch.equal(cam.raw(images), cam.raw(images, largest))


class TestChannels:
    def test_zero_channel_has_weight_zero(self):
        activation = torch.rand(1, 3, 2, 2)
        activation[0, 1] = 0
        gradient = torch.randn(1, 3, 2, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            weights = activation_maps.xgrad_cam_weights(activation, gradient)
        assert weights[0, 1] == 0
        assert weights.isfinite().all()
        assert baselines.ablation_cam_sum_weights(torch.ones(1, 3), activation)[0, 1] == 0

    def test_tiny_channels_are_divided_exactly(self):
        activation, gradient = torch.full((1, 1, 2, 2), 1e-30), torch.tensor([[[[1.0, 2], [3, 6]]]])
        assert activation_maps.xgrad_cam_weights(activation, gradient).item() == pytest.approx(3)

    def test_cancelling_channel_takes_the_weight_of_grad_cam_and_warns(self):
        activation = torch.tensor([[[[1.0, -1], [2, -2]], [[3, -1], [0, 0]]]])
        gradient = torch.tensor([[[[1.0, 2], [3, 6]], [[1, 2], [5, 5]]]])
        with pytest.warns(UserWarning, match="1 channels"):
            weights = activation_maps.xgrad_cam_weights(activation, gradient)
        assert weights.tolist() == [[3, 0.5]]  # mean of the gradient; (3 - 2) / 2

    def test_layer_with_negative_outputs_works(self, images):
        found = evidence.gather(small(), "norm", images)
        assert found.activation.min() < 0
        assert activation_maps.xgrad_cam_weights(found.activation, found.gradient).isfinite().all()


class TestNetworks:
    @pytest.mark.parametrize("layer", ["conv", "norm", "relu", "conv2", "relu2"])
    def test_in_place_relu_changes_nothing(self, images, layer):
        plain, inplace = small(), small(inplace=True)
        for one, other in zip(
            vars(evidence.gather(plain, layer, images)).values(),
            vars(evidence.gather(inplace, layer, images)).values(),
        ):
            assert torch.equal(one, other)
        assert torch.equal(axioms.channel_drops(plain, layer, images), axioms.channel_drops(inplace, layer, images))
        if layer != "conv2":
            torch.testing.assert_close(axioms.bias_term(plain, layer, images), axioms.bias_term(inplace, layer, images))

    def test_torchvision_resnet_reuses_its_relus(self):
        torch.manual_seed(0)
        model = torchvision.models.resnet18(num_classes=5).eval()
        inputs = torch.randn(2, 3, 64, 64)
        found = evidence.gather(model, "layer3", inputs)
        rest = found.score - (found.gradient * found.activation).sum((1, 2, 3))
        torch.testing.assert_close(axioms.bias_term(model, "layer3", inputs), rest, rtol=1e-4, atol=1e-5)
        with pytest.raises(ValueError, match=r"'layer3\.0\.relu' runs more than once"):
            evidence.gather(model, "layer3.0.relu", inputs)

    def test_module_used_before_and_behind_the_layer(self, images):
        class Shared(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.relu, self.mid = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Identity()
                self.fc = nn.Linear(108, 2)

            def forward(self, x):
                x = self.mid(self.relu(self.conv(x)))
                return self.fc(self.relu(self.conv(x)).flatten(1))

        torch.manual_seed(3)
        model = Shared()
        found = evidence.gather(model, "mid", images, 1)
        rest = found.score - (found.gradient * found.activation).sum((1, 2, 3))
        torch.testing.assert_close(axioms.bias_term(model, "mid", images, 1), rest)
        assert axioms.channel_drops(model, "mid", images, 1).shape == (3, 3)

    def test_shortcut_past_the_layer_is_refused_where_it_matters(self, images):
        class Skip(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.relu, self.fc = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Linear(108, 2)

            def forward(self, x):
                return self.fc((x + self.relu(self.conv(x))).flatten(1))

        model = Skip()
        assert evidence.gather(model, "relu", images).activation.shape == (3, 3, 6, 6)
        with pytest.raises(ValueError, match="past 'relu'"):
            axioms.bias_term(model, "relu", images)
        with pytest.raises(ValueError, match="layer"):
            axioms.channel_drops(model, "relu", images)

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_under_the_callers_mode(self, images, mode):
        model = small()
        cam = activation_maps.XGradCAM(model, "relu")
        expected, epsilon = cam.raw(images, 0), axioms.bias_term(model, "relu", images, 0)
        with mode():
            assert torch.equal(cam.raw(images, 0), expected)
            assert torch.equal(axioms.bias_term(model, "relu", images, 0), epsilon)
            assert not torch.is_grad_enabled()
        assert torch.is_grad_enabled()

    def test_frozen_network(self, images):
        model = small()
        expected = activation_maps.XGradCAM(model, "relu").raw(images, 0)
        assert torch.equal(activation_maps.XGradCAM(model.requires_grad_(False), "relu").raw(images, 0), expected)

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.1), (torch.float16, 0.02)])
    def test_half_precision(self, images, dtype, tolerance):
        model = small()
        full = activation_maps.XGradCAM(model, "relu").raw(images, 0)
        half = activation_maps.XGradCAM(copy.deepcopy(model).to(dtype), "relu").raw(images.to(dtype), 0)
        assert half.dtype == dtype
        assert (half.float() - full).abs().max() < tolerance * full.abs().max()

    def test_sums_of_half_precision_do_not_overflow(self):
        activation = torch.full((1, 1, 20, 20), 1000, dtype=torch.float16)  # the sum 400,000 is no half number
        gradient = torch.full_like(activation, 0.5)
        assert activation_maps.xgrad_cam_weights(activation, gradient).tolist() == [[0.5]]

    def test_double_precision_stays_double(self, images):
        assert activation_maps.XGradCAM(small().double(), "relu").raw(images.double()).dtype == torch.float64


class TestTidiness:
    CALLS = (
        lambda model, images: evidence.gather(model, "relu", images),
        lambda model, images: axioms.channel_drops(model, "relu", images),
        lambda model, images: axioms.bias_term(model, "relu", images),
        lambda model, images: baselines.masked_scores(
            model, images, torch.rand(3, 6, 6, 6), torch.zeros(3, dtype=torch.int64)
        ),
    )

    @pytest.mark.parametrize("call", CALLS)
    def test_model_is_left_as_it_was(self, images, call):
        model = small()
        model.train()
        model.drop.eval()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        flags = [module.training for module in model.modules()]
        call(model, images)
        assert [module.training for module in model.modules()] == flags
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
        assert images.grad is None
        assert not images.requires_grad

    def test_hooks_go_and_modes_return_after_an_error(self, images):
        model = small()

        def explode(*_):
            raise RuntimeError("boom")

        handle = model.flat.register_forward_hook(explode)
        model.train()
        for call in self.CALLS[:3]:
            with pytest.raises(RuntimeError, match="boom"):
                call(model, images)
            assert model.training
            assert torch.is_grad_enabled()
        handle.remove()
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())

    def test_results_hold_no_graph(self, images):
        found = evidence.gather(small(), "relu", images)
        assert not any(tensor.requires_grad for tensor in vars(found).values())

    def test_gradients_of_the_caller_survive(self, images):
        model = small()
        model(images).sum().backward()
        before = [parameter.grad.clone() for parameter in model.parameters()]
        activation_maps.XGradCAM(model, "relu")(images)
        assert all(torch.equal(p.grad, b) for p, b in zip(model.parameters(), before))


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"layer": "rleu"}, "rleu"),
            ({"layer": "fc"}, "not a tensor"),
            ({"inputs": torch.zeros(0, 3, 6, 6)}, "not empty"),
            ({"inputs": torch.full((1, 3, 6, 6), torch.nan)}, "NaN"),
            ({"targets": 4}, r"\[0, 4\)"),
            ({"targets": -1}, r"\[0, 4\)"),
            ({"targets": torch.tensor([0, 1])}, r"shape \(3,\)"),
            ({"targets": torch.tensor([0.0, 1, 2])}, "integer"),
        ],
    )
    def test_arguments_are_named(self, images, arguments, message):
        call = {"layer": "relu", "inputs": images, "targets": None} | arguments
        with pytest.raises(ValueError, match=message):
            evidence.gather(small(), call["layer"], call["inputs"], call["targets"])

    def test_unused_layer_and_unconnected_logits(self, images):
        class Odd(nn.Module):
            def __init__(self):
                super().__init__()
                self.idle, self.side, self.fc = nn.ReLU(), nn.ReLU(), nn.Linear(108, 2)

            def forward(self, x):
                self.side(x)
                return self.fc(x.flatten(1))

        with pytest.raises(ValueError, match="does not run"):
            evidence.gather(Odd(), "idle", images)
        with pytest.raises(ValueError, match="do not depend"):
            evidence.gather(Odd().requires_grad_(False), "side", images)
        with pytest.raises(ValueError, match="do not depend"):
            evidence.gather(Odd(), "side", images)

    def test_other_wrong_arguments(self, images):
        with pytest.raises(ValueError, match="no layer 'nope'"):
            activation_maps.XGradCAM(small(), "nope")
        with pytest.raises(ValueError, match="batch_size"):
            axioms.channel_drops(small(), "relu", images, batch_size=0)
        with pytest.raises(ValueError, match=r"logits \(B, C\)"):
            evidence.gather(small()[:4], "relu", images)


class Behind(nn.Module):
    """A layer, and behind it ``function`` between two affine layers."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.act, self.conv, self.fc = nn.ReLU(), nn.Conv2d(3, 4, 3), nn.Linear(64, 2)
        self.function = function
        self.double()

    def forward(self, x):
        return self.fc(self.function(self.conv(self.act(x))).flatten(1))


@torch.jit.script
def scripted_swish(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(x)


class TestIdentity:
    """Eq. (5) holds for what ``bias_term`` accepts."""

    X = torch.randn(3, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    @pytest.mark.parametrize(
        ("function", "name"),
        [
            (F.gelu, "Gelu"),
            (F.silu, "Silu"),
            (F.softplus, "Softplus"),
            (torch.sigmoid, "Sigmoid"),
            (torch.tanh, "Tanh"),
            (F.elu, "Elu"),
            (F.hardswish, "Hardswish"),
            (lambda y: F.layer_norm(y, y.shape[1:]), "NativeLayerNorm"),
            (lambda y: F.group_norm(y, 2), "NativeGroupNorm"),
            (lambda y: F.instance_norm(y), "NativeBatchNorm"),
            (lambda y: y * y.mean((2, 3), keepdim=True), "Mul"),
            (lambda y: y + 0.1, "Add"),
            (lambda y: F.pad(y, (1, 0, 1, 0), value=0.3)[..., 1:, :-1], "a constant"),
            (lambda y: F.relu6(y * 20), "Hardtanh"),
            (lambda y: F.conv2d(y, torch.ones(4, 4, 1, 1, dtype=y.dtype), torch.ones(4, dtype=y.dtype)), "a bias"),
            (lambda y: scripted_swish(y), "Sigmoid"),
        ],
    )
    def test_functions_that_break_it_are_refused(self, function, name):
        with pytest.raises(ValueError, match=r"layer: Eq\. \(5\) does not hold behind 'act'") as error:
            axioms.bias_term(Behind(function), "act", self.X)
        assert name in str(error.value) or name == "NativeBatchNorm"
        axioms.bias_term(Behind(function), "act", self.X, strict=False)

    @pytest.mark.parametrize(
        "function",
        [
            F.relu,
            lambda y: F.relu_(y),
            lambda y: F.leaky_relu(y, 0.1) * 3,
            lambda y: y + y.flip(1),
            lambda y: F.max_pool2d(F.pad(y, (1, 1, 1, 1)), 3, stride=1).clamp(min=0),
            lambda y: F.dropout(y, training=False).abs(),
        ],
    )
    def test_functions_that_keep_it_pass(self, function):
        found = evidence.gather(Behind(function), "act", self.X)
        rest = found.score - (found.gradient * found.activation).sum((1, 2, 3))
        torch.testing.assert_close(axioms.bias_term(Behind(function), "act", self.X), rest)

    def test_hooks_that_rewrite_and_subclasses_are_seen(self):
        model = Behind(F.relu)
        handle = model.conv.register_forward_hook(lambda module, args, output: output + 1)
        with pytest.raises(ValueError, match="does not hold"):
            axioms.bias_term(model, "act", self.X)
        handle.remove()
        axioms.bias_term(model, "act", self.X)

        class Shifted(nn.Conv2d):
            def forward(self, x):
                return super().forward(x) + 1

        model.conv = Shifted(3, 4, 3).double()
        with pytest.raises(ValueError, match="does not hold"):
            axioms.bias_term(model, "act", self.X)

    def test_rewritten_weights_are_read_as_they_are(self):
        model = Behind(F.relu)
        prune.l1_unstructured(model.conv, "weight", 0.5)
        prune.l1_unstructured(model.conv, "bias", 0.5)
        found = evidence.gather(model, "act", self.X)
        rest = found.score - (found.gradient * found.activation).sum((1, 2, 3))
        torch.testing.assert_close(axioms.bias_term(model, "act", self.X), rest)

    def test_layers_that_run_never_or_twice(self):
        model = Behind(lambda y: y)
        model.idle = nn.ReLU()
        with pytest.raises(ValueError, match="'idle' runs 0 times"):
            axioms.bias_term(model, "idle", self.X)
        model.function = model.act
        with pytest.raises(ValueError, match="'act' runs 2 times"):
            axioms.bias_term(model, "act", self.X)

    @pytest.mark.parametrize("name", ["resnet18", "vgg11_bn", "densenet121", "squeezenet1_1", "googlenet"])
    def test_torchvisions_networks_pass(self, name):
        torch.manual_seed(0)
        options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
        model = torchvision.models.get_model(name, num_classes=5, **options).eval()
        layer = {"resnet18": "layer2", "googlenet": "inception4a"}.get(name, "features.4")
        layer = "features.pool0" if name == "densenet121" else layer
        assert axioms.bias_term(model, layer, torch.randn(2, 3, 64, 64)).isfinite().all()


class TestNumbers:
    def test_inputs_of_other_types_are_named(self):
        model, images = small(), torch.zeros(2, 3, 6, 6, dtype=torch.uint8)
        with pytest.raises(ValueError, match=r"inputs must be of a type that the model reads, got torch\.uint8"):
            activation_maps.XGradCAM(model, "relu")(images, 0)
        for call in (axioms.bias_term, axioms.channel_drops):
            with pytest.raises(ValueError, match=r"inputs must be floating-point numbers, got torch\.uint8"):
                call(model, "relu", images)
        with pytest.raises(ValueError, match="inputs must be a tensor, got list"):
            axioms.bias_term(model, "relu", [1.0])

    def test_a_model_that_reads_bytes(self):
        class Bytes(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = small()

            def forward(self, x):
                return self.inner(x / 255)

        assert activation_maps.XGradCAM(Bytes(), "inner.relu")(torch.ones(2, 3, 6, 6).byte(), 0).shape == (2, 6, 6)

    @pytest.mark.parametrize("size", [1e-3, 1.0, 1e5, 1e7, 1e15, 1e25, 1e38])
    def test_steep_slopes_of_grad_cam_plus_plus(self, size):
        activation = torch.tensor([[[[1.0, 2.0], [0.0, 1.0]]]])
        gradient = torch.tensor([[[[1.0, -1.0], [2.0, 0.0]]]]) * size
        g = gradient.double().clamp(min=0)
        expected = (g**3 / (2 * g**2 + 4 * g**3 + 1e-6)).sum((2, 3))
        torch.testing.assert_close(baselines.grad_cam_plus_plus_weights(activation, gradient).double(), expected)
