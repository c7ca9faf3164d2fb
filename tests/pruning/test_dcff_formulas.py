"""Filter fusion in one layer: steps against an oracle, limits, published numbers."""

import itertools
import math

import numpy as np
import pytest
import torch
from compactvision.pruning.dcff import formulas, rules
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import dcff as oracle

TOY = torch.from_numpy(np.random.RandomState(0).randn(8, 2, 3, 3))


def drawn(filters, *shape, seed=0):
    """Filters in float64."""
    return torch.randn(filters, *(shape or (2, 3)), generator=torch.Generator().manual_seed(seed)).double()


def double(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def lists(tensor):
    return tensor.flatten(1).tolist()


class TestSteps:
    @settings(max_examples=25, deadline=None)
    @given(filters=st.integers(1, 7), seed=st.integers(0, 99), temperature=st.floats(0, 20))
    def test_equal_to_the_oracle(self, filters, seed, temperature):
        weight = drawn(filters, seed=seed)
        distances = formulas.distances(weight)
        expected = oracle.distances(lists(weight))
        torch.testing.assert_close(distances, double(expected), rtol=1e-12, atol=1e-12)
        rows = oracle.mixing(expected, temperature)
        mixed = formulas.mixing(distances, temperature)
        torch.testing.assert_close(mixed, double(rows), rtol=1e-9, atol=1e-12)
        found = formulas.divergences(distances, temperature)
        divergences = [[oracle.divergence(p, q) for q in rows] for p in rows]
        torch.testing.assert_close(found, double(divergences), rtol=1e-8, atol=1e-8)
        scores = formulas.importance(distances, temperature)
        torch.testing.assert_close(scores, double(oracle.importance(rows)), rtol=1e-8, atol=1e-8)
        official = formulas.importance(distances, temperature, mode="official", previous=torch.zeros(filters))
        single = double(rows).float().tolist()  # where published scores are computed, and weights underflow
        assert official.tolist() == pytest.approx(oracle.official(single, [0.0] * filters), rel=1e-5, abs=1e-4)
        keep = 1 + seed % filters
        chosen = formulas.choose(scores, keep)
        assert chosen.tolist() == oracle.choose(scores.tolist(), keep)
        fused = (mixed[chosen] @ weight.flatten(1)).tolist()
        np.testing.assert_allclose(fused, oracle.fuse(lists(weight), rows, chosen.tolist()), rtol=1e-9, atol=1e-12)

    @given(scores=st.lists(st.integers(0, 3), min_size=1, max_size=12), data=st.data())
    def test_ties_go_to_the_first(self, scores, data):
        keep = data.draw(st.integers(1, len(scores)))
        assert formulas.choose(torch.tensor(scores).double(), keep).tolist() == oracle.choose(scores, keep)

    @given(epochs=st.integers(1, 400), share=st.floats(0, 1), slope=st.floats(0.01, 2))
    def test_temperature_equals_the_published_form(self, epochs, share, slope):
        epoch = round(share * epochs)
        for start, end in ((1.0, 1e4), (0.0, 7.0), (1.0, 50.0)):
            expected = oracle.temperature(epoch, epochs, start, end, slope)
            found = formulas.temperature(epoch, epochs, start=start, end=end, slope=slope)
            assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)

    def test_published_temperatures(self):
        published = {0: 1.0, 1: 4621.709455, 2: 7616.179965, 3: 9051.577388, 5: 9866.156367, 10: 9999.092133}
        for epoch, expected in published.items():
            assert formulas.temperature(epoch, 300) == pytest.approx(expected, abs=5e-7)
        assert formulas.temperature(300, 300) == 1e4
        values = [formulas.temperature(epoch, 300) for epoch in range(301)]
        assert all(a <= b for a, b in itertools.pairwise(values))

    def test_slow_temperature_in_units_of_the_layer(self):
        distances = formulas.distances(torch.tensor([[0.0], [2.0], [6.0], [6.0]]))  # pairs 0 2 4 4 6 6, lower median 4
        for epoch in (0, 5, 10):
            expected = (1 + 19 * math.tanh(epoch / 10) / math.tanh(1)) / 4
            assert formulas.slow_temperature(distances, epoch, 10) == pytest.approx(expected, rel=1e-12)
        weight = drawn(6)
        once = formulas.mixing(formulas.distances(weight), formulas.slow_temperature(formulas.distances(weight), 3, 10))
        far = formulas.distances(1000 * weight)
        torch.testing.assert_close(formulas.mixing(far, formulas.slow_temperature(far, 3, 10)), once)
        alike = formulas.distances(torch.randn(64, 600))
        temperatures = [formulas.slow_temperature(alike, epoch, 30) for epoch in (0, 3, 6, 10, 30)]
        shares = [float(formulas.mixing(alike, temperature).diagonal().mean()) for temperature in temperatures]
        assert shares[0] < 0.05 < shares[1] < 0.5 < shares[2] < 0.98 < shares[3] <= shares[4]
        for equal in (torch.ones(3, 2), torch.ones(1, 2)):
            assert formulas.slow_temperature(formulas.distances(equal), 0, 10) == 1

    def test_toy_scores_of_the_published_formula(self):
        distances = formulas.distances(TOY)
        published = [5.305441, 6.167883, 5.229153, 4.435402, 5.663357, 5.029100, 5.137404, 4.424186]
        scores = formulas.importance(distances, 1.0, mode="official")
        assert scores.dtype == torch.float32
        assert scores.tolist() == pytest.approx(published, abs=2e-6)
        assert formulas.choose(scores, 4).tolist() == [0, 1, 2, 4]
        exact = [5.305488, 6.168022, 5.229219, 4.435427, 5.663422, 5.029154, 5.137474, 4.424214]
        assert (formulas.importance(distances, 1.0) / 8).tolist() == pytest.approx(exact, abs=1e-6)
        assert float(formulas.mixing(distances, 1.0)[0, 0]) == pytest.approx(0.984191, abs=5e-7)

    def test_the_constant_makes_published_scores_tie(self):
        scores = formulas.importance(formulas.distances(TOY), 10.0, mode="official")
        assert scores.tolist() == pytest.approx([14.10333] * 8, abs=1e-4)

    def test_distance_to_itself_is_zero(self):
        weight = torch.randn(300, 60) + 10
        assert (formulas.distances(weight).diagonal() == 0).all()
        assert (formulas.mixing(formulas.distances(weight), 1e4) == torch.eye(300)).all()
        squares = weight.square().sum(1)
        shortcut = (squares[:, None] + squares[None] - 2 * weight @ weight.T).clamp(min=0).sqrt()
        assert shortcut.diagonal().max() > 1e-3  # what is avoided

    @settings(max_examples=40, deadline=None)
    @given(st.permutations(range(9)), st.permutations(range(9)), st.integers(1, 9))
    def test_places_are_those_of_the_oracle(self, chosen, before, keep):
        chosen, before = chosen[:keep], before[:keep]
        found = formulas.in_place(torch.tensor(chosen), torch.tensor(before))
        assert found.tolist() == oracle.in_place(chosen, before)


