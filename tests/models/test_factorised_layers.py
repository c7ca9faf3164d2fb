"""Factorised layers equal the dense ones with the rebuilt kernel, and cost what their factors cost."""

import copy
import io
import itertools

import numpy as np
import pytest
import torch
from compactvision import measure, models
from compactvision.models.factorised import FactorisedConv2d, TTConv2d, TTLinear, tt_parameters, with_layers
from torch import nn

from oracles import admm_tensor_train as oracle

MODES = {
    "one on either side": ({}, (8, 6)),
    "two on either side": ({"out_modes": (8, 4), "in_modes": (4, 4)}, (5, 9, 7, 3)),
    "three and one": ({"out_modes": (4, 2, 4), "in_modes": (16,)}, (3, 5, 9, 7)),
    "one and three": ({"in_modes": [2, 2, 4]}, (9, 7, 5, 3)),
    "too many ranks": ({}, (100, 100)),
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def close(found, expected):
    scale = float(expected.detach().abs().max())
    assert float((found - expected).detach().abs().max()) <= 1e-5 * max(scale, 1.0)


def random_conv(**options):
    conv = nn.Conv2d(16, 32, options.pop("kernel_size", 3), **options)
    nn.init.normal_(conv.weight, std=0.1, generator=seeded())
    if conv.bias is not None:
        nn.init.normal_(conv.bias, generator=seeded(1))
    return conv


@pytest.mark.parametrize("modes", MODES)
@pytest.mark.parametrize("stride", [1, 2, (2, 3)])
@pytest.mark.parametrize("kernel_size", [1, 3, (3, 1), (2, 5)])
def test_a_convolution_equals_the_dense_one(modes, stride, kernel_size):
    options, ranks = MODES[modes]
    x = torch.randn(2, 16, 11, 13, generator=seeded(2))
    for padding, dilation in itertools.product((0, 1, (2, 0), "same", "valid"), (1, (1, 2))):
        if padding == "same" and (stride != 1 or kernel_size == (2, 5)):  # torch has none, or warns
            continue
        conv = random_conv(kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, bias=stride == 1)
        layer = TTConv2d.from_layer(conv, ranks, **options)
        close(layer(x), layer.dense()(x))
        if modes == "too many ranks":
            assert layer.clipped
            assert layer.ranks == ((16, 16) if kernel_size == 1 else (32, 16))
            close(layer(x), conv(x))


@pytest.mark.parametrize("modes", MODES)
def test_a_batch_of_no_image(modes):
    options, ranks = MODES[modes]
    assert TTConv2d(16, 32, 3, ranks, stride=2, **options)(torch.zeros(0, 16, 9, 9)).shape == (0, 32, 4, 4)


@pytest.mark.parametrize(
    ("options", "ranks"), [({}, (4, 3)), ({"out_modes": (3, 2), "in_modes": (2, 2)}, (2, 5, 3, 2))]
)
def test_a_convolution_equals_the_oracle(options, ranks):
    layer = TTConv2d(4, 6, (3, 2), ranks, stride=(2, 1), padding=(1, 0), dilation=(1, 2), generator=seeded(), **options)
    layer.double()
    nn.init.normal_(layer.bias, generator=seeded(1))
    x = torch.randn(1, 4, 6, 5, generator=seeded(2), dtype=torch.float64)
    cores = [core.detach().numpy() for core in layer.cores]
    weight = oracle.kernel(cores, layer.out_modes, layer.in_modes, 3, 2)
    np.testing.assert_allclose(layer.kernel().detach().numpy(), weight, atol=1e-12)
    expected = oracle.convolution(x[0].numpy(), weight, layer.bias.detach().numpy(), (2, 1), ((1, 1), (0, 0)), (1, 2))
    np.testing.assert_allclose(layer(x)[0].detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "ranks"),
    [
        ({}, (5,)),
        ({"out_modes": (6, 4), "in_modes": (3, 5)}, (4, 7, 3)),
        ({"out_modes": (2, 3, 4)}, (2, 5, 7)),
        ({"in_modes": (5, 3)}, (99, 99)),
    ],
)
@pytest.mark.parametrize("shape", [(15,), (2, 15), (2, 3, 4, 15), (0, 15)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_equals_the_dense_one(options, ranks, shape, bias):
    linear = nn.Linear(15, 24, bias=bias)
    layer = TTLinear.from_layer(linear, ranks, **options)
    x = torch.randn(shape, generator=seeded())
    found, expected = layer(x), layer.dense()(x)
    assert found.shape == expected.shape
    if x.numel():
        close(found, expected)
    if ranks == (99, 99):
        assert layer.clipped
        close(layer.kernel(), linear.weight)


@pytest.mark.parametrize("modes", MODES)
def test_gradients_are_those_of_the_rebuilt_kernel(modes):
    options, ranks = MODES[modes]
    layer = TTConv2d.from_layer(random_conv(stride=2, padding=1), ranks, **options).double()
    x = torch.randn(2, 16, 7, 8, generator=seeded(), dtype=torch.float64)
    direction = torch.randn(2, 32, 4, 4, generator=seeded(1), dtype=torch.float64)
    found = torch.autograd.grad((layer(x) * direction).sum(), list(layer.parameters()))
    rebuilt = torch.nn.functional.conv2d(x, layer.kernel(), layer.bias, 2, 1)
    expected = torch.autograd.grad((rebuilt * direction).sum(), list(layer.parameters()))
    torch.testing.assert_close(found, expected)


class TestCounts:
    def test_the_specification(self):
        layer = TTConv2d(16, 32, 3, (8, 16, 10, 4), out_modes=(8, 4), in_modes=(4, 4), padding=1, bias=False)
        assert measure.parameters(layer) == 2192
        assert measure.macs(layer, (16, 10, 10)) == 22_400 + 144_000 + 76_800
        assert measure.macs(layer.dense(), (16, 10, 10)) == 460_800

    @pytest.mark.parametrize("modes", MODES)
    def test_the_formula_with_a_stride(self, modes):
        options, ranks = MODES[modes]
        layer = TTConv2d(16, 32, 3, ranks, stride=2, padding=1, bias=False, **options)
        m, inner, before, after = len(layer.out_modes), (1, *layer.ranks, 1), 9 * 11, 5 * 6
        expected = 9 * inner[m] * inner[m + 1] * after
        for a in range(m):
            expected += inner[a] * layer.out_modes[a] * inner[a + 1] * int(np.prod(layer.out_modes[a + 1 :])) * after
        for b, size in enumerate(layer.in_modes):
            left, right = inner[m + 1 + b], inner[m + 2 + b]
            expected += left * size * right * int(np.prod(layer.in_modes[:b])) * before
        assert measure.macs(layer, (16, 9, 11)) == expected
        assert measure.parameters(layer) == tt_parameters(layer.modes, layer.ranks)

    def test_a_linear_layer(self):
        layer = TTLinear(15, 24, (4, 7, 3), out_modes=(6, 4), in_modes=(3, 5))
        macs = (
            3 * 5 * 3 + 7 * 3 * 3 + 4 * 4 * 7 + 6 * 4 * 4
        )  # (in_1 in_2 r3) (r2 in_1 r3) (r1 out_2 r2) (out_1 r1 out_2)
        assert measure.macs(layer, torch.zeros(1, 15)) == macs
        assert measure.parameters(layer) == 6 * 4 + 4 * 4 * 7 + 7 * 3 * 3 + 3 * 5 + 24

    def test_the_kernel_is_never_built(self):
        """No tensor of the kernel's size is made on the way, not even in the backward pass."""
        layer = TTConv2d(64, 64, 3, (4, 4), padding=1)
        seen = []

        class Watch(torch.utils._python_dispatch.TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                out = func(*args, **(kwargs or {}))
                seen.append(out.numel() if isinstance(out, torch.Tensor) else 0)
                return out

        with Watch():
            layer(torch.zeros(1, 64, 2, 2)).sum().backward()
        assert 0 < max(seen) < 64 * 64


class TestMaking:
    def test_random_cores_have_the_variance_of_the_dense_layer(self):
        for options, ranks in (({}, (24, 16)), ({"out_modes": (8, 8), "in_modes": (8, 8)}, (8, 24, 24, 8))):
            kernels = torch.stack(
                [TTConv2d(64, 64, 3, ranks, generator=seeded(i), **options).kernel() for i in range(40)]
            )
            assert float(kernels.detach().var()) == pytest.approx(2 / (9 * 64), rel=0.2)
        kernels = torch.stack([TTLinear(64, 96, (16,), generator=seeded(i)).kernel() for i in range(40)])
        assert float(kernels.detach().var()) == pytest.approx(1 / 64, rel=0.1)

    def test_a_generator_decides(self):
        first, second, third = (TTConv2d(8, 8, 3, (4, 4), generator=seeded(i)).kernel() for i in (1, 1, 2))
        assert torch.equal(first, second)
        assert not torch.equal(first, third)

    def test_the_dense_layer_is_left_as_it_was_and_shares_nothing(self):
        conv = random_conv()
        before = copy.deepcopy(conv.state_dict())
        layer = TTConv2d.from_layer(conv, (32, 16))
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.add_(1)
        dense = layer.dense()
        with torch.no_grad():
            dense.bias.zero_()
        assert layer.bias.any()
        torch.testing.assert_close(conv.state_dict(), before, rtol=0, atol=0)

    def test_flags_and_dtype_are_taken_over(self):
        conv = random_conv(bias=False).double().eval()
        layer = TTConv2d.from_layer(conv, (8, 6))
        assert not layer.training
        assert not layer.dense().training
        assert layer.bias is None
        assert {parameter.dtype for parameter in layer.parameters()} == {torch.float64}
        assert all(parameter.requires_grad for parameter in layer.parameters())

    @pytest.mark.parametrize("kind", [nn.Conv2d, nn.Linear])
    def test_a_description_builds_the_same_shapes(self, kind):
        if kind is nn.Conv2d:
            layer = TTConv2d.from_layer(
                random_conv(stride=2, padding=1), (99, 6, 99, 3), out_modes=(8, 4), in_modes=(4, 4)
            )
        else:
            layer = TTLinear.from_layer(nn.Linear(12, 20, bias=False), (3, 99, 2), out_modes=(4, 5), in_modes=(3, 4))
        other = type(layer).from_description(layer.description())
        other.load_state_dict(layer.state_dict())
        assert repr(other) == repr(layer)
        assert other.requested == layer.requested
        x = torch.randn(2, 16, 8, 8) if kind is nn.Conv2d else torch.randn(2, 12)
        assert torch.equal(other(x), layer(x))

    def test_print_says_what_was_asked_for(self):
        assert "ranks=(32, 16) (asked for (40, 40))" in repr(TTConv2d(16, 32, 3, (40, 40)))
        assert "asked" not in repr(TTConv2d(16, 32, 3, (32, 16)))


class TestPlaces:
    def test_the_meta_device_costs_nothing(self):
        with torch.device("meta"):
            layer = TTConv2d.from_layer(nn.Conv2d(512, 512, 3, padding=1), (100, 100))
        assert {parameter.device.type for parameter in layer.parameters()} == {"meta"}
        assert measure.macs(layer, (512, 7, 7)) == 49 * (512 * 100 + 9 * 100 * 100 + 512 * 100)

    @pytest.mark.parametrize("modes", MODES)
    def test_autocast(self, modes):
        options, ranks = MODES[modes]
        layer = TTConv2d.from_layer(random_conv(padding=1), ranks, **options)
        x = torch.randn(2, 16, 8, 8, generator=seeded())
        with torch.autocast("cpu", torch.bfloat16):
            found = layer(x)
            linear = TTLinear(16, 12, (2, 4, 3), out_modes=(3, 4), in_modes=(4, 4))(x.transpose(1, 3))
        assert found.dtype == linear.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), layer(x), rtol=0.05, atol=0.05)

    @pytest.mark.parametrize("modes", MODES)
    def test_channels_last(self, modes):
        options, ranks = MODES[modes]
        layer = TTConv2d.from_layer(random_conv(padding=1), ranks, **options)
        x = torch.randn(2, 16, 8, 8, generator=seeded())
        close(layer.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last)), layer(x))

    @pytest.mark.parametrize("modes", MODES)
    def test_export_with_a_free_batch(self, modes):
        options, ranks = MODES[modes]
        layer = nn.Sequential(TTConv2d.from_layer(random_conv(padding=1, stride=2), ranks, **options)).eval()
        batch = torch.export.Dim("batch", min=2, max=64)
        exported = torch.export.export(layer, (torch.zeros(2, 16, 8, 8),), dynamic_shapes=({0: batch},))
        x = torch.randn(5, 16, 8, 8, generator=seeded())
        torch.testing.assert_close(exported.module()(x), layer(x))

    def test_onnx(self):
        import onnxruntime

        layer = TTConv2d.from_layer(random_conv(padding=1), (5, 9, 7, 3), out_modes=(8, 4), in_modes=(4, 4)).eval()
        model = nn.Sequential(layer, nn.Flatten(), TTLinear(32 * 36, 10, (6,))).eval()
        x = torch.randn(2, 16, 6, 6, generator=seeded())
        file = io.BytesIO()
        torch.onnx.export(model, (x,), dynamo=True, verbose=False).save(file)
        session = onnxruntime.InferenceSession(file.getvalue())
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        np.testing.assert_allclose(found, model(x).detach().numpy(), atol=1e-4)

    @pytest.mark.cuda
    def test_cuda(self):
        layer = TTConv2d.from_layer(random_conv(padding=1).cuda(), (5, 9, 7, 3), out_modes=(8, 4), in_modes=(4, 4))
        x = torch.randn(2, 16, 8, 8, generator=seeded())
        torch.testing.assert_close(layer(x.cuda()).cpu(), copy.deepcopy(layer).cpu()(x), rtol=1e-3, atol=1e-3)


