import pytest
import torch
from compactvision import measure, models
from compactvision.models.googlenet_cifar import INCEPTIONS, GoogLeNet, Inception
from torch import nn


def test_googlenet_has_the_published_counts():
    with torch.device("meta"):
        model = models.googlenet()
    assert measure.parameters(model) == 6_166_250
    assert measure.macs(model, (3, 32, 32)) == 1_521_756_160


def test_it_has_64_convolutions_each_followed_by_batchnorm_and_relu():
    model = models.googlenet()
    for kind in (nn.Conv2d, nn.BatchNorm2d, nn.ReLU):
        assert sum(isinstance(module, kind) for module in model.modules()) == 64
    assert all(module.bias is not None for module in model.modules() if isinstance(module, nn.Conv2d))
    assert not any(module.inplace for module in model.modules() if isinstance(module, nn.ReLU))


def test_an_inception_concatenates_its_branches_in_order():
    inception = Inception(4, (3, 2, 5, 2, 6, 7)).eval()
    x = torch.randn(2, 4, 8, 8)
    out = inception(x)
    assert out.shape == (2, 3 + 5 + 6 + 7, 8, 8)
    torch.testing.assert_close(out[:, 3:8], inception.branch2(x), rtol=0, atol=0)
    torch.testing.assert_close(out[:, 14:], inception.branch4(x), rtol=0, atol=0)


def test_the_modules_widths_add_up():
    totals = [one + three + five + pool for one, _, three, _, five, pool in INCEPTIONS.values()]
    assert totals == [256, 480, 512, 512, 512, 528, 832, 832, 1024]
    assert models.googlenet().a5.branch1[0].in_channels == 832


def test_maps_have_32_16_and_8_pixels():
    model, sizes = models.googlenet().eval(), {}
    for name in ("b3", "e4", "b5"):
        getattr(model, name).register_forward_hook(lambda _, __, out, name=name: sizes.update({name: out.shape[-1]}))
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert sizes == {"b3": 32, "e4": 16, "b5": 8}


@pytest.mark.parametrize("name", ["num_classes", "in_channels"])
def test_a_count_below_one_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        GoogLeNet(**{name: 0})