class TestInvariants:
    @settings(max_examples=30, deadline=None)
    @given(filters=st.integers(2, 12), seed=st.integers(0, 99), temperature=st.floats(0, 1e4))
    def test_rows_and_divergences(self, filters, seed, temperature):
        distances = formulas.distances(drawn(filters, seed=seed))
        mixed = formulas.mixing(distances, temperature)
        assert (mixed >= 0).all()
        torch.testing.assert_close(mixed.sum(1), torch.ones(filters).double(), rtol=1e-9, atol=1e-9)
        assert (mixed.diagonal() == mixed.max(1).values).all()
        divergences = formulas.divergences(distances, temperature)
        assert divergences.isfinite().all()
        assert (divergences >= -1e-9 * (1 + temperature)).all()
        assert (divergences.diagonal().abs() <= 1e-9 * (1 + temperature)).all()

    def test_divergences_are_not_symmetric(self):
        divergences = formulas.divergences(formulas.distances(TOY), 1.0)
        assert (divergences - divergences.T).abs().max() > 0.1

    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 99), temperature=st.floats(0.1, 10), keep=st.integers(1, 9))
    def test_permuting_filters_permutes_scores_and_choice(self, seed, temperature, keep):
        weight, order = drawn(9, seed=seed), torch.randperm(9)
        for mode in ("exact", "official"):
            scores, permuted = (
                formulas.importance(formulas.distances(each), temperature, mode=mode)
                for each in (weight, weight[order])
            )
            torch.testing.assert_close(permuted, scores[order], rtol=1e-4, atol=1e-4)
        chosen = formulas.choose(formulas.importance(formulas.distances(weight), temperature), keep)
        again = formulas.choose(formulas.importance(formulas.distances(weight[order]), temperature), keep)
        assert sorted(order[again].tolist()) == chosen.tolist()

    def test_duplicates_share_their_weight_and_their_score(self):
        weight = drawn(5)
        weight[3] = weight[1]
        distances = formulas.distances(weight)
        assert formulas.mixing(distances, 1e4)[1].tolist() == [0, 0.5, 0, 0.5, 0]
        scores = formulas.importance(distances, 2.0)
        assert float(scores[1]) == pytest.approx(float(scores[3]), rel=1e-12)
        assert float(formulas.divergences(distances, 2.0)[1, 3]) == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize("seed", range(5))
    def test_limits(self, seed):
        distances = formulas.distances(drawn(20, 4, 3, 3, seed=seed))
        cold = formulas.mixing(distances, 0.0)
        torch.testing.assert_close(cold, torch.full_like(cold, 1 / 20))
        torch.testing.assert_close(formulas.importance(distances, 0.0), torch.zeros(20).double(), rtol=0, atol=1e-12)
        smallest = float((distances + 99 * torch.eye(20)).min())
        hot = 60 / smallest
        torch.testing.assert_close(formulas.importance(distances, hot) / hot, distances.sum(1), rtol=1e-3, atol=0)
        assert (formulas.mixing(distances, 1e4) == torch.eye(20)).all()
        for keep in (1, 7, 19):
            total = formulas.choose(distances.sum(1), keep)
            assert (formulas.choose(formulas.importance(distances, 1e4), keep) == total).all()

    def test_published_scores_freeze(self):
        distances, before = formulas.distances(TOY), torch.arange(8.0)
        assert (formulas.importance(distances, 4621.7, mode="official", previous=before) == before).all()
        assert not (formulas.importance(distances, 1.0, mode="official", previous=before) == before).any()
        assert (formulas.mixing(distances, 4621.7) == torch.eye(8)).all()


