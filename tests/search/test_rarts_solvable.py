"""The solvable model: the specification's numbers, limits, iterates, the boundary, monotone losses."""

import itertools
import math

import numpy as np
import pytest
from compactvision.search.rarts import solvable
from hypothesis import given
from hypothesis import strategies as st

from oracles import rarts as oracle

LIMITS = {  # (lambda, beta): D, (alpha, w, y)
    (1, 1): (1, (4, 2, -2)),
    (1, 10): (28, (1.428571, 0.714286, 0.571429)),
    (10, 1): (19, (2.105263, 2, -0.105263)),
    (10, 10): (370, (1.081081, 1.027027, 0.918919)),
    (100, 100): (39_700, (1.007557, 1.002519, 0.992443)),
    (0.5, 2): (1, (4, 0, -2)),
}


class TestLimits:
    @pytest.mark.parametrize(("numbers", "expected"), LIMITS.items())
    def test_of_rarts(self, numbers, expected):
        assert solvable.determinant(*numbers) == pytest.approx(expected[0], abs=1e-12)
        limit = solvable.rarts_limit(*numbers)
        assert limit == pytest.approx(expected[1], abs=6e-7)
        assert solvable.relaxed_loss(limit, *numbers) == pytest.approx(1 - limit.alpha)

    @given(lam=st.floats(0.3, 50), beta=st.floats(0.3, 50))
    def test_are_the_minimum_of_the_relaxed_loss(self, lam, beta):
        hessian, minimum = oracle.hessian_and_minimum(lam, beta)
        value = solvable.determinant(lam, beta)
        assert np.linalg.det(hessian) == pytest.approx(value, rel=1e-5, abs=1e-4 * (lam + beta) ** 2)
        if value > 0.2:
            assert np.linalg.eigvalsh(hessian).min() > 0
            assert solvable.rarts_limit(lam, beta) == pytest.approx(minimum, rel=1e-3, abs=1e-3)
        elif value < -0.2:
            assert np.linalg.eigvalsh(hessian).min() < 0

    @pytest.mark.parametrize(
        ("unroll", "end"), [(0, 2), (0.01, 1.960784), (0.1, 1.666667), (0.3, 1.25), (0.5, 1), (0.7, 0.833333)]
    )
    def test_of_darts(self, unroll, end):
        assert solvable.darts_limit(unroll) == pytest.approx((end,) * 3, abs=6e-7)

    def test_of_the_single_level(self):
        assert solvable.single_level_limit(1).alpha == pytest.approx(4 / 3)
        limit = solvable.single_level_limit(10)
        assert limit == pytest.approx((1.025641, 0.974359, 0.974359), abs=6e-7)
        assert abs(limit.alpha - 1) < abs(solvable.rarts_limit(10, 10).alpha - 1)

    @pytest.mark.parametrize("lam", [0.3, 1, 10])
    def test_a_strong_spring_is_the_single_level(self, lam):
        assert solvable.rarts_limit(lam, 1e9) == pytest.approx(solvable.single_level_limit(lam), rel=1e-6)

    def test_both_couplings_large_is_the_truth(self):
        assert solvable.rarts_limit(1e6, 1e6) == pytest.approx((1, 1, 1), abs=1e-5)
        ten, hundred = (solvable.rarts_limit(x, x).alpha - 1 for x in (10, 100))
        assert (ten, hundred) == pytest.approx((0.081081, 0.007557), abs=1e-6)  # near 1/(4 lambda) + 1/(2 beta)

    @pytest.mark.parametrize("numbers", [(0.3, 1), (0.25, 100), (10, 0.5), (1, 2 / 3), (0, 1), (1, 0)])
    def test_without_a_minimum_are_refused(self, numbers):
        assert solvable.determinant(*numbers) <= 1e-12
        with pytest.raises(ValueError, match=r"training_weight .* have D = .* has no minimum"):
            solvable.rarts_limit(*numbers)

    @pytest.mark.parametrize("lam", [0.25, 0.1, 0])
    def test_the_single_level_without_a_minimum_is_refused(self, lam):
        with pytest.raises(ValueError, match="training_weight must be above 1/4"):
            solvable.single_level_limit(lam)


