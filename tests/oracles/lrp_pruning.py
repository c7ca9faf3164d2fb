"""Slow and plain: rules of relevance propagation, one contribution at a time, on layers written as dense matrices."""

import numpy as np


def z_plus(a, matrix, relevance):
    """Each output shares its relevance out among its positive contributions."""
    return alpha_beta(a, matrix, relevance, 1)


def alpha_beta(a, matrix, relevance, alpha):
    """``alpha`` times the relevance to positive, ``1 - alpha`` times to negative contributions."""
    found = np.zeros(len(a))
    for j, row in enumerate(matrix):
        parts = [a[i] * row[i] for i in range(len(a))]
        above, below = sum(p for p in parts if p > 0), sum(p for p in parts if p < 0)
        for i, part in enumerate(parts):
            if part > 0:
                found[i] += alpha * part / above * relevance[j]
            if part < 0:
                found[i] += (1 - alpha) * part / below * relevance[j]
    return found


def epsilon(a, matrix, bias, relevance, eps):
    """All contributions; the bias and ``eps`` take their part."""
    found = np.zeros(len(a))
    for j, row in enumerate(matrix):
        z = sum(a[i] * row[i] for i in range(len(a))) + bias[j]
        z += eps if z >= 0 else -eps
        for i in range(len(a)):
            found[i] += a[i] * row[i] / z * relevance[j]
    return found


def box(a, matrix, relevance, low, high):
    """Contributions measured from the bounds of the inputs."""
    found = np.zeros(len(a))
    for j, row in enumerate(matrix):
        parts = [a[i] * row[i] - low[i] * max(row[i], 0) - high[i] * min(row[i], 0) for i in range(len(a))]
        for i, part in enumerate(parts):
            found[i] += part / sum(parts) * relevance[j]
    return found


def convolution_matrix(weight, size, stride, padding, dilation, groups):
    """Write a convolution on maps (C_in, H, W) as a matrix (outputs, inputs); also its output's shape."""
    c_out, per_group, kh, kw = weight.shape
    h, w = size
    c_in = per_group * groups
    rows = (h + 2 * padding - dilation * (kh - 1) - 1) // stride + 1
    columns = (w + 2 * padding - dilation * (kw - 1) - 1) // stride + 1
    matrix = np.zeros((c_out, rows, columns, c_in, h, w))
    for j in range(c_out):
        first = j // (c_out // groups) * per_group
        for y, x, c, u, v in np.ndindex(rows, columns, per_group, kh, kw):
            yy, xx = y * stride - padding + u * dilation, x * stride - padding + v * dilation
            if 0 <= yy < h and 0 <= xx < w:
                matrix[j, y, x, first + c, yy, xx] = weight[j, c, u, v]
    return matrix.reshape(c_out * rows * columns, c_in * h * w), (c_out, rows, columns)
