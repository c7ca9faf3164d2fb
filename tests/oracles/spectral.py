"""Fourier transforms by their definition, and what the spectral layers and AFIDAF's filters do with them, in loops."""

import numpy as np


def transform(x, inverse=False):
    """The whole orthonormal spectrum (C, H, W) of maps (C, H, W), by two matrices of roots of unity."""
    sign = 1 if inverse else -1
    height, width = x.shape[-2:]
    rows = np.exp(sign * 2j * np.pi * np.outer(np.arange(height), np.arange(height)) / height) / np.sqrt(height)
    columns = np.exp(sign * 2j * np.pi * np.outer(np.arange(width), np.arange(width)) / width) / np.sqrt(width)
    return rows @ x @ columns.T


def convolve(x, kernel):
    """Circular convolution of (H, W) with (h, w) by its sum."""
    height, width = x.shape
    y = np.zeros_like(x)
    for (i, j), weight in np.ndenumerate(kernel):
        for p in range(height):
            for q in range(width):
                y[p, q] += weight * x[(p - i) % height, (q - j) % width]
    return y


def complex_of(parameter):
    """A parameter (..., 2) as complex numbers."""
    array = parameter.detach().numpy()
    return array[..., 0] + 1j * array[..., 1]


def silu(x):
    return x / (1 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


def mlp(module, frequencies, activation):
    """Two complex layers at each frequency, group by group, channel by channel."""
    weights, biases = complex_of(module.weights), complex_of(module.biases)
    channels, height, width = frequencies.shape
    size = channels // module.groups
    found = np.zeros_like(frequencies)
    for u in range(height):
        for v in range(width):
            for g in range(module.groups):
                state = [frequencies[g * size + i, u, v] for i in range(size)]
                for layer in (0, 1):
                    state = [
                        sum(state[i] * weights[layer, g, i, o] for i in range(size)) + biases[layer, g, o]
                        for o in range(size)
                    ]
                    if layer == 0:
                        state = [activation(z.real) + 1j * activation(z.imag) for z in state]
                found[g * size : (g + 1) * size, u, v] = state
    return found


def shrink(x, threshold):
    return np.sign(x) * np.maximum(np.abs(x) - threshold, 0)


def masked(z, threshold):
    return shrink(z.real, threshold) + 1j * shrink(z.imag, threshold)


def half(spectrum, width):
    return spectrum[..., : width // 2 + 1]


def back(frequencies, width):
    """Maps of a half spectrum: the missing half is the mirror image, and what stands alone becomes real."""
    height = frequencies.shape[-2]
    whole = np.zeros((*frequencies.shape[:-1], width), dtype=complex)
    for u in range(height):
        for v in range(width):
            mirror = (-u % height, -v % width)
            if v < frequencies.shape[-1]:
                value = frequencies[..., u, v]
                if mirror[1] == v:  # this column holds its own mirror image
                    value = (value + np.conj(frequencies[..., mirror[0], v])) / 2
                whole[..., u, v] = value
            else:
                whole[..., u, v] = np.conj(frequencies[..., mirror[0], mirror[1]])
    return transform(whole, inverse=True).real


def fourier_filter(module, x):
    """AFF on one picture (C, H, W)."""
    frequencies = half(transform(x), x.shape[-1])
    mask = masked(mlp(module.mlp, frequencies, silu), module.threshold)
    return back(mask * frequencies, x.shape[-1]) + x


def afno(module, x):
    frequencies = half(transform(x), x.shape[-1])
    return back(masked(mlp(module.mlp, frequencies, relu), module.threshold), x.shape[-1]) + x


def grouped(conv, x):
    """A pointwise convolution with groups on (C, H, W)."""
    weight, bias = conv.weight.detach().numpy()[:, :, 0, 0], conv.bias.detach().numpy()
    ins, outs = x.shape[0] // conv.groups, len(weight) // conv.groups
    return np.stack(
        [np.tensordot(weight[o], x[o // outs * ins : (o // outs + 1) * ins], 1) + bias[o] for o in range(len(weight))]
    )


def depthwise(conv, x):
    """One window for each channel, zeros outside."""
    weight, bias = conv.weight.detach().numpy()[:, 0], conv.bias.detach().numpy()
    step, pad = conv.dilation[0], conv.padding[0]
    y = np.zeros_like(x)
    for c in range(len(x)):
        for p in range(x.shape[1]):
            for q in range(x.shape[2]):
                total = bias[c]
                for (i, j), w in np.ndenumerate(weight[c]):
                    row, column = p + i * step - pad, q + j * step - pad
                    if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                        total += w * x[c, row, column]
                y[c, p, q] = total
    return y


def shuffled(x, groups):
    size = len(x) // groups
    return np.stack([x[g * size + i] for i in range(size) for g in range(groups)])


def image_filter(module, x, gelu):
    """IDAF on one picture (C, H, W)."""
    u = x if module.before is None else gelu(shuffled(grouped(module.before, x), module.groups))
    gated = u * grouped(module.point, depthwise(module.far, depthwise(module.near, u)))
    return x + (gated if module.after is None else shuffled(grouped(module.after, gated), module.groups))
