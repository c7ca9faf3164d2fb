"""What tests of several methods do to networks."""

from torch import nn


def with_statistics(model):
    """Give BatchNorms scales of both signs, shifts and statistics that are not trivial, and evaluate."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()
