"""Schedules against torch's own schedulers and against numbers worked out by hand."""

import math

import pytest
import torch
from compactvision.training import schedules
from compactvision.training.schedules import Rates
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler


def optimizer(lr=1.0, **options):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, **options)


def torch_factors(build, total):
    """Learning rates of torch's scheduler over a run, for an initial rate of 1."""
    steps = optimizer()
    scheduler = build(steps)
    rates = []
    for _ in range(total):
        rates.append(steps.param_groups[0]["lr"])
        steps.step()
        scheduler.step()
    return rates


CASES = {
    "cosine": (schedules.cosine(final=0.1), lambda o: lr_scheduler.CosineAnnealingLR(o, 40, eta_min=0.1)),
    "cosine to zero": (schedules.cosine(), lambda o: lr_scheduler.CosineAnnealingLR(o, 40)),
    "multi-step": (
        schedules.multi_step([7, 20, 33], gamma=0.2),
        lambda o: lr_scheduler.MultiStepLR(o, [7, 20, 33], gamma=0.2),
    ),
    "multi-step by fractions": (
        schedules.multi_step([0.5, 0.75]),
        lambda o: lr_scheduler.MultiStepLR(o, [20, 30], gamma=0.1),
    ),
    "poly": (schedules.poly(0.9), lambda o: lr_scheduler.PolynomialLR(o, 40, power=0.9)),
    "one-cycle": (
        schedules.one_cycle(),
        lambda o: lr_scheduler.OneCycleLR(o, 1.0, total_steps=40, cycle_momentum=False),
    ),
    "one-cycle, linear": (
        schedules.one_cycle(rise=0.23, start=0.2, final=0.01, anneal="linear"),
        lambda o: lr_scheduler.OneCycleLR(
            o, 1.0, total_steps=40, pct_start=0.23, anneal_strategy="linear", div_factor=5, final_div_factor=20,
            cycle_momentum=False,
        ),
    ),
    "constant with warm-up": (
        schedules.constant(warmup=10, warmup_start=0.25),
        lambda o: lr_scheduler.LinearLR(o, 0.25, total_iters=10),
    ),
    "cosine after a warm-up": (
        schedules.cosine(warmup=10),
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o, 0.01, total_iters=10), lr_scheduler.CosineAnnealingLR(o, 30)], [10]
        ),
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*epoch parameter:UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_equals_torch(name):
    schedule, build = CASES[name]
    ours = [schedule(step, 40) for step in range(40)]
    assert ours == pytest.approx(torch_factors(build, 40), rel=1e-9, abs=1e-12)


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step:UserWarning")
@given(total=st.integers(2, 60), rise=st.floats(0.05, 0.95))
def test_one_cycle_equals_torch_for_any_length(total, rise):
    if rise * total - 1 < 1e-3 or total - rise * total < 1e-3:
        return  # torch divides by (nearly) zero there
    build = lambda o: lr_scheduler.OneCycleLR(o, 1.0, total_steps=total, pct_start=rise, cycle_momentum=False)  # noqa: E731
    ours = [schedules.one_cycle(rise=rise)(step, total) for step in range(total)]
    assert ours == pytest.approx(torch_factors(build, total), rel=1e-6, abs=1e-9)


def test_one_cycle_of_a_single_step_is_at_the_peak():
    assert schedules.one_cycle()(0, 1) == 1.0


