"""Slow, plain counts of multiply-accumulates."""

import itertools

from torch import nn


def convolution_by_positions(height, width, kernel, stride, padding, dilation, in_channels, out_channels, groups):
    """Walk over every position of the kernel that stays inside the padded image; one square kernel."""
    reach = dilation * (kernel - 1)
    rows = range(-padding, height + padding - reach, stride)
    columns = range(-padding, width + padding - reach, stride)
    count = 0
    for _row, _column, _i, _j in itertools.product(rows, columns, range(kernel), range(kernel)):
        count += in_channels // groups * out_channels
    return count


def transposed_by_positions(height, width, kernel, in_channels, out_channels, groups):
    """Every input pixel spreads one kernel over the output channels of its group."""
    count = 0
    for _pixel, _i, _j in itertools.product(range(height * width), range(kernel), range(kernel)):
        count += in_channels * (out_channels // groups)
    return count


def by_module_hooks(model, inputs):
    """Multiply-accumulates of the Conv2d and Linear modules that run, per module, for a batch of one."""
    counts, handles = {}, []

    def hook(name, module, output):
        if isinstance(module, nn.Conv2d):
            k_h, k_w = module.kernel_size
            _, channels, height, width = output.shape
            counts[name] = channels * height * width * (module.in_channels // module.groups) * k_h * k_w
        else:
            counts[name] = module.in_features * output.numel()

    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            handles.append(module.register_forward_hook(lambda m, _, o, name=name: hook(name, m, o)))
    model(inputs)
    for handle in handles:
        handle.remove()
    return counts
