"""Formats: projections, decomposed networks, distances, whitening; rivals of the tensor train by tensorly."""

import copy
import math

import pytest
import torch
from compactvision import measure, models, training
from compactvision.factorization.admm_tensor_train import TensorTrain, decompose, recurrent, whitening
from compactvision.factorization.admm_tensor_train.formats import distances, projected
from compactvision.factorization.admm_tensor_train.rivals import CP, Ring, Tucker
from compactvision.models.factorised import TTConv2d, tt_parameters
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from oracles import admm_tensor_train as oracle

LAYERS = ("layer1.0.conv1", "layer2.0.conv1", "layer3.2.conv2")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def kernel(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=seeded(seed), dtype=dtype)


@pytest.fixture(scope="module")
def network():
    """ResNet-20 with statistics that are not the initial ones."""
    model = models.resnet20(generator=seeded())
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0, generator=seeded(1))
            nn.init.normal_(module.running_mean, generator=seeded(2))
    return model.eval()


@pytest.mark.parametrize(
    ("shape", "train"),
    [
        ((12, 8, 3, 3), TensorTrain((4, 3))),
        ((12, 8, 3, 2), TensorTrain((3, 6, 5, 2), (4, 3), (2, 4))),
        ((12, 8, 1, 1), TensorTrain((5, 5))),
        ((12, 8), TensorTrain((3,))),
        ((12, 8), TensorTrain((3, 4, 2), (4, 3), (2, 4))),
    ],
)
def test_a_projection_is_that_of_the_oracle_and_of_the_layer(shape, train):
    weight = kernel(*shape, dtype=torch.float64)
    near = train.project(weight)
    assert near.is_contiguous()
    out_modes, in_modes = train.out_modes or shape[:1], train.in_modes or shape[1:2]
    if len(shape) == 4:
        tensor = weight.permute(0, 2, 3, 1).reshape(*out_modes, shape[2] * shape[3], *in_modes)
        expected = oracle.kernel(oracle.tt_svd(tensor.numpy(), train.ranks), out_modes, in_modes, *shape[2:])
        dense = nn.Conv2d(shape[1], shape[0], shape[2:])
    else:
        expected = oracle.tensor(oracle.tt_svd(weight.reshape(*out_modes, *in_modes).numpy(), train.ranks))
        expected = expected.reshape(shape)
        dense = nn.Linear(shape[1], shape[0])
    torch.testing.assert_close(near, torch.from_numpy(expected))
    dense.weight = nn.Parameter(weight)
    torch.testing.assert_close(train.layer(dense.double()).kernel().detach(), near)
    torch.testing.assert_close(train.project(near), near)


FORMATS = {
    LAYERS[0]: TensorTrain((8, 6)),
    LAYERS[1]: TensorTrain((5, 9, 7, 3), (8, 4), (4, 4)),
    "fc": TensorTrain((4,)),
}


