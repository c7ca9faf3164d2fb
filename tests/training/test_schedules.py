"""Schedules against their closed forms, and the rates of a run."""

import math
import warnings
from bisect import bisect_right

import pytest
import torch
from compactvision.training import schedules
from compactvision.training.schedules import Rates
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler


def optimizer(lr=1.0, **options):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, **options)


def run(schedule, epochs, steps, optimizer):
    """Rates of all groups at each step of a run, read while the step is under way."""
    rates, read = Rates(optimizer, schedule, epochs, steps), []
    rates.start()
    for step in range(epochs * steps):
        rates.advance(step)
        read.append([float(group["lr"]) for group in optimizer.param_groups])
        optimizer.step()
    rates.restore()
    return read


def cosine(step, total, final=0.0):
    return final + (1 - final) * (1 + math.cos(math.pi * step / total)) / 2


def one_cycle(step, total, rise=0.3, start=1 / 25, final=1 / 250_000):
    peak = max(rise * total - 1, 0.0)
    if step < peak:
        return start + (1 - start) * (1 - math.cos(math.pi * step / peak)) / 2
    return 1 + (final - 1) * (1 - math.cos(math.pi * (step - peak) / (total - 1 - peak))) / 2 if step > peak else 1.0


def multi_step(epoch, milestones, gamma):
    return gamma ** bisect_right(milestones, epoch)


@settings(deadline=None)
@given(epochs=st.integers(1, 9), steps=st.integers(1, 60), lr=st.floats(1e-6, 10), rise=st.floats(0.02, 0.98))
def test_rates_equal_the_closed_forms(epochs, steps, lr, rise):
    total = epochs * steps
    cases = {
        schedules.one_cycle(): lambda step: one_cycle(step, total),
        schedules.one_cycle(rise=rise): lambda step: one_cycle(step, total, rise),
        schedules.cosine(): lambda step: cosine(step, total),
        schedules.cosine(final=0.05): lambda step: cosine(step, total, 0.05),
        schedules.multi_step([0.5, 0.75]): lambda step: multi_step(
            step // steps, [round(0.5 * epochs), round(0.75 * epochs)], 0.1
        ),
        schedules.multi_step([1, 2, 3, 7], gamma=0.3): lambda step: multi_step(step // steps, [1, 2, 3, 7], 0.3),
    }
    for schedule, expected in cases.items():
        two = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)], lr=lr)
        two.param_groups[1]["lr"] = 3 * lr
        found = run(schedule, epochs, steps, two)
        wanted = [[lr * expected(step), 3 * lr * expected(step)] for step in range(total)]
        for ours, closed in zip(found, wanted, strict=True):
            assert ours == pytest.approx(closed, rel=1e-12, abs=1e-14 * lr), schedule


def test_the_network_does_not_see_the_last_bits():
    """What is left of the difference to the closed form vanishes in float32, the precision of the weights."""
    for epochs, steps in ((1, 79), (2, 391), (160, 4), (30, 31)):
        total = epochs * steps
        for lr in (0.1, 0.05, 0.02, 1e-3):
            found = torch.tensor(run(schedules.one_cycle(), epochs, steps, optimizer(lr)), dtype=torch.float64)[:, 0]
            closed = torch.tensor([lr * one_cycle(step, total) for step in range(total)], dtype=torch.float64)
            assert torch.equal(found.float(), closed.float())


def test_schedulers_are_torchs():
    made = {
        lr_scheduler.OneCycleLR: schedules.one_cycle(),
        lr_scheduler.MultiStepLR: schedules.multi_step([1]),
        lr_scheduler.LambdaLR: schedules.cosine(),
    }
    assert [type(schedule(optimizer(), 2, 5)) for schedule in made.values()] == list(made)


@pytest.mark.parametrize("schedule", [schedules.one_cycle(), schedules.cosine(), schedules.multi_step([1])])
def test_the_momentum_is_left_alone(schedule):
    steps, seen = optimizer(momentum=0.7), []
    steps.register_step_post_hook(lambda optimizer, *_: seen.append(optimizer.param_groups[0]["momentum"]))
    run(schedule, 2, 5, steps)
    assert seen == [0.7] * 10


