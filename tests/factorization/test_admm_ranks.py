"""Ranks for a target, and the published ranks counted."""

import pytest
import torch
from compactvision import measure, models
from compactvision.factorization.admm_tensor_train import TensorTrain, decompose, published, select_ranks
from compactvision.factorization.admm_tensor_train.formats import distances
from compactvision.factorization.admm_tensor_train.selection import decomposable
from torch import nn

from published_counts import rows

SHAPE = (3, 32, 32)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class TestSelection:
    @pytest.mark.parametrize("count", ["macs", "parameters"])
    @pytest.mark.parametrize("rule", ["share", "error"])
    @pytest.mark.parametrize("factor", [1.05, 2.3, 4.0, 8.0])
    def test_reaches_the_factor_and_not_much_more(self, count, rule, factor):
        model = models.resnet20(generator=seeded()).eval()
        found = select_ranks(model, SHAPE, factor=factor, count=count, rule=rule)
        small = decompose(model, found.formats)
        counted = measure.macs(small, SHAPE) if count == "macs" else measure.parameters(small)
        assert counted == found.total
        assert factor <= found.factor < 1.03 * factor

    def test_a_shared_share_and_a_shared_error(self):
        model = models.resnet20(generator=seeded()).eval()
        shares = select_ranks(model, SHAPE, factor=2.3, rule="share")
        for name, train in shares.formats.items():
            sizes = model.get_submodule(name).weight.shape[:2]
            for rank, size in zip(train.ranks, sizes, strict=True):
                assert rank - shares.knob * size == pytest.approx(0, abs=1)
        errors = select_ranks(model, SHAPE, factor=2.3, rule="error")
        for name in errors.formats:
            weight = model.get_submodule(name).weight.detach().double()
            for matrix, rank in zip(
                (weight.flatten(1), weight.transpose(0, 1).flatten(1)), errors.formats[name].ranks, strict=True
            ):
                energy = torch.linalg.svdvals(matrix).square()
                lost = [(energy[k:].sum() / energy.sum()).sqrt() for k in (rank, rank - 1)]
                assert lost[0] <= 1 - errors.knob + 1e-9
                assert lost[1] > 1 - errors.knob - 0.02  # one rank fewer loses more, up to the last step

    def test_spectra_decide_where_they_differ(self):
        """The kernel of one layer has rank 2: by its error it needs no more, by its share it gets as much as others."""
        model = models.resnet20(generator=seeded()).eval()
        poor = model.layer2[1].conv1
        poor.weight.data = TensorTrain((2, 2)).project(poor.weight.data)
        by = {rule: select_ranks(model, SHAPE, factor=2.3, rule=rule).formats for rule in ("share", "error")}
        assert by["error"]["layer2.1.conv1"].ranks == (2, 2)
        assert by["share"]["layer2.1.conv1"].ranks[0] > 10
        far = [max(distances(model, formats).values()) for formats in (by["error"], by["share"])]
        assert far[0] < far[1]

    def test_layers_that_would_grow_stay_dense(self):
        model = models.resnet20(generator=seeded()).eval()
        found = select_ranks(model, SHAPE, factor=1.001)
        assert len(found.formats) < 18
        assert all(measure.macs(decompose(model, {n: f}), SHAPE) < found.dense for n, f in found.formats.items())

    def test_what_is_left_alone(self):
        model = models.imagenet("resnet18")
        names = decomposable(model, (3, 64, 64))
        assert len(names) == 16
        assert names[0] == "layer1.0.conv1"
        assert not any("downsample" in name for name in names)
        mobile = decomposable(models.imagenet("mobilenet_v2"), (3, 32, 32))
        assert mobile == []

    def test_a_layer_that_runs_twice_counts_twice(self):
        class Twice(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.conv = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)

            def forward(self, x):
                return self.conv(self.conv(self.first(x)))

        model = Twice()
        found = select_ranks(model, (3, 8, 8), factor=1.8)
        assert measure.macs(decompose(model, found.formats), (3, 8, 8)) == found.total

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"factor": 1.0}, "factor must be above 1 and finite, got 1.0"),
            ({"factor": 99.0}, "factor: ranks of 1 reach .*, not 99.0"),
            ({"factor": 2.0, "count": "flops"}, "count must be one of .*, got 'flops'"),
            ({"factor": 2.0, "rule": "best"}, "rule must be one of .*, got 'best'"),
            ({"factor": 2.0, "layers": ["bn1"]}, "layers: 'bn1' is no convolution without groups"),
            ({"factor": 2.0, "layers": ["none"]}, "layers: 'none' is no convolution without groups"),
        ],
    )
    def test_refuses(self, options, message):
        with pytest.raises(ValueError, match=message):
            select_ranks(models.resnet20(), SHAPE, **options)


