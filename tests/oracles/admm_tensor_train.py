"""Slow and plain: tensor trains entry by entry, and ADMM with a projection, in NumPy's float64."""

import itertools

import numpy as np


def tt_svd(tensor, ranks):
    """Return cores by one full SVD for each cut, from the left, as the specification writes it."""
    modes, cores, left = tensor.shape, [], 1
    rest = np.array(tensor, dtype=np.float64)
    for mode, rank in zip(modes[:-1], ranks, strict=True):
        u, s, vh = np.linalg.svd(rest.reshape(left * mode, -1), full_matrices=True)
        rank = min(rank, len(s))
        cores.append(np.array([[[u[a * mode + i, b] for b in range(rank)] for i in range(mode)] for a in range(left)]))
        rest = np.array([[s[b] * vh[b, j] for j in range(vh.shape[1])] for b in range(rank)])
        left = rank
    return [*cores, rest.reshape(left, modes[-1], 1)]


def entry(cores, index):
    """Return one entry of a tensor train: a product of matrices."""
    product = np.eye(1)
    for core, i in zip(cores, index, strict=True):
        product = product @ core[:, i, :]
    return product[0, 0]


def tensor(cores):
    """Return the whole tensor, entry by entry."""
    full = np.zeros([core.shape[1] for core in cores])
    for index in itertools.product(*map(range, full.shape)):
        full[index] = entry(cores, index)
    return full


def kernel(cores, out_modes, in_modes, height, width):
    """Return the kernel (O, I, K_h, K_w) of cores in the order outputs, position, inputs; last index fastest."""
    outs, ins = np.prod(out_modes), np.prod(in_modes)
    full = np.zeros((outs, ins, height, width))
    for o, i, y, x in itertools.product(range(outs), range(ins), range(height), range(width)):
        place = np.unravel_index(o, out_modes), (y * width + x,), np.unravel_index(i, in_modes)
        full[o, i, y, x] = entry(cores, [index for part in place for index in part])
    return full


def convolution(x, weight, bias, stride, padding, dilation):
    """Return a convolution of one image (I, H, W) with loops; padding by zeros, ((top, bottom), (left, right))."""
    x = np.pad(x, ((0, 0), *padding))
    outs, _, height, width = weight.shape
    rows = (x.shape[1] - dilation[0] * (height - 1) - 1) // stride[0] + 1
    columns = (x.shape[2] - dilation[1] * (width - 1) - 1) // stride[1] + 1
    out = np.zeros((outs, rows, columns))
    for o, row, column in itertools.product(range(outs), range(rows), range(columns)):
        total = 0.0 if bias is None else bias[o]
        for y, c in itertools.product(range(height), range(width)):
            total += weight[o, :, y, c] @ x[:, row * stride[0] + y * dilation[0], column * stride[1] + c * dilation[1]]
        out[o, row, column] = total
    return out


def admm(gradient, weight, project, rho, learning_rate, steps_per_epoch, epochs):
    """Return (W, Z, U) of plain gradient descent with the published schedule: Z and U at the start of each epoch."""
    w, z, u = weight.copy(), project(weight), np.zeros_like(weight)
    for _ in range(epochs):
        z = project(w + u)
        u = u + w - z
        for _ in range(steps_per_epoch):
            w = w - learning_rate * (gradient(w) + rho * (w - z + u))
    return w, z, u