def test_values_by_hand():
    assert run(schedules.cosine(), 4, 10, optimizer())[10] == [pytest.approx((1 + math.sqrt(0.5)) / 2)]
    halves = run(schedules.multi_step([2, 4], gamma=0.5), 6, 1, optimizer(4.0))
    assert halves == [[4], [4], [2], [2], [1], [1]]
    assert run(schedules.one_cycle(rise=0.2), 1, 10, optimizer())[0] == [pytest.approx(1 / 25)]
    assert run(schedules.one_cycle(), 1, 1, optimizer()) == [[1.0]]
    assert run(schedules.one_cycle(), 1, 2, optimizer()) == [[1.0], [pytest.approx(1 / 250_000)]]
    assert run(schedules.one_cycle(rise=0.25), 1, 4, optimizer())[0] == [1.0]  # OneCycleLR would divide 0 by 0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: schedules.cosine(final=2), "final must lie in .* not 2"),
        (lambda: schedules.multi_step([4, 2]), r"milestones must ascend, not \(4, 2\)"),
        (lambda: schedules.multi_step([1.5]), "milestones takes .* not 1.5"),
        (lambda: schedules.multi_step([-1]), "milestones takes .* not -1"),
        (lambda: schedules.multi_step([1], gamma=0), "gamma must be positive"),
        (lambda: schedules.one_cycle(rise=1), "rise must lie"),
    ],
)
def test_wrong_settings_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_equal_settings_have_equal_names():
    assert repr(schedules.cosine(final=0.5)) == repr(schedules.cosine(final=0.5)) != repr(schedules.cosine())


def test_every_group_is_scaled_and_left_as_it_came():
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(3)]
    groups = [{"params": weights[:1], "lr": 0.4}, {"params": weights[1:2]}]
    steps = torch.optim.Adam([*groups, {"params": weights[2:], "lr": torch.tensor(2.0)}], lr=0.1)
    keys = [set(group) for group in steps.param_groups]
    for schedule, third in ((schedules.multi_step([1], gamma=0.5), 0.5), (schedules.one_cycle(), one_cycle(2, 4))):
        read = run(schedule, 2, 2, steps)
        assert read[2] == pytest.approx([0.4 * third, 0.1 * third, 2.0 * third])
        assert [float(group["lr"]) for group in steps.param_groups] == pytest.approx([0.4, 0.1, 2.0])
        assert isinstance(steps.param_groups[2]["lr"], torch.Tensor)
        assert [set(group) for group in steps.param_groups] == keys


def test_any_scheduler_of_torch_will_do():
    step_lr = lambda optimizer, epochs, steps: lr_scheduler.StepLR(optimizer, 2 * steps, gamma=0.5)  # noqa: E731
    assert run(step_lr, 4, 3, optimizer(8.0)) == [[8.0]] * 6 + [[4.0]] * 6


def test_rates_stay_when_more_batches_come_than_were_announced():
    steps = optimizer(lr=3.0)
    rates = Rates(steps, schedules.one_cycle(), epochs=2, steps=5)
    rates.start()
    for done in range(10):
        steps.step()
        rates.advance(done)
    last = steps.param_groups[0]["lr"]
    assert last == pytest.approx(3 / 250_000)
    rates.advance(10)
    rates.advance(11)
    assert steps.param_groups[0]["lr"] == last


def test_without_a_schedule_rates_are_the_callers():
    steps = optimizer()
    rates = Rates(steps, None, epochs=2, steps=None)
    rates.start()
    steps.param_groups[0]["lr"] = 0.25
    rates.advance(1)
    rates.restore()
    assert steps.param_groups[0]["lr"] == 0.25
    assert rates.state_dict() == {}


def test_no_warning_where_torch_did_not_see_the_first_step():
    rates = Rates(optimizer(), schedules.cosine(), epochs=1, steps=5)
    rates.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rates.advance(1)  # a run that goes on from its first step, or left it out for an overflow in fp16


@pytest.mark.parametrize(
    ("schedule", "steps", "message"),
    [
        ("cosine", 5, "schedule must be a function of 3 arguments"),
        (schedules.cosine(), None, r"schedule=.*cosine.* counts steps, but batches has no len"),
        (lambda optimizer, epochs, steps: 0.5, 5, "schedule must give a scheduler of torch.* not 0.5"),
    ],
)
def test_a_schedule_that_cannot_be_used_is_refused(schedule, steps, message):
    with pytest.raises(ValueError, match=message):
        Rates(optimizer(), schedule, epochs=2, steps=steps).start()
