"""Policy gradient: the sampled one tends to the exact one, a baseline quietens it and moves it nowhere."""

import itertools

import pytest
import torch
from compactvision.models.cells import NAT_OPERATIONS, Edge
from compactvision.search.nat_plus_plus import MovingBaseline
from compactvision.search.nat_plus_plus.learning import log_likelihood, policy_loss
from compactvision.search.nat_plus_plus.softmax import binary_masked_softmax, entropy, sample
from compactvision.search.nat_plus_plus.transitions import mask as mask_of

from oracles import nat_plus_plus as oracle

CELL = (Edge("conv_1x1", 0, 2), Edge("sep_conv_3x3", 1, 2))
MASK = mask_of(CELL)[None]  # 3 and 6 of 13: 18 cells


def logits(seed=0, scale=1.0):
    drawn = torch.randn(1, 2, 13, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (scale * drawn).requires_grad_()


def reward(actions):
    return float((actions[0] * 7 + actions[1] * 3 + actions[0] * actions[1]) % 11) / 11 + 0.5


def exact(z):
    """Return the gradient of the mean reward: over all cells, by autograd of the probabilities."""
    p = binary_masked_softmax(z, MASK)[0]
    found = [row.nonzero().flatten().tolist() for row in MASK[0]]
    mean = sum(p[0, a] * p[1, b] * reward((a, b)) for a, b in itertools.product(*found))
    (gradient,) = torch.autograd.grad(mean, z)
    return gradient[0], float(mean.detach())


def draws(z, count, baseline):
    """Return the gradients of single draws, (count, 2, 13), without the loss: (1 - p) where drawn, -p elsewhere."""
    p = binary_masked_softmax(z.detach(), MASK)
    actions = sample(z.detach().expand(count, -1, -1), MASK.expand(count, -1, -1), torch.Generator().manual_seed(3))
    hot = torch.nn.functional.one_hot(actions, 13) - p
    values = torch.tensor([reward(pair) for pair in actions.tolist()], dtype=torch.float64)
    return hot * (values - baseline)[:, None, None], actions, values


def test_the_mean_of_samples_is_the_exact_gradient():
    z = logits()
    gradient, _ = exact(z)
    for baseline in (0.0, 1.0):
        single, _, _ = draws(z, 60_000, baseline)
        error = 4 * single.std(0) / 60_000**0.5 + 1e-9
        assert ((single.mean(0) - gradient).abs() <= error).all()


def test_the_loss_has_that_gradient():
    z = logits()
    single, actions, values = draws(z, 50, 0.4)
    loss = policy_loss(z.expand(50, -1, -1), MASK.expand(50, -1, -1), actions, values - 0.4, entropy_weight=0.0)
    loss.backward()
    torch.testing.assert_close(-z.grad[0], single.mean(0))


def test_a_baseline_does_not_move_the_exact_mean():
    """The sum over all actions of probability times gradient of the log-probability is zero."""
    z = logits()
    found = [row.nonzero().flatten().tolist() for row in MASK[0]]
    actions = torch.tensor(list(itertools.product(*found)))
    many = len(actions)
    logs = log_likelihood(z.expand(many, -1, -1), MASK.expand(many, -1, -1), actions)
    assert float(logs.exp().sum().detach()) == pytest.approx(1)
    (gradient,) = torch.autograd.grad((logs.exp().detach() * logs).sum(), z)
    assert gradient.abs().max() < 1e-12


def test_a_baseline_makes_it_quieter():
    z = logits(scale=0.3)
    _, mean = exact(z)
    loud, quiet = (draws(z, 20_000, baseline)[0].var(0).sum() for baseline in (0.0, mean))
    assert quiet < 0.5 * loud


def test_the_mean_reward_by_enumeration():
    z = logits()
    slow = oracle.expected_reward(z[0].tolist(), MASK[0].int().tolist(), reward)
    assert exact(z)[1] == pytest.approx(slow)


def test_the_log_probability_is_the_sum_over_edges():
    z, actions = logits(), torch.tensor([[9, 12]])
    p = binary_masked_softmax(z, MASK)[0]
    assert NAT_OPERATIONS[9] == "conv_1x1"
    found = log_likelihood(z, MASK, actions)
    torch.testing.assert_close(found, (p[0, 9].log() + p[1, 12].log())[None])


def test_no_reward_no_gradient():
    z = logits()
    policy_loss(z, MASK, torch.tensor([[9, 12]]), torch.zeros(1), entropy_weight=0.0).backward()
    assert z.grad.abs().max() == 0


def test_entropy_makes_flat():
    z = logits()
    optimizer = torch.optim.SGD([z], lr=1.0)
    before = float(entropy(z, MASK).sum().detach())
    for _ in range(20):
        optimizer.zero_grad()
        policy_loss(z, MASK, torch.tensor([[9, 12]]), torch.zeros(1), entropy_weight=0.5).backward()
        optimizer.step()
    assert float(entropy(z, MASK).sum().detach()) > before


def test_masked_logits_get_no_gradient():
    z = logits()
    policy_loss(z, MASK, torch.tensor([[9, 12]]), torch.ones(1), entropy_weight=0.1).backward()
    assert z.grad[~MASK].abs().max() == 0
    assert z.grad[MASK].abs().min() > 0


def test_the_baseline_settles_at_the_mean_and_the_published_one_at_half():
    ours, published = MovingBaseline(), 0.0
    for _ in range(5000):
        ours.update(1.0)
        published = 0.99 * published + 0.01 * (1.0 - published)
    assert ours.value == pytest.approx(1)
    assert published == pytest.approx(0.5)


def test_the_baseline_moves():
    baseline = MovingBaseline(0.75)
    assert [baseline.update(reward) for reward in (2.0, 0.0, 4.0)] == [2.0, 1.5, 2.125]


ONE = torch.tensor([[9, 12]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MovingBaseline(1.0), r"decay must be in \[0, 1\), got 1.0"),
        (lambda: MovingBaseline().update(float("nan")), "reward must be finite"),
        (lambda: log_likelihood(logits(), MASK, torch.tensor([[0, 12]])), "actions must be allowed by the mask"),
        (lambda: log_likelihood(logits(), MASK, torch.tensor([[9, 13]])), "actions must be allowed by the mask"),
        (lambda: log_likelihood(logits(), MASK, torch.tensor([[9, -1]])), "actions must be allowed by the mask"),
        (lambda: log_likelihood(logits(), MASK, torch.tensor([9, 12])), r"actions must be whole numbers of shape"),
        (lambda: policy_loss(logits(), MASK, ONE, torch.ones(2)), "advantages must be 1 finite numbers"),
        (lambda: policy_loss(logits(), MASK, ONE, torch.tensor([torch.inf])), "advantages must be 1 finite numbers"),
        (
            lambda: policy_loss(logits(), MASK, ONE, torch.ones(1), entropy_weight=-1),
            "entropy_weight must be at least 0",
        ),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