def test_values_by_hand():
    assert schedules.cosine()(10, 40) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert schedules.poly(2)(30, 40) == pytest.approx(1 / 16)
    assert [schedules.multi_step([2, 4], gamma=0.5)(epoch, 6) for epoch in range(6)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert [schedules.constant(warmup=4, warmup_start=0)(step, 6) for step in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1]


def test_milestones_count_from_the_start_also_with_a_warm_up():
    schedule = schedules.multi_step([3], warmup=2, warmup_start=0.5)
    assert [schedule(epoch, 5) for epoch in range(5)] == pytest.approx([0.5, 0.75, 1, 0.1, 0.1])


def test_fractions_are_of_the_run():
    assert schedules.cosine(warmup=0.25)(10, 40) == 1.0
    assert schedules.cosine(warmup=0.25)(25, 40) == pytest.approx(0.5)


@given(total=st.integers(1, 500), warmup=st.floats(0, 0.9))
def test_factors_stay_between_zero_and_one(total, warmup):
    curves = [schedules.constant, schedules.cosine, schedules.poly]
    for schedule in [curve(warmup=warmup) for curve in curves] + [schedules.one_cycle()]:
        assert all(0 <= schedule(step, total) <= 1 for step in range(0, total, max(total // 10, 1)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: schedules.cosine(final=2), "final must lie in .* not 2"),
        (lambda: schedules.cosine(warmup=-1), "warmup takes .* not -1"),
        (lambda: schedules.cosine(warmup=1.5), "warmup takes .* not 1.5"),
        (lambda: schedules.cosine(warmup_start=-0.1), "warmup_start must"),
        (lambda: schedules.cosine(per="batch"), "per must be .* not 'batch'"),
        (lambda: schedules.multi_step([4, 2]), r"milestones must ascend, not \(4, 2\)"),
        (lambda: schedules.multi_step([1.5]), "milestones takes"),
        (lambda: schedules.multi_step([1], gamma=0), "gamma must be positive"),
        (lambda: schedules.poly(0), "power must be positive"),
        (lambda: schedules.one_cycle(rise=1), "rise must lie"),
        (lambda: schedules.one_cycle(start=3), "start must lie"),
        (lambda: schedules.one_cycle(final=-1), "final must lie"),
        (lambda: schedules.one_cycle(anneal="cubic"), "anneal must be"),
        (lambda: schedules.cosine(warmup=5)(0, 5), "warmup=5 leaves nothing of a run of 5 steps"),
    ],
)
def test_wrong_settings_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_rates_scale_every_group_and_put_the_initial_rates_back():
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(3)]
    groups = [{"params": weights[:1], "lr": 0.4}, {"params": weights[1:2]}]
    steps = torch.optim.Adam([*groups, {"params": weights[2:], "lr": torch.tensor(2.0)}], lr=0.1)
    rates = Rates(steps, schedules.multi_step([1], gamma=0.5), epochs=2, steps=None)
    rates.set(epoch=1, step=7)
    assert [float(group["lr"]) for group in steps.param_groups] == pytest.approx([0.2, 0.05, 1.0])
    rates.restore()
    assert [float(group["lr"]) for group in steps.param_groups] == pytest.approx([0.4, 0.1, 2.0])
    assert all("base_lr" not in group for group in steps.param_groups)


def test_a_plain_function_is_a_schedule_per_step():
    steps = optimizer(lr=3.0)
    rates = Rates(steps, lambda step, total: step / total, epochs=2, steps=5)
    rates.set(epoch=1, step=6)
    assert steps.param_groups[0]["lr"] == pytest.approx(3.0 * 6 / 10)
    rates.set(epoch=1, step=11)  # a source that gives more batches than it announced stays at the last factor
    assert steps.param_groups[0]["lr"] == pytest.approx(3.0 * 9 / 10)


@pytest.mark.parametrize(
    ("schedule", "steps", "message"),
    [
        ("cosine", 5, "schedule must be callable"),
        (schedules.cosine(), None, r"schedule=.*cosine.* counts steps, but batches has no len"),
        (lambda step, total: math.nan, 5, "gives the factor nan at 0 of 10"),
        (lambda step, total: 1.0 - step, 5, "gives the factor -8.0 at 9 of 10"),
    ],
)
def test_a_schedule_that_cannot_be_used_is_refused(schedule, steps, message):
    with pytest.raises(ValueError, match=message):
        Rates(optimizer(), schedule, epochs=2, steps=steps)
