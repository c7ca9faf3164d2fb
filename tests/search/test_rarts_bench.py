"""Rivals on a table: exact chances, hill climbing that climbs, and what they refuse."""

import itertools

import pytest
import torch
from compactvision.search.rarts import bench

from oracles import rarts as oracle


def table(places=3, seed=0):
    """All words of three letters, each with a number by lot."""
    words = list(itertools.product("abc", repeat=places))
    numbers = torch.rand(len(words), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return dict(zip(words, numbers.tolist(), strict=True))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_regret():
    scores = table()
    best = max(scores, key=scores.get)
    assert bench.regret(best, scores) == 0
    assert all(bench.regret(choice, scores) >= 0 for choice in scores)
    with pytest.raises(ValueError, match="choice must be one of the table's"):
        bench.regret(("z",), scores)


class TestRandom:
    def test_draws_without_repetition(self):
        drawn = bench.random_search(table(), 27, seeded())
        assert sorted(drawn) == sorted(table())
        assert bench.random_search(table(), 5, seeded()) == drawn[:5]

    @pytest.mark.parametrize("count", [1, 2, 5, 9])
    def test_expected_best_is_the_mean_over_all_draws(self, count):
        scores, truth = table(2, 1), table(2, 2)
        assert bench.expected_best(scores, truth, count) == pytest.approx(oracle.expected_best(scores, truth, count))

    def test_expected_best_is_the_mean_over_many_searches(self):
        scores, truth = table(3, 1), table(3, 2)
        ends = [
            truth[bench.best_so_far(bench.random_search(scores, 6, seeded(seed)), scores)[-1]] for seed in range(2000)
        ]
        assert sum(ends) / len(ends) == pytest.approx(bench.expected_best(scores, truth, 6), abs=0.03)


class TestLocal:
    @pytest.mark.parametrize("seed", range(5))
    def test_trains_each_cell_once_and_all_in_the_end(self, seed):
        scores = table()
        visited = bench.local_search(scores, 27, seeded(seed))
        assert sorted(visited) == sorted(scores)
        assert bench.local_search(scores, 8, seeded(seed)) == visited[:8]

    def test_climbs_a_hill_by_single_changes(self):
        """Where each place counts by itself, the top is reached after few neighbours, and each step is one change."""
        scores = {word: sum(map(ord, word)) for word in itertools.product("abcde", repeat=4)}
        means = []
        for seed in range(20):
            visited = bench.local_search(scores, 60, seeded(seed))
            means.append(scores[bench.best_so_far(visited, scores)[-1]])
            here = visited[0]
            for choice in visited[1:10]:
                assert sum(a != b for a, b in zip(here, choice, strict=True)) == 1
                here = choice if scores[choice] > scores[here] else here
        top = max(scores.values())
        assert sum(means) / 20 > top - 0.5
        assert bench.expected_best(scores, scores, 60) < sum(means) / 20

    def test_words_of_two_lengths_are_refused(self):
        with pytest.raises(ValueError, match="choices of one length"):
            bench.local_search({("a",): 1.0, ("a", "b"): 2.0}, 1)


def test_most_parameters_gives_all_that_tie():
    assert bench.most_parameters({("a",): 3, ("b",): 5, ("c",): 5}) == (("b",), ("c",))


def test_best_so_far_keeps_the_first_of_equals():
    scores = {("a",): 1.0, ("b",): 1.0, ("c",): 2.0}
    assert bench.best_so_far([("b",), ("a",), ("c",)], scores) == [("b",), ("b",), ("c",)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bench.random_search(table(), 28), "count must be at most the table's 27"),
        (lambda: bench.local_search(table(), 28), "count must be at most the table's 27"),
        (lambda: bench.expected_best(table(), table(), 28), "count must be at most the table's 27"),
        (lambda: bench.expected_best(table(), table(2), 2), "choice must be one of the table's"),
        (lambda: bench.most_parameters({}), "parameters must hold at least one number"),
        (lambda: bench.random_search({("a",): float("nan")}, 1), "scores.* must be finite"),
        (lambda: bench.most_parameters({8: 1.0}), "parameters must have tuples of texts as keys, got 8"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
