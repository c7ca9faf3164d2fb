"""A deeper network that starts as the same function."""

import pytest
import torch
from compactvision import baselines, models
from compactvision.models import shipped


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_same_logits_and_trainable_new_blocks(shortcut):
    small = models.ResNet(2, 7, shortcut=shortcut, width=4, in_channels=1).eval()
    with torch.no_grad():
        for module in small.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2)
                module.bias.uniform_(-0.5, 0.5)
    deep = models.deepened(small, 5)
    inputs = torch.randn(3, 1, 32, 32)
    assert len(deep.layer2) == 5
    assert not deep.training
    torch.testing.assert_close(deep(inputs), small(inputs), rtol=1e-5, atol=1e-6)
    deep.train()(inputs).square().sum().backward()
    assert all(block.bn2.weight.grad.abs().sum() > 0 for block in deep.layer3)


def test_fewer_blocks_are_refused():
    with pytest.raises(ValueError, match="blocks must be at least the model's 2, got 1"):
        models.deepened(models.ResNet(2, width=4), 1)


def test_the_recipe_starts_from_what_is_shipped():
    recipe = baselines.RECIPES["resnet56_cifar10"]
    start, source = baselines._initial("resnet56_cifar10", recipe).eval(), shipped.pretrained(recipe.grown_from)
    inputs = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(start(inputs), source(inputs), rtol=1e-4, atol=1e-4)