class TestIterates:
    def test_first_three_of_rarts(self):
        points = solvable.rarts_iterates(3)
        expected = [
            (2, -2, -2),
            (1.3994, -1.2, -1.94),
            (1.00705006, -0.75412, -1.835406),
            (0.7407665, -0.51001459, -1.71293736),
        ]
        for point, wanted in zip(points, expected, strict=True):
            assert point == pytest.approx(wanted, abs=1e-7)
        losses = [solvable.relaxed_loss(point, 10, 10) for point in points]
        assert losses == pytest.approx([153, 65.7931676, 34.00065103, 21.12922974], abs=1e-7)

    def test_after_many_steps(self):
        points = solvable.rarts_iterates(1000)
        assert points[100] == pytest.approx((0.34687, 0.278357, 0.196189), abs=1e-6)
        assert points[500] == pytest.approx((1.04234, 0.987523, 0.880785), abs=1e-6)
        assert points[1000] == pytest.approx((1.080101, 1.026028, 0.917955), abs=1e-6)
        first = solvable.darts_iterates(1000)
        assert first[500][:2] == pytest.approx((1.975180, 1.967669), abs=1e-6)
        assert first[1000][:2] == pytest.approx((1.999910, 2.000047), abs=1e-6)
        assert solvable.darts_iterates(500, 0.5)[-1][:2] == pytest.approx((1.000041, 1.000287), abs=1e-6)

    @pytest.mark.parametrize("jacobi", [False, True])
    def test_of_rarts_are_the_oracles(self, jacobi):
        order = "jacobi" if jacobi else "gauss-seidel"
        points = solvable.rarts_iterates(20, 3, 2, rate=0.03, order=order, start=(1, 0.5, -3))
        for before, after in itertools.pairwise(points):
            assert after == pytest.approx(oracle.rarts_step(*before, 3, 2, 0.03, jacobi), abs=1e-9)

    @pytest.mark.parametrize("xi", [0, 0.3, 0.7])
    def test_of_darts_are_the_oracles(self, xi):
        points = solvable.darts_iterates(20, xi, rate=0.03)
        for before, after in itertools.pairwise(points):
            assert after[:2] == pytest.approx(oracle.darts_step(*before[:2], xi, 0.03), abs=1e-8)

    @pytest.mark.parametrize("numbers", [(1, 1), (1, 10), (10, 1), (10, 10), (0.5, 2)])
    @pytest.mark.parametrize("order", ["gauss-seidel", "jacobi"])
    def test_of_rarts_end_at_the_limit(self, numbers, order):
        smallest = np.linalg.eigvalsh(oracle.hessian_and_minimum(*numbers)[0])
        steps = int(40 / (0.9 / smallest[-1] * smallest[0]))
        points = solvable.rarts_iterates(steps, *numbers, rate=0.9 / smallest[-1], order=order)
        assert points[-1] == pytest.approx(solvable.rarts_limit(*numbers), abs=1e-6)

    def test_of_the_others_end_at_their_limits(self):
        for unroll in (0, 0.1, 0.5, 0.7):
            assert solvable.darts_iterates(5000, unroll)[-1] == pytest.approx(solvable.darts_limit(unroll), abs=1e-6)
        for order in ("gauss-seidel", "jacobi"):
            points = solvable.single_level_iterates(5000, 10, order=order)
            assert points[-1] == pytest.approx(solvable.single_level_limit(10), abs=1e-6)
        assert solvable.mixed_level_iterates(5000)[-1] == pytest.approx(solvable.mixed_level_limit(), abs=1e-6)

    @given(lam=st.floats(0, 20), beta=st.floats(0, 20))
    def test_the_relaxed_loss_never_rises(self, lam, beta):
        rate = 0.9 / (2 * lam + beta + 1)  # below 2 / Lipschitz of each block
        points = solvable.rarts_iterates(60, lam, beta, rate=rate)
        losses = [solvable.relaxed_loss(point, lam, beta) for point in points]
        assert all(later <= before + 1e-9 * (1 + abs(before)) for before, later in itertools.pairwise(losses))

    @pytest.mark.parametrize("lam", [0.3, 1, 10])
    def test_the_boundary_decides_who_runs_away(self, lam):
        """D = 0 at beta = 2 lambda / (4 lambda - 1); a little above and below it."""
        edge = 2 * lam / (4 * lam - 1)
        rate = 0.5 / (2 * lam + edge)
        for factor, stays in ((1.05, True), (0.95, False)):
            assert (solvable.determinant(lam, factor * edge) > 0) == stays
            points = solvable.rarts_iterates(60_000, lam, factor * edge, rate=rate)
            early, late = abs(points[30_000].alpha), abs(points[-1].alpha)
            assert (late < early * 1.01 and math.isfinite(late)) if stays else not late < early * 10

    def test_it_diverges_while_the_loss_falls(self):
        points = solvable.rarts_iterates(3000, 0.3, 1)
        losses = [solvable.relaxed_loss(point, 0.3, 1) for point in points]
        assert all(later < before for before, later in itertools.pairwise(losses))
        assert losses[-1] < -1
        assert abs(points[-1].alpha) > 3 * abs(points[1000].alpha) > 1

    def test_roles_of_the_halves_cannot_be_swapped(self):
        """A larger lambda and a larger beta are not the same, nor is w what y is."""
        one, other = solvable.rarts_limit(1, 10), solvable.rarts_limit(10, 1)
        assert one != pytest.approx(other)
        assert one.w != pytest.approx(one.y)

    def test_without_spring_w_follows_its_half_alone(self):
        points = solvable.rarts_iterates(5, 2, 0, rate=0.05)
        for before, after in itertools.pairwise(points):
            assert after.w == pytest.approx(before.w - 0.05 * 2 * 2 * (before.w - before.alpha))
            assert after.y == pytest.approx(before.y - 0.05 * before.alpha)

    def test_without_both_it_is_descent_on_the_validation_loss(self):
        points = solvable.rarts_iterates(5, 0, 0, rate=0.05)
        for before, after in itertools.pairwise(points):
            assert after.w == before.w
            assert after.y == pytest.approx(before.y - 0.05 * before.alpha)
            assert after.alpha == pytest.approx(before.alpha - 0.05 * (after.y - 2))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: solvable.rarts_iterates(0), "steps"),
        (lambda: solvable.rarts_iterates(3, -1), "training_weight"),
        (lambda: solvable.rarts_iterates(3, 1, math.nan), "coupling"),
        (lambda: solvable.rarts_iterates(3, order="newest"), "order"),
        (lambda: solvable.rarts_iterates(3, start=(1, 2)), "start"),
        (lambda: solvable.darts_iterates(3, rate="fast"), "rate"),
        (lambda: solvable.darts_limit(-0.1), "unroll"),
        (lambda: solvable.relaxed_loss(3, 1, 1), "point"),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=f"{name}.* must be"):
        call()
