"""Slow and plain: energies of feature maps, one channel and one image at a time, in NumPy's float64."""

import numpy as np


def nuclear_norm(matrix):
    """Trace of the square root of ``A^T A``, by the eigenvectors of that matrix; no singular values anywhere."""
    values, vectors = np.linalg.eigh(matrix.T @ matrix)
    root = vectors @ np.diag(np.sqrt(np.maximum(values, 0))) @ vectors.T
    return np.trace(root)


def batch_energy(maps):
    """One matrix of images times pixels for each channel."""
    b, c, h, w = maps.shape
    energies = []
    for j in range(c):
        rows = [[maps[n, j, y, x] for y in range(h) for x in range(w)] for n in range(b)]
        energies.append(nuclear_norm(np.array(rows)))
    return np.array(energies)


def image_energy(maps):
    """One matrix for each channel and image, averaged over images."""
    b, c, _, _ = maps.shape
    return np.array([sum(nuclear_norm(maps[n, j]) for n in range(b)) / b for j in range(c)])


def mean_rank(maps):
    """Number of pivots of Gaussian elimination with full pivoting, averaged over images."""
    b, c, _, _ = maps.shape
    return np.array([sum(pivots(maps[n, j]) for n in range(b)) / b for j in range(c)])


def pivots(matrix, tolerance=1e-9):
    """Rank of a matrix by elimination."""
    rest, found = np.array(matrix, dtype=float), 0
    while rest.size:
        row, column = np.unravel_index(np.abs(rest).argmax(), rest.shape)
        pivot = rest[row, column]
        if abs(pivot) <= tolerance * max(1.0, np.abs(matrix).max()):
            break
        found += 1
        reduced = rest - np.outer(rest[:, column], rest[row]) / pivot
        rest = np.delete(np.delete(reduced, row, 0), column, 1)
    return found