class TestNetworks:
    def test_decomposed_and_projected_networks_compute_the_same(self, network):
        before = copy.deepcopy(network.state_dict())
        small, dense = decompose(network, FORMATS), projected(network, FORMATS)
        x = torch.randn(4, 3, 32, 32, generator=seeded())
        torch.testing.assert_close(small(x), dense(x), rtol=1e-4, atol=1e-4)
        assert float((small(x) - network(x)).detach().abs().max()) > 1e-2
        assert isinstance(small.layer2[0].conv1, TTConv2d)
        assert small.layer2[0].conv1.out_modes == (8, 4)
        torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
        assert measure.parameters(dense) == measure.parameters(network) > measure.parameters(small)

    def test_a_network_of_low_ranks_loses_nothing(self, network):
        dense = projected(network, FORMATS)
        x = torch.randn(4, 3, 32, 32, generator=seeded())
        torch.testing.assert_close(decompose(dense, FORMATS)(x), dense(x), rtol=1e-4, atol=1e-4)
        assert max(distances(dense, FORMATS).values()) < 1e-5

    def test_distances_are_relative(self):
        model = nn.Sequential(nn.Linear(4, 4, bias=False))
        model[0].weight.data = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0]))
        expected = math.sqrt(5 / 30)
        assert distances(model, {"0": TensorTrain((2,))}) == {"0": pytest.approx(expected)}
        model[0].weight.data *= 7
        assert distances(model, {"0": TensorTrain((2,))}) == {"0": pytest.approx(expected)}
        model[0].weight.data.zero_()
        assert distances(model, {"0": TensorTrain((2,))}) == {"0": 0.0}

    @pytest.mark.parametrize("call", [distances, projected, decompose])
    @pytest.mark.parametrize(
        ("formats", "message"),
        [
            ({"none": TensorTrain((2, 2))}, "no layer 'none'"),
            ({"bn1": TensorTrain((2, 2))}, "layer 'bn1'.* must be an nn.Conv2d"),
            ({"conv1": TensorTrain((2,))}, r"ranks must hold 2 numbers"),
        ],
    )
    def test_refuses(self, network, call, formats, message):
        with pytest.raises(ValueError, match=message):
            call(network, formats)

    def test_refuses_groups_and_nothing(self):
        model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2))
        for call in (distances, decompose):
            with pytest.raises(ValueError, match=r"layer '0'.* must have groups=1"):
                call(model, {"0": TensorTrain((2, 2))})
        with pytest.raises(ValueError, match="formats must name at least one layer"):
            distances(model, {})


