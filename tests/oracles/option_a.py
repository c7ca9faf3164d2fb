"""Slow, plain versions of the parameter-free shortcut."""

import torch


def channel_map(x, source, stride):
    """Copy the channels one by one."""
    x = x[:, :, ::stride, ::stride]
    out = torch.zeros(x.shape[0], len(source), *x.shape[2:], dtype=x.dtype)
    for channel, origin in enumerate(source):
        if origin != -1:
            out[:, channel] = x[:, origin]
    return out


def padded(x, planes):
    """The line that most CIFAR implementations share: a quarter of the new channels as zeros on either side."""
    return torch.nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, planes // 4, planes // 4), "constant", 0)