class TestReplacing:
    def test_a_layer_that_stands_at_two_places(self):
        shared = nn.Conv2d(4, 4, 1)
        model = nn.Sequential(shared, nn.ReLU(), shared)
        small = with_layers(model, {"0": lambda conv: TTConv2d.from_layer(conv, (2, 2))})
        assert small[0] is small[2]
        assert isinstance(small[0], TTConv2d)
        assert model[0] is model[2] is shared

    def test_a_network(self):
        model = models.resnet20(generator=seeded()).eval()
        names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)][1:]
        small = with_layers(model, {name: lambda conv: TTConv2d.from_layer(conv, (99, 99)) for name in names})
        x = torch.randn(2, 3, 32, 32, generator=seeded(1))
        torch.testing.assert_close(small(x), model(x), rtol=1e-3, atol=1e-4)
        assert sum(isinstance(module, TTConv2d) for module in small.modules()) == 18

    @pytest.mark.parametrize("name", ["", "none", "0.weight"])
    def test_refuses_names(self, name):
        with pytest.raises(ValueError, match=f"change: the network has no layer {name!r}"):
            with_layers(nn.Sequential(nn.Linear(2, 2)), {name: lambda layer: layer})


CONV = nn.Conv2d(16, 32, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TTConv2d.from_layer(nn.Conv2d(16, 32, 3, groups=4), (4, 4)), "layer must have groups=1.*got groups=4"),
        (lambda: TTConv2d.from_layer(nn.Conv2d(4, 4, 3, padding_mode="circular"), (4, 4)), "padding_mode='zeros', got"),
        (lambda: TTConv2d.from_layer(nn.Linear(4, 4), (4, 4)), "layer must be an nn.Conv2d for TTConv2d, got Linear"),
        (lambda: TTLinear.from_layer(CONV, (4,)), "layer must be an nn.Linear for TTLinear, got Conv2d"),
        (lambda: TTConv2d.from_layer(nn.ConvTranspose2d(4, 4, 3), (4, 4)), "layer must be an nn.Conv2d"),
        (lambda: TTConv2d.from_layer(CONV, (4, 4), in_modes=(5, 3)), "in_modes must have the product 16, got"),
        (lambda: TTConv2d.from_layer(CONV, (4, 4, 4)), r"ranks must hold 2 numbers for the modes \(32, 9, 16\)"),
        (lambda: TTConv2d.from_layer(CONV, (4, 0)), r"ranks must be whole numbers of at least 1, got \(4, 0\)"),
        (lambda: TTConv2d.from_layer(CONV, (4, 2.5)), r"ranks must be whole numbers of at least 1, got \(4, 2.5\)"),
        (lambda: TTConv2d.from_kernel(torch.ones(4, 4), (1, 1)), r"kernel must have shape \(C_out, C_in, K_h, K_w\)"),
        (lambda: TTLinear.from_kernel(torch.ones(4), (1,)), r"kernel must have shape \(C_out, C_in\), got \(4,\)"),
        (lambda: TTLinear.from_kernel(torch.ones(4, 4, dtype=torch.int), (1,)), "kernel must be a floating-point"),
        (lambda: TTLinear.from_kernel(torch.full((4, 4), torch.inf), (1,)), "tensor must be finite"),
        (lambda: TTLinear.from_kernel(torch.ones(4, 4), (1,), bias=torch.ones(3)), r"bias must have shape \(4,\), got"),
        (lambda: TTConv2d(4, 4, 3, (2, 2), padding="same", stride=2), "padding must be numbers where stride is not 1"),
        (lambda: TTConv2d(4, 4, 3, (2, 2), stride=0), "stride must be whole numbers of at least 1, got 0"),
        (lambda: TTConv2d(4, 4, (3, 3, 3), (2, 2)), "kernel_size must be one or two whole numbers"),
        (lambda: TTConv2d(0, 4, 3, (2, 2)), "in_channels must be at least 1, got 0"),
        (lambda: TTConv2d(4, 4, 3, (2, 2), padding="reflect"), "padding must be whole numbers of at least 0"),
        (lambda: TTConv2d(4, 4, 3, (2, 2))(torch.ones(1, 3, 8, 8)), r"x must have shape \(B, 4, H, W\), got \(1, 3,"),
        (lambda: TTConv2d(4, 4, 3, (2, 2))(torch.ones(4, 8, 8)), r"x must have shape \(B, 4, H, W\)"),
        (lambda: TTLinear(4, 4, (2,))(torch.ones(1, 3)), r"x must have shape \(..., 4\), got \(1, 3\)"),
        (lambda: FactorisedConv2d(4, 4, 3, (2,)).kernel(), None),
    ],
)  # fmt: skip
def test_refuses(call, message):
    if message is None:
        with pytest.raises(NotImplementedError):
            call()
        return
    with pytest.raises(ValueError, match=message):
        call()
