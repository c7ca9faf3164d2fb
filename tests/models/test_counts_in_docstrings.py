"""The counts that the docstrings state are those of the networks."""

import re

import pytest
import torch
from compactvision import measure, models

BUILDERS = (
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
    "vgg11_bn",
    "vgg13_bn",
    "vgg16_bn",
    "vgg19_bn",
    "small_cnn",
)


def build(name, **options):
    with torch.device("meta"):  # counting needs shapes only
        return getattr(models, name)(**options)


def stated(text, unit):
    return [int(number.replace(",", "")) for number in re.findall(rf"([\d,]+) {unit}", text)]


@pytest.mark.parametrize("name", BUILDERS)
def test_docstring_states_the_measured_counts(name):
    text = getattr(models, name).__doc__
    network = build(name)
    assert stated(text, "parameters")[0] == measure.parameters(network)
    assert stated(text, "MACs")[0] == measure.macs(network, (3, 32, 32))


def test_docstring_of_vgg16_states_the_counts_of_its_variants():
    text = models.vgg16_bn.__doc__
    biased, hidden = build("vgg16_bn", conv_bias=True), build("vgg16_bn", conv_bias=True, hidden=512)
    assert stated(text, "parameters")[1:] == [measure.parameters(biased), measure.parameters(hidden)]
    assert stated(text, "MACs")[1:] == [measure.macs(hidden, (3, 32, 32))]


@pytest.mark.parametrize(
    ("name", "options", "parameters", "macs"),
    [
        ("resnet20", {}, 269_722, 40_551_040),
        ("resnet20", {"num_classes": 100}, 275_572, 40_556_800),
        ("resnet32", {}, 464_154, 68_862_592),
        ("resnet32", {"num_classes": 100}, 470_004, 68_868_352),
        ("resnet56", {}, 853_018, 125_485_696),
        ("resnet110", {}, 1_727_962, 252_887_680),
        ("vgg16_bn", {}, 14_724_042, 313_201_664),
        ("vgg16_bn", {"num_classes": 100}, 14_770_212, 313_247_744),
        ("vgg16_bn", {"conv_bias": True}, 14_728_266, 313_201_664),
        ("vgg16_bn", {"conv_bias": True, "hidden": 512}, 14_991_946, 313_463_808),
        ("vgg19_bn", {}, 20_035_018, 398_136_320),
        ("vgg19_bn", {"num_classes": 100}, 20_081_188, 398_182_400),
    ],
)
def test_published_counts(name, options, parameters, macs):
    network = build(name, **options)
    assert measure.parameters(network) == parameters
    assert measure.macs(network, (3, 32, 32)) == macs


def test_option_b_adds_two_projections_with_batch_norm():
    plain, projected = build("resnet20"), build("resnet20", shortcut="B")
    weights = 16 * 32 + 32 * 64
    assert measure.parameters(projected) - measure.parameters(plain) == weights + 2 * 32 + 2 * 64
    assert measure.macs(projected, (3, 32, 32)) - measure.macs(plain, (3, 32, 32)) == 16 * 32 * 256 + 32 * 64 * 64
