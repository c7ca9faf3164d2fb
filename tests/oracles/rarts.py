"""Slow re-implementations for RARTS: derivatives by differences, minima by linear algebra, chances by counting all."""

import itertools

import numpy as np


def l_tr(w, a):
    return w**2 - 2 * a * w + a**2


def l_va(w, a):
    return a * w - 2 * a + 1


def slope(f, x, size=1e-4):
    """Derivative of a quadratic by a central difference, exact up to rounding."""
    return (f(x + size) - f(x - size)) / (2 * size)


def second_slope(f, x, z, size=1e-3):
    """Mixed second derivative of f(x, z)."""
    corners = f(x + size, z + size) - f(x + size, z - size) - f(x - size, z + size) + f(x - size, z - size)
    return corners / (4 * size * size)


def relaxed(point, lam, beta):
    a, w, y = point
    return l_va(y, a) + lam * l_tr(w, a) + beta / 2 * (y - w) ** 2


def hessian_and_minimum(lam, beta):
    """Hessian of the relaxed loss in (a, w, y) and its critical point, from values of the loss alone."""
    origin = np.zeros(3)
    hessian, gradient = np.zeros((3, 3)), np.zeros(3)
    for i in range(3):
        unit = np.eye(3)[i]
        gradient[i] = slope(lambda t, u=unit: relaxed(origin + t * u, lam, beta), 0.0)
        for j in range(3):
            other = np.eye(3)[j]
            hessian[i, j] = second_slope(lambda s, t, u=unit, v=other: relaxed(s * u + t * v, lam, beta), 0.0, 0.0)
    return hessian, np.linalg.solve(hessian, -gradient)


def rarts_step(a, w, y, lam, beta, rate, jacobi=False):
    """One iteration, each derivative a difference of the relaxed loss."""
    loss = lambda a, w, y: relaxed((a, w, y), lam, beta)  # noqa: E731
    new_w = w - rate * slope(lambda x: loss(a, x, y), w)
    seen = w if jacobi else new_w
    new_y = y - rate * slope(lambda x: loss(a, seen, x), y)
    new_a = a - rate * slope(lambda x: loss(x, seen, y if jacobi else new_y), a)
    return new_a, new_w, new_y


def darts_step(a, w, xi, rate):
    """Alpha by the derivative of the validation loss behind one step of w, then w."""

    def ahead(a):
        return l_va(w - xi * slope(lambda x: l_tr(x, a), w), a)

    a -= rate * slope(ahead, a)
    return a, w - rate * slope(lambda x: l_tr(x, a), w)


def expected_best(scores, truth, count):
    """Mean truth of the best scorer, over all draws."""
    draws = list(itertools.combinations(scores, count))
    return sum(truth[max(draw, key=scores.get)] for draw in draws) / len(draws)


def mean_entropy(rows):
    """Mean entropy of the softmax of rows as a share of the largest."""
    found = []
    for row in np.asarray(rows, dtype=float):
        p = np.exp(row) / np.exp(row).sum()
        found.append(-sum(x * np.log(x) for x in p) / np.log(len(p)))
    return float(np.mean(found))


def filtered(signal, taps):
    """A filter with an odd number of taps, by loops."""
    half, out = len(taps) // 2, []
    for place in range(len(signal)):
        total = 0.0
        for tap, weight in enumerate(taps):
            at = place + tap - half
            total += weight * signal[at] if 0 <= at < len(signal) else 0.0
        out.append(total)
    return out


def twin_descent(x_tr, t_tr, x_va, t_va, w, y, a, lam, beta, rate):
    """One Gauss-Seidel iteration for the loss mean (a x w - t)^2 with vectors w, y and a number a, by hand."""
    gradient_w = 2 * a * x_tr.T @ (a * x_tr @ w - t_tr) / len(t_tr)
    w = w - rate * (lam * gradient_w + beta * (w - y))
    gradient_y = 2 * a * x_va.T @ (a * x_va @ y - t_va) / len(t_va)
    y = y - rate * (gradient_y + beta * (y - w))
    by_train = 2 * (x_tr @ w) @ (a * x_tr @ w - t_tr) / len(t_tr)
    by_valid = 2 * (x_va @ y) @ (a * x_va @ y - t_va) / len(t_va)
    return w, y, a - rate * (lam * by_train + by_valid)
