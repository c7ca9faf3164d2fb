"""A CIFAR ResNet written out once more, with a mask at each place where channels can be removed."""

import torch
import torch.nn.functional as F


def masked_resnet(model, x, *, inner=None, streams=None, branches=None, reads=None):
    """Run ``model`` (basic blocks) on ``x``; all masks are 0/1 vectors, missing ones are ones.

    inner[block]: behind the first ReLU of the block. streams[stage]: the whole residual stream of a stage (0 to 2), the
    stem's output included. branches[block]: behind the second BatchNorm, before the sum. reads[block] and reads["fc"]:
    what the block's first convolution, or the classifier, sees of the stream.
    """
    x = _mask(torch.relu(_norm(model.bn1, _conv(model.conv1, x))), streams, 0)
    for stage in range(3):
        for index, block in enumerate(getattr(model, f"layer{stage + 1}")):
            name = f"layer{stage + 1}.{index}"
            out = torch.relu(_norm(block.bn1, _conv(block.conv1, _mask(x, reads, name))))
            out = _norm(block.bn2, _conv(block.conv2, _mask(out, inner, name)))
            out = _mask(out, branches, name) + _shortcut(block, x, out)
            x = _mask(torch.relu(out), streams, stage)
    pooled = x.mean(dim=(2, 3))
    if reads and "fc" in reads:
        pooled = pooled * reads["fc"]
    return pooled @ model.fc.weight.T + model.fc.bias


def _mask(x, masks, key):
    return x * masks[key][None, :, None, None] if masks and key in masks else x


def _conv(conv, x):
    return F.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding)


def _norm(norm, x):
    mean, scale = norm.running_mean, norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return (x - mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]


def _shortcut(block, x, out):
    if x.shape == out.shape:
        return x
    if isinstance(block.shortcut, torch.nn.Sequential):
        return _norm(block.shortcut[1], _conv(block.shortcut[0], x))
    padded = torch.zeros_like(out)
    before = (out.shape[1] - x.shape[1]) // 2
    padded[:, before : before + x.shape[1]] = x[:, :, ::2, ::2]
    return padded