NAN = float("nan")


ZEROS = torch.zeros(2, 2)


def test_distances_of_whole_numbers():
    """A temperature may be whole then too."""
    distances = formulas.distances(TOY).round()
    torch.testing.assert_close(formulas.mixing(distances.long(), 2), formulas.mixing(distances, 2.0).float())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: formulas.distances(torch.ones(3)), r"weight must hold finite filters .*shape \(3,\)"),
        (lambda: formulas.distances(torch.ones(0, 3)), "weight must hold finite filters"),
        (lambda: formulas.distances(torch.full((2, 2), NAN)), "with entries that are not finite"),
        (lambda: formulas.temperature(3, 2), "epoch must be between 0 and epochs .* got 3 and 2"),
        (lambda: formulas.temperature(0, 0), "epoch must be between"),
        (lambda: formulas.temperature(1, 2, start=3, end=2), "start and end must be finite"),
        (lambda: formulas.temperature(1, 2, slope=0), "slope must be positive"),
        (lambda: formulas.slow_temperature(torch.ones(2, 3), 0, 1), r"distances must be .*shape \(2, 3\)"),
        (lambda: formulas.mixing(torch.ones(2, 3), 1), "distances must be finite, not negative and square"),
        (lambda: formulas.mixing(-torch.ones(2, 2), 1), "distances must be finite"),
        (lambda: formulas.mixing(torch.full((2, 2), NAN), 1), "distances must be finite"),
        (lambda: formulas.mixing(ZEROS, -1), "temperature must be finite and not negative, got -1"),
        (lambda: formulas.mixing(ZEROS, NAN), "temperature must be finite"),
        (lambda: formulas.importance(ZEROS, 1, mode="kl"), "mode must be .* got 'kl'"),
        (lambda: formulas.importance(9 - 9 * torch.eye(2), 1e3, mode="official"), "previous: a weight underflows"),
        (lambda: formulas.choose(torch.ones(2, 2), 1), "scores must be 1-D"),
        (lambda: formulas.choose(torch.tensor([1, NAN]), 1), "scores must be 1-D without NaN"),
        (lambda: formulas.choose(torch.ones(2), 0), "keep must be between 1 and 2, got 0"),
        (lambda: formulas.in_place(torch.tensor([1, 2]), torch.tensor([1])), "chosen and before must be equally many"),
        (lambda: formulas.in_place(torch.tensor([1, 1]), torch.tensor([1, 2])), "without repetitions"),
        (lambda: formulas.distances([[1.0]]), "weight must be a tensor"),
        (lambda: formulas.distances(torch.ones(2, 2) * 1j), "weight must be a dense tensor of real numbers"),
        (lambda: formulas.temperature(0.5, 2), "epoch must be a whole number, got 0.5"),
        (lambda: formulas.temperature(0, 2, end="hot"), "end must be a number, got 'hot'"),
        (lambda: formulas.slow_temperature(ZEROS, 0, 0), "epoch must be between 0 and epochs"),
        (lambda: formulas.mixing(ZEROS, torch.ones(2)), "temperature must be a number"),
        (lambda: formulas.mixing(ZEROS.tolist(), 1), "distances must be a tensor"),
        (lambda: formulas.divergences(ZEROS * 1j, 1), "distances must be a dense tensor"),
        (lambda: formulas.importance(ZEROS, 1, previous="none"), "previous must be a tensor, got 'none'"),
        (
            lambda: formulas.importance(ZEROS, 1, previous=torch.ones(3)),
            r"previous must have shape \(2,\), .* got \(3,\)",
        ),
        (lambda: formulas.choose(torch.ones(2), 1.0), "keep must be a whole number, got 1.0"),
        (lambda: formulas.choose([1.0], 1), "scores must be a tensor"),
        (lambda: formulas.in_place(torch.ones(2), torch.tensor([0, 1])), "got torch.float32 and torch.int64"),
        (lambda: formulas.in_place(torch.tensor(1), torch.tensor(1)), "chosen and before must be equally many"),
        (lambda: formulas.in_place([1], torch.tensor([1])), "chosen must be a tensor"),
        *[
            (lambda rule=rule, call=call: rule(*call), message)
            for rule in (rules.exact, rules.official, rules.largest, rules.first, rules.unmixed(rules.first))
            for call, message in (
                ((None, 0, 4, None), "weight must be a tensor"),
                ((torch.ones(3), 0, 4, None), "weight must hold finite filters"),
                ((torch.eye(3), 1.5, 4, None), "epoch must be a whole number"),
                ((torch.eye(3), 5, 4, None), "epoch must be between 0 and epochs"),
                ((torch.eye(3), 0, "4", None), "epochs must be a whole number"),
                ((torch.eye(3), 0, 4, [1.0]), "previous must be a tensor"),
                ((torch.eye(3), 0, 4, torch.ones(2)), r"previous must have shape \(3,\)"),
            )
        ],
        (lambda: rules.unmixed(None), "rule must be a function of . arguments?, got None"),
        (lambda: rules.unmixed(lambda *_: "ab")(torch.eye(3), 0, 4, None), "rule must give tensors"),
        (lambda: formulas.choose(torch.ones(2), 3), "keep must be between 1 and 2, got 3"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