COUNTED = rows(  # parameters, MACs, dense over decomposed: parameters, MACs, MACs of the decomposed layers
    """
    ResNet-32, TT         |    166_664 |    46_991_872 | 2.785 | 1.465 | 1.470
    ResNet-32, Tucker 2x  |    176_794 |             - | 2.625 |     - |     -
    ResNet-32, Tucker 3x  |    164_185 |    47_412_800 | 2.827 | 1.452 | 1.457
    ResNet-32, Tucker 5x  |     92_905 |    27_481_856 | 4.996 | 2.506 | 2.530
    ResNet-56, TT         |    275_266 |    71_132_800 | 3.099 | 1.764 | 1.769
    ResNet-18, TT special |  4_230_481 |   787_644_276 | 2.763 | 2.303 | 2.579
    ResNet-18, TT general |  4_226_689 |   882_247_596 | 2.766 | 2.056 | 2.252
    ResNet-18, Tucker     |  3_909_128 |   818_566_804 | 2.990 | 2.216 | 2.462
    ResNet-50, TT special |  9_517_360 | 2_209_348_648 | 2.685 | 1.851 | 2.885
    ResNet-50, TT general | 10_187_501 | 2_401_016_411 | 2.509 | 1.703 | 2.420
    """
)


class TestPublished:
    @pytest.mark.parametrize("name", COUNTED)
    def test_counts(self, name):
        counts = published.count(published.TABLES[name])
        found = counts.parameters[1], counts.macs[1], *(round(factor, 3) for factor in counts.factors)
        for one, expected in zip(found, COUNTED[name], strict=True):
            assert expected is None or one == expected

    def test_every_table_is_counted(self):
        assert set(published.TABLES) == set(COUNTED)

    def test_layers_that_grow_and_ranks_that_are_not_possible(self):
        counts = published.count(published.TABLES["ResNet-32, TT"])
        assert counts.larger == (*(f"layer1.{i}.conv{j}" for i in range(5) for j in (1, 2)), "layer2.0.conv1")
        assert counts.clipped == ()
        assert published.count(published.TABLES["ResNet-32, Tucker 3x"]).clipped == ("layer2.0.conv1",)
        counts = published.count(published.TABLES["ResNet-50, TT special"])
        assert counts.clipped == (*(f"layer3.{i}.conv1" for i in range(6)), *(f"layer4.{i}.conv1" for i in range(3)))

    def test_the_impossible_rank_explains_another_count(self):
        """With an input rank of 20 for 16 channels, the layer would have 928 parameters more."""
        assert 16 * 20 + 9 * 24 * 20 - 16 * 16 - 9 * 24 * 16 == 928
        assert COUNTED["ResNet-32, Tucker 3x"][0] + 928 == 165_113

    def test_later_rows_override_earlier_ones(self):
        table = published.TABLES["ResNet-32, TT"]
        formats = table.formats(table.build())
        assert len(formats) == 30
        assert formats["layer3.2.conv1"].ranks == (8, 27, 27, 8)
        assert formats["layer3.2.conv2"].ranks == (8, 28, 28, 8)
        assert formats["layer2.0.conv1"] == TensorTrain((8, 32, 16, 4), (8, 4), (4, 4))
        assert formats["layer2.1.conv1"] == TensorTrain((8, 16, 16, 8), (8, 4), (4, 8))
