"""The networks of filter fusion against published counts and widths."""

import pytest
import torch
from compactvision import measure, models, surgery
from compactvision.pruning import dcff
from compactvision.pruning.dcff import published
from torch import nn

from published_counts import rows

WIDTHS = {
    "VGG-16": (32, 32, 76, 76, 166, 166, 166, 76, 76, 76, 76, 76, 76),
    "ResNet-56": (4, 4, 8, 8, 8, 11, 11, 9, 3, 9, 9, 6, 6, 6, 6, 19, 25, 25, 19, 44, 12, 38, 38, 19, 44, 38, 12),
}


COUNTS = rows(  # MACs, FLOPs as printed in millions, parameters; printed cuts of FLOPs and parameters in per cent
    """
    VGG-16           |    72_349_240 |   72.77 |  1_071_248 | 76.83 | 92.73
    ResNet-56        |    55_057_024 |   55.84 |    384_316 | 55.88 | 54.95
    ResNet-110       |    84_117_632 |   85.30 |    555_368 | 66.55 | 67.86
    GoogLeNet        |   451_471_104 |  457.22 |  2_079_250 | 70.11 | 66.28
    ResNet-50, 0.96B |   944_655_560 |  958.07 |  7_403_402 | 76.70 | 71.03
    ResNet-50, 1.49B | 1_474_688_936 | 1490.51 | 10_581_581 | 63.75 | 58.60
    ResNet-50, 2.25B | 2_230_363_049 | 2248.78 | 15_163_623 | 45.30 | 40.67
    ResNet-50, 1.52B | 1_507_328_000 | 1522.96 | 11_047_336 | 62.96 | 56.77
    ResNet-50, 1.38B | 1_366_013_323 | 1380.92 | 11_813_898 | 66.41 | 53.77
    ResNet-50, 1.02B | 1_010_465_452 | 1023.26 |  6_560_781 | 75.11 | 74.33
    """
)


class TestPublishedNetworks:
    @pytest.mark.parametrize("name", COUNTS)
    def test_counts(self, name):
        macs, flops, parameters, less_flops, less_parameters = COUNTS[name]
        narrow = published.narrow_network(name, device="meta").eval()
        full = published.full_network(name, device="meta").eval()
        image = (3, *[published.PUBLISHED[name].side] * 2)
        assert measure.macs(narrow, image) == macs
        assert measure.parameters(narrow) == parameters
        counted = measure.macs(narrow, image, convention="thop")
        assert round(counted / 1e6, 2) == flops
        whole = measure.macs(full, image, convention="thop")
        assert round(100 * (1 - counted / whole), 2) == less_flops
        assert round(100 * (1 - parameters / measure.parameters(full)), 2) == less_parameters

    def test_the_printed_parameters_of_vgg_differ(self):
        narrow = published.narrow_network("VGG-16", device="meta")
        assert round(measure.parameters(narrow) / 1e6, 2) == 1.07  # printed: 1.06

    def test_vgg_by_hand(self):
        narrow = published.narrow_network("VGG-16", device="meta").eval()
        layers = [884736, 9437184, 5603328, 13307904, 7266816, 15872256, 15872256, 1816704, 831744, 831744]
        found = list(measure.macs_by_module(narrow, (3, 32, 32)).values())
        assert found == [*layers, 207936, 207936, 207936, 760]
        assert measure.macs(narrow, (3, 32, 32), convention="thop") == sum(found) + 140_880 + 281_760 + 76

    @pytest.mark.parametrize("name", WIDTHS)
    def test_widths(self, name):
        narrow = published.narrow_network(name, device="meta")
        convs = {path: module for path, module in narrow.named_modules() if isinstance(module, nn.Conv2d)}
        inner = [conv.out_channels for path, conv in convs.items() if name == "VGG-16" or path.endswith(".conv1")]
        assert tuple(inner) == WIDTHS[name]

    def test_stages_of_resnet110(self):
        narrow = published.narrow_network("ResNet-110")
        found = [narrow.conv1.out_channels, *(stage[5].conv2.out_channels for stage in (narrow.layer2, narrow.layer3))]
        assert found == [6, 25, 32]
        assert narrow.layer2[0].shortcut.source.tolist() == [-1] * 9 + list(range(6)) + [-1] * 10

    def test_float_trap(self):
        assert [published.width(160, rate) for rate in (0.9, 0.8, 0.0)] == [15, 31, 160]
        assert published.width(3, 0.9) == 1

    def test_builder_equals_surgery(self):
        """Where stages stay whole both ways lead to the same network."""
        full = models.ResNet(2)
        inner = (5, 4, 20, 11, 30, 2)
        blocks = [f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in (0, 1)]
        cut = published.narrowed(full, dict(zip(blocks, inner, strict=True)), (3, 16, 16))
        built = published.narrow_resnet((16, 32, 64), inner)
        assert {k: v.shape for k, v in cut.state_dict().items()} == {k: v.shape for k, v in built.state_dict().items()}
        built.load_state_dict(cut.state_dict())
        x = torch.randn(2, 3, 16, 16)
        torch.testing.assert_close(built.eval()(x), cut.eval()(x))

    def test_published_networks_can_be_fused(self):
        full = published.full_network("ResNet-50, 1.49B", device="meta")
        narrow = published.narrow_network("ResNet-50, 1.49B", device="meta")
        layers = [name for name, _, module in surgery.named_layers(full) if isinstance(module, nn.Conv2d)]
        layers = [name for name in layers if "downsample" not in name]  # ordinary in the published network
        model = dcff.fuse(narrow, full, layers=layers)
        assert len(list(dcff.fused_layers(model))) == 49
        assert measure.parameters(dcff.compact(model)) == 10_581_581


def _narrowed(widths):
    return published.narrowed(models.small_cnn(4, (8, 8)), widths, (3, 8, 8))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: published.width(4, 1.0), "channels must be at least 1 and rate in"),
        (lambda: published.width(0, 0.5), "channels must be at least 1"),
        (lambda: published.width(4.0, 0.5), "channels must be a whole number, got 4.0"),
        (lambda: published.width(4, "half"), "rate must be a number, got 'half'"),
        (lambda: published.narrow_network(["VGG-16"]), r"name must be one of VGG-16, .* got \['VGG-16'\]"),
        (lambda: published.full_network("VGG-16", device="nowhere"), "device must name one that is here"),
        (lambda: published.narrow_network("VGG-16", device=None), "device must name one .* got None"),
        (lambda: published.narrow_resnet((4, 4.5, 16), (1, 1, 1)), r"stages\[1\] must be a whole number, got 4.5"),
        (lambda: published.narrow_resnet((4, 4, 16), 3), "inner must be a sequence of whole numbers, got 3"),
        (lambda: _narrowed([4]), "widths must be a mapping"),
        (lambda: _narrowed({"features.0": 0}), r"widths\['features.0'\] must be at least 1, got 0"),
        (lambda: _narrowed({"features.0": 9}), "widths: "),
        (lambda: _narrowed({"features": 1}), "widths: group: 'features' is no group"),
        (lambda: published.narrow_network("LeNet"), "name must be one of VGG-16, .* got 'LeNet'"),
        (lambda: published.narrow_resnet((8, 4, 16), (1, 1, 1)), "stages must be three ascending counts"),
        (lambda: published.narrow_resnet((4, 4, 16), (1, 1)), "inner must be counts for three stages"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_one_channel_stays_one():
    assert published.width(1, 0.0) == published.width(1, 0.9) == 1
