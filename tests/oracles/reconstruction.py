"""Layer-wise least squares, one pixel at a time, by NumPy's solver."""

import numpy as np
import torch
from torch import nn


def patches(layer, x):
    """What each output pixel of a layer reads, as rows of numbers, (N, D) float64."""
    if isinstance(layer, nn.Linear):
        return [image.tolist() for image in x.double()]
    (top, left), (step_y, step_x), (gap_y, gap_x) = layer.padding, layer.stride, layer.dilation
    high, wide = layer.kernel_size
    images, channels, rows, columns = x.shape
    padded = torch.zeros(images, channels, rows + 2 * top, columns + 2 * left, dtype=torch.float64)
    padded[:, :, top : top + rows, left : left + columns] = x
    out = []
    for image in padded:
        for y in range(0, rows + 2 * top - gap_y * (high - 1), step_y):
            for z in range(0, columns + 2 * left - gap_x * (wide - 1), step_x):
                reads = [
                    float(image[c, y + gap_y * i, z + gap_x * j])
                    for c in range(channels)
                    for i in range(high)
                    for j in range(wide)
                ]
                out.append(reads)
    return out


def least_squares(layer, x, wanted, ridge):
    """Weights (C_out, D), bias last where the layer has one, by stacked least squares with a pull to the old ones."""
    rows = np.array(patches(layer, x))
    old = layer.weight.detach().double().flatten(1).numpy()
    if layer.bias is not None:
        rows = np.hstack([rows, np.ones((len(rows), 1))])
        old = np.hstack([old, layer.bias.detach().double().numpy()[:, None]])
    targets = wanted.double().transpose(0, 1).flatten(1).T.numpy()  # (N, C_out)
    pull = np.sqrt(ridge * (rows**2).sum(0).mean())
    left = np.vstack([rows, pull * np.eye(rows.shape[1])])
    right = np.vstack([targets, pull * old.T])
    return np.linalg.lstsq(left, right, rcond=None)[0].T
