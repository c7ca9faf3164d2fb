"""The authors' toy: wide networks for points in the plane that lose a third of their units at once, by each rule.

As in the published code: all points in every step, no ReLU behind the third layer, a rule that does not ask for the
sign of an input. One network a set, and the mean of 50 draws of five reference points a class.
"""

from __future__ import annotations

from functools import partial
from statistics import fmean

import torch
from torch import Tensor, nn

from compactvision import measure, surgery, toy_plane, training
from compactvision.pruning.lrp_pruning import lrp
from compactvision.queue import state
from compactvision.queue.job import Job, Watch
from compactvision.queue.recipes import Arm, Recipe
from compactvision.records import Value

FILES = (
    "pruning/lrp_pruning",
    "queue/arms/lrp_pruning.py",
    "surgery/budget.py",
    "surgery/criteria.py",
    "surgery/graph.py",
    "surgery/ranking.py",
    "toy_plane.py",
    "training/fit.py",
)
POINTS = {"moons": 2000, "circles": 2000, "spiral": 4000}
UNITS, DRAWS, EACH, PASSES = 1000, 50, 5, 20  # steps are noted, and checkpoints written, twenty times
NORMS = {"lrp": "sum", "taylor": "l2", "gradient": "l2", "l1": "sum"}


def network(classes: int) -> nn.Sequential:
    """Return the authors' network, drawn by torch's global generator."""
    return nn.Sequential(
        *(nn.Linear(2, UNITS), nn.ReLU(), nn.Dropout(0.5), nn.Linear(UNITS, UNITS), nn.ReLU()),
        *(nn.Linear(UNITS, UNITS), nn.Linear(UNITS, classes)),
    )


def rule(apply: object, a: Tensor, weight: Tensor, bias: Tensor | None, relevance: Tensor) -> Tensor:
    """Return relevance by the paper's first equation, positive weights alone, whatever the sign of an input."""
    positive = weight.clamp(min=0)
    return a * ((relevance / (apply(a, positive) + 1e-9)) @ positive)  # type: ignore[operator]


def _fit(job: Job, model: nn.Module, points: tuple[Tensor, Tensor]) -> None:
    """Train by the recipe: an epoch is one step with all points."""
    steps = job.recipe.epochs
    passes = min(PASSES, steps)
    job.pause()
    training.fit(
        model,
        [points] * (steps // passes),
        epochs=passes,
        optimizer=torch.optim.SGD(model.parameters(), lr=job.recipe.learning_rate, momentum=job.recipe.momentum),
        callbacks=[Watch(job)],
        validate=lambda trained: {"accuracy": measure.accuracy(trained, [points])},
        checkpoint=job.folder / state.CHECKPOINT,
        progress=False,
        seed=job.seed,
    )
    job.steps_taken = passes * (steps // passes)


def _run(job: Job, name: str) -> dict[str, Value]:
    n, draws = (40, 2) if job.scale.dry else (job.recipe.batch_size, DRAWS)
    points = tuple(part.to(job.device) for part in toy_plane.points(name, n, seed=job.seed))
    model = network(len(points[1].unique())).to(job.device)
    _fit(job, model, points)
    values = {"whole": measure.accuracy(model.eval(), [points])} | _kept(job, model, points, name, draws)
    return {f"{name}.{way}": value for way, value in values.items()}


def _kept(job: Job, model: nn.Module, points: tuple[Tensor, Tensor], name: str, draws: int) -> dict[str, float]:
    """Return the accuracy without a third of the units, removed by each rule; the mean of the draws."""
    graph = surgery.channel_graph(model, points[0][:1])

    def right(way: str, importance: object) -> float:
        plan = surgery.make_plan(graph, importance, keep=2 / 3, global_pruning=True, normalise=NORMS.get(way))
        with surgery.mask(model, plan):
            return measure.accuracy(model, [points])

    found = {"l1": [right("l1", surgery.criteria.l1())]}
    for draw in range(draws):
        drawn = toy_plane.points(name, EACH * len(points[1].unique()), seed=9000 + 100 * job.seed + draw)
        batch = [part.to(job.device) for part in drawn]
        ways = {
            "lrp": lrp([batch], signed=True, initial_relevance="logit", default=rule),
            "taylor": surgery.criteria.taylor([batch]),
            "gradient": surgery.criteria.gradient([batch]),
            "random": surgery.criteria.random(job.generator(100 + draw)),
        }
        for way, importance in ways.items():
            found.setdefault(way, []).append(right(way, importance))
    return {way: fmean(values) for way, values in found.items()}


def _recipe(n: int) -> Recipe:
    """Return the recipe for ``n`` points; each of its epochs is one step."""
    size, source = f"three layers of {UNITS:,} units", "the published code"
    return Recipe(size, 10_000, n, 1e-3, 0.0, "constant", source, dataset="", crop=0, flip=False)


ARMS = {name: Arm(_recipe(n), partial(_run, name=name), FILES) for name, n in POINTS.items()}