class TestRivals:
    def test_tucker_is_nearer_at_equal_parameters_and_the_same_layer(self):
        weight = kernel(32, 16, 3, 3)
        conv = nn.Conv2d(16, 32, 3, padding=1)
        conv.weight.data = weight.clone()
        tucker, train = Tucker(16, 8), TensorTrain((16, 8))
        errors = [float((each.project(weight) - weight).norm() / weight.norm()) for each in (tucker, train)]
        assert errors[0] < errors[1]
        assert (
            measure.parameters(tucker.layer(conv))
            == measure.parameters(train.layer(conv))
            == tt_parameters((32, 9, 16), (16, 8)) + 32
        )
        torch.testing.assert_close(tucker.layer(conv).kernel(), tucker.project(weight), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(train.project(tucker.project(weight)), tucker.project(weight), rtol=0, atol=1e-4)
        torch.testing.assert_close(tucker.project(train.project(weight)), train.project(weight), rtol=0, atol=1e-4)

    def test_full_ranks_give_the_kernel_back(self):
        weight = kernel(6, 4, 3, 3)
        for each in (Tucker(9, 9), TensorTrain((9, 9)), Ring((1, 6, 4))):
            torch.testing.assert_close(each.project(weight), weight, rtol=0, atol=1e-4)

    def test_a_sum_of_products_is_found(self):
        a, b, c = kernel(12, 2), kernel(9, 2, seed=1), kernel(8, 2, seed=2)
        weight = torch.einsum("or,pr,ir->oip", a, b, c).reshape(12, 8, 3, 3)
        near = CP(2).project(weight)
        assert float((near - weight).norm() / weight.norm()) < 0.02
        assert CP(2).parameters(weight) == 2 * (12 + 9 + 8)

    def test_a_ring_counts_and_projects(self):
        weight = kernel(12, 8, 3, 3)
        ring = Ring((2, 4, 3))
        near = ring.project(weight)
        assert near.shape == weight.shape
        assert float((near - weight).norm()) < float(weight.norm())
        assert ring.parameters(weight) == 2 * 12 * 4 + 4 * 9 * 3 + 3 * 8 * 2

    @pytest.mark.parametrize(
        ("format_", "sizes", "entry"),
        [
            (CP(5), [(12, 5), (9, 5), (8, 5)], lambda a, b, c: (a[7] * b[4] * c[3]).sum()),
            (
                Ring((2, 4, 3)),
                [(2, 12, 4), (4, 9, 3), (3, 8, 2)],
                lambda a, b, c: (a[:, 7] @ b[:, 4] @ c[:, 3]).trace(),
            ),
        ],
    )
    def test_factors_are_those_of_the_projection(self, format_, sizes, entry):
        """Output channel 7, input channel 3, the position in the middle, by hand."""
        weight = kernel(12, 8, 3, 3)
        factors = format_.factors(weight)
        assert [tuple(factor.shape) for factor in factors] == sizes
        assert sum(factor.numel() for factor in factors) == format_.parameters(weight)
        norms = [factor.norm(dim=0) if isinstance(format_, CP) else factor.norm() for factor in factors]
        torch.testing.assert_close(norms, norms[:1] * 3, rtol=1e-4, atol=0)
        torch.testing.assert_close(entry(*factors), format_.project(weight)[7, 3, 1, 1], rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("format_", [TensorTrain((4, 3)), Tucker(4, 3), CP(3), Ring((2, 3, 3))])
    def test_projections_take_one_thread(self, format_):
        before, seen = torch.get_num_threads(), set()

        class Watch(TorchDispatchMode):
            def __torch_dispatch__(self, function, types, args=(), kwargs=None):
                if function.__name__.startswith(("mm", "bmm", "linalg", "_linalg")):
                    seen.add(torch.get_num_threads())
                return function(*args, **(kwargs or {}))

        torch.set_num_threads(3)
        try:
            with torch.no_grad(), Watch():
                format_.project(kernel(12, 8, 3, 3))
            assert torch.get_num_threads() == 3
        finally:
            torch.set_num_threads(before)
        assert seen == {1}


class TestWhitening:
    def batches(self):
        return list(torch.randn(64, 3, 32, 32, generator=seeded(3)).split(32))

    def outputs_error(self, model, other, name):
        """Relative error of one layer's outputs on what it reads in the network."""
        layer, read = model.get_submodule(name), []
        handle = layer.register_forward_pre_hook(lambda module, args: read.append(args[0]))
        with torch.no_grad():
            model(torch.cat(self.batches()))
            handle.remove()
            wanted = layer(read[0])
            return float((other.get_submodule(name)(read[0]) - wanted).norm() / wanted.norm())

    def test_outputs_change_less_than_with_plain_truncation(self, network):
        formats = {LAYERS[0]: TensorTrain((8, 8)), LAYERS[2]: TensorTrain((24, 24))}
        found = whitening.whitened(network, formats, self.batches())
        for name in formats:
            errors = [
                self.outputs_error(network, projected(network, {name: table[name]}), name) for table in (found, formats)
            ]
            assert errors[0] < 0.98 * errors[1]
        x = self.batches()[0]
        torch.testing.assert_close(decompose(network, found)(x), projected(network, found)(x), rtol=1e-3, atol=1e-3)

    def test_it_is_optimal_for_one_cut(self):
        """A linear layer with one cut: no weight of that rank has smaller errors on the inputs."""
        model = nn.Sequential(nn.Linear(6, 5, bias=False))
        x = torch.randn(200, 6, generator=seeded()) * torch.tensor([5.0, 3.0, 1.0, 1.0, 0.3, 0.1])
        weight = model[0].weight.detach()
        found = whitening.whitened(model, {"0": TensorTrain((2,))}, [x], ridge=1e-9)["0"].project(weight)
        lost = torch.linalg.svdvals(x @ weight.T)[2:].norm()
        assert float((x @ (found - weight).T).norm()) == pytest.approx(float(lost), rel=1e-3)

    def test_centred_it_is_optimal_where_a_constant_is_free(self):
        """With a bias that may be chosen, what counts is the error around its mean."""
        model = nn.Sequential(nn.Linear(6, 5, bias=False))
        x = torch.randn(200, 6, generator=seeded()) + torch.tensor([9.0, 0, 0, -5, 0, 0])
        weight = model[0].weight.detach()
        train = {"0": TensorTrain((2,))}
        errors = []
        for centred in (True, False):
            near = whitening.whitened(model, train, [x], ridge=1e-9, centred=centred)["0"].project(weight)
            off = x @ (near - weight).T
            errors.append(float((off - off.mean(0)).norm()))
        lost = torch.linalg.svdvals((x - x.mean(0)) @ weight.T)[2:].norm()
        assert errors[0] == pytest.approx(float(lost), rel=1e-3)
        assert errors[1] > 1.01 * errors[0]

    def test_refuses(self, network):
        train = {LAYERS[0]: TensorTrain((8, 8))}
        with pytest.raises(ValueError, match="batches must hold at least one batch"):
            whitening.whitened(network, train, [])
        with pytest.raises(ValueError, match="ridge must be positive, got 0"):
            whitening.whitened(network, train, self.batches(), ridge=0)
        with pytest.raises(ValueError, match="splits its input channels into"):
            whitening.whitened(network, {LAYERS[0]: TensorTrain((4, 8, 4), None, (4, 4))}, self.batches())
        with pytest.raises(ValueError, match="no layer 'none'"):
            whitening.whitened(network, {"none": TensorTrain((8, 8))}, self.batches())


class TestColumns:
    def test_equals_torchs_lstm(self):
        model = recurrent.ColumnLSTM(7, 16, column=3 * 8, generator=seeded())
        lstm = nn.LSTM(24, 16, batch_first=True)
        lstm.weight_ih_l0.data, lstm.bias_ih_l0.data = model.input.weight.data, model.input.bias.data
        lstm.weight_hh_l0.data = model.hidden.weight.data
        nn.init.zeros_(lstm.bias_hh_l0)
        x = torch.randn(3, 3, 8, 11, generator=seeded(1))
        states, _ = lstm(x.reshape(3, 24, 11).transpose(1, 2))
        torch.testing.assert_close(model(x), model.classifier(states[:, -1]))

    def test_its_input_weights_as_a_train(self):
        model = recurrent.ColumnLSTM(generator=seeded())
        train = TensorTrain((99, 99, 99), (16, 16), (8, 12))
        small = decompose(model, {"input": train})
        x = torch.randn(2, 3, 32, 32, generator=seeded(1))
        torch.testing.assert_close(small(x), model(x), rtol=1e-3, atol=1e-5)
        small = decompose(model, {"input": TensorTrain((8, 12, 8), (16, 16), (8, 12))})
        assert measure.parameters(small.input) == 16 * 8 + 8 * 16 * 12 + 12 * 8 * 8 + 8 * 12 + 256
        per_column = 12 * 8 * 8 + 12 * 8 * 8 + 8 * 16 * 12 + 16 * 8 * 16  # from the right: in_2, in_1, out_2, out_1
        assert measure.macs(small, (3, 32, 32)) == 32 * (per_column + 64 * 256) + 640

    def test_refuses(self):
        with pytest.raises(ValueError, match=r"x must have shape \(B, C, H, W\) with C H = 96, got \(1, 3, 16, 32\)"):
            recurrent.ColumnLSTM()(torch.zeros(1, 3, 16, 32))
        with pytest.raises(ValueError, match="hidden must be at least 1, got 0"):
            recurrent.ColumnLSTM(hidden=0)

    def test_learns(self):
        model = recurrent.ColumnLSTM(2, 8, column=4, generator=seeded())
        x = torch.randn(64, 1, 4, 5, generator=seeded(1))
        y = (x[:, 0, 0, 0] > 0).long()
        history = training.fit(
            model, [(x, y)] * 20, epochs=3, optimizer=torch.optim.Adam(model.parameters(), 0.03), progress=False
        )
        assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]
