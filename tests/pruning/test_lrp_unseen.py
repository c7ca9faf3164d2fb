"""Relevance of networks that write in place, hide operations or rewrite weights: right, or refused by name."""

import copy

import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.prune as masks
import torchvision
from compactvision.pruning import lrp_pruning as lrp
from compactvision.pruning.lrp_pruning import rules
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from networks import with_statistics

TARGETS = torch.tensor([0, 2, 1])
X = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Net(nn.Module):
    """Two convolutions whose outputs ``join`` makes one of, and a linear layer."""

    def __init__(self, join, width=6):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.a, self.b = (nn.Conv2d(3, 6, 3, padding=1) for _ in range(2))
            self.fc = nn.Linear(width, 3)
        self.join = join
        self.double().eval()

    def forward(self, x):
        return self.fc(self.join(self.a(x), self.b(x)).mean((2, 3)))


def statement(write):
    """Turn a function that writes into its first argument into one that returns it, whatever the write returns."""

    def join(a, b):
        write(a, b)
        return a

    return join


def add_in_place(a, b):
    a += b


def assign_and_rectify(a, b):
    a[:, :2] = F.relu(b[:, 2:4])
    F.relu_(a)


def fill_buffer(a, b):
    buffer = a.new_zeros(len(a), 12, 8, 8)
    buffer[:, :6] = a
    buffer[:, 6:].copy_(b)
    return F.relu(buffer)


def relu_of_view(a, b):
    F.relu_(a.view(len(a), -1))
    return a + b


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        (statement(lambda a, b: a.add_(b)), lambda a, b: a + b),
        (statement(add_in_place), lambda a, b: a + b),
        (statement(lambda a, b: a.add_(a)), lambda a, b: a + a),
        (statement(lambda a, b: F.relu_(a)), lambda a, b: F.relu(a)),
        (statement(lambda a, b: F.relu(a.add_(b), inplace=True)), lambda a, b: F.relu(a + b)),
        (statement(lambda a, b: F.leaky_relu(a, 0.2, True)), lambda a, b: F.leaky_relu(a, 0.2)),
        (statement(lambda a, b: F.hardtanh_(a, -0.1, 0.3)), lambda a, b: F.hardtanh(a, -0.1, 0.3)),
        (statement(lambda a, b: nn.ReLU(inplace=True)(a.relu_().add_(b))), lambda a, b: F.relu(F.relu(a) + b)),
        (statement(assign_and_rectify), lambda a, b: F.relu(torch.cat([F.relu(b[:, 2:4]), a[:, 2:]], 1))),
        (relu_of_view, lambda a, b: F.relu(a) + b),
    ],
)
@pytest.mark.parametrize("rule", [rules.z_plus, rules.epsilon()])
def test_statements_in_place_are_followed(written, plain, rule):
    found, expected = (lrp.relevance(Net(join), X, TARGETS, default=rule) for join in (written, plain))
    torch.testing.assert_close(found.inputs, expected.inputs)
    torch.testing.assert_close(found.layers, expected.layers)


def test_buffers_that_are_filled_are_followed():
    found = lrp.relevance(Net(fill_buffer, 12), X, TARGETS)
    expected = lrp.relevance(Net(lambda a, b: F.relu(torch.cat([a, b], 1)), 12), X, TARGETS)
    torch.testing.assert_close(found.layers, expected.layers)


@torch.jit.script
def swish(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(x)


@torch.library.custom_op("compactvision_tests::softened", mutates_args=())
def softened(x: torch.Tensor) -> torch.Tensor:
    """An operator of one's own, with gradients registered below."""
    return x * x.sigmoid()


torch.library.register_autograd("compactvision_tests::softened", lambda ctx, given: given)


class Cube(torch.autograd.Function):
    """A function with gradients of its own."""

    @staticmethod
    def forward(ctx, x):
        return x**3

    @staticmethod
    def backward(ctx, given):
        return given


def without_gradients(a, b):
    with torch.no_grad():
        scale = F.relu(b)
    return a + scale


def halve_unseen(a, b):
    a.data.mul_(0.5)


def written_under_no_grad(a, b):
    with torch.no_grad():
        a.relu_()


def overwritten_later(a, b):
    total = a + b
    a.relu_()
    return total


@pytest.mark.parametrize(
    ("join", "message"),
    [
        (statement(lambda a, b: a.mul_(2)), "'mul_'"),
        (statement(lambda a, b: a[:, :4].mul_(2)), "'mul_'"),
        (statement(lambda a, b: a.zero_()), "'zero_'"),
        (statement(lambda a, b: torch.add(a, b, out=a)), "'add' to out"),
        (statement(lambda a, b: torch.add(a, b, out=torch.empty(0, dtype=a.dtype))), "'add' to out"),
        (statement(lambda a, b: torch._foreach_add_([a], [b])), "_foreach_add_"),
        (statement(halve_unseen), "'mul_'"),
        (statement(written_under_no_grad), "'relu_'"),
        (statement(lambda a, b: a.chunk(2, 1)[0].relu_()), "writes in place where relevance cannot be followed"),
        (overwritten_later, "what 'a sum' has read is overwritten in place"),
        (lambda a, b: swish(a), "'mean' reads what '"),
        (lambda a, b: F.relu(swish(a)), "'relu' reads what '"),
        (lambda a, b: Cube.apply(a), "what 'Cube' computed"),
        (lambda a, b: softened(a), "softened"),
        (lambda a, b: a + b.detach(), "by a way without gradients"),
        (lambda a, b: a + F.relu(b.detach()), "by a way without gradients"),
        (statement(lambda a, b: F.relu_(a.detach())), "'relu_'"),
        (without_gradients, "by a way without gradients"),
        (lambda a, b: a[:, b.mean((0, 2, 3)).argsort()], "by a way without gradients"),
        (lambda a, b: a + torch.from_numpy(b.detach().numpy()), "'numpy'"),
        (lambda a, b: F.conv2d(a, b[:, :, :3, :3].mean(0, keepdim=True)), "whose weights are computed"),
        (lambda a, b: F.batch_norm(a, None, None, training=True), "statistics of the batch"),
        (lambda a, b: F.dropout(a, 0.5), "differ from the model's own"),
        (lambda a, b: a if torch.is_grad_enabled() else b, "differ from the model's own"),
        (lambda a, b: F.relu(a) + F.pad(a, (0, 0), value=float("nan")) * float("inf"), "'mul'"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(join, message):
    with pytest.raises(ValueError, match="model: ") as error:
        lrp.relevance(Net(join), X, TARGETS)
    assert message in str(error.value)


def test_detached_side_results_do_no_harm():
    seen = []
    found = lrp.relevance(Net(lambda a, b: seen.append(a.detach().mean()) or a), X, TARGETS)
    torch.testing.assert_close(found.layers["a"], lrp.relevance(Net(lambda a, b: a), X, TARGETS).layers["a"])
    assert len(seen) == 2


def test_infinite_outputs_are_refused():
    model = Net(lambda a, b: a)
    model.fc.bias.data.fill_(torch.inf)
    with pytest.raises(ValueError, match="its outputs are not finite"):
        lrp.relevance(model, X, TARGETS)


def test_a_model_that_writes_to_its_input():
    class Rectified(Net):
        def forward(self, x):
            return super().forward(F.relu_(x))

    x = X - 0.5
    found = lrp.relevance(Rectified(lambda a, b: a), x, TARGETS)
    torch.testing.assert_close(found.layers, lrp.relevance(Net(lambda a, b: a), x.clamp(min=0), TARGETS).layers)
    assert torch.equal(x, X - 0.5)


def sequential():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True)]
        return with_statistics(nn.Sequential(*layers, nn.Flatten(), nn.Linear(96, 3))).double().eval()


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda layer: masks.l1_unstructured(layer, "weight", amount=0.3),
        lambda layer: masks.ln_structured(layer, "weight", amount=0.3, n=2, dim=0),
        weight_norm,
        spectral_norm,
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        parametrizations.orthogonal,
    ],
)
@pytest.mark.parametrize("index", [0, 2, 6])
def test_layers_whose_weight_is_rewritten_keep_their_names(rewrite, index):
    model = sequential()
    rewrite(model[index])
    model.eval()
    model(X)  # spectral norms settle
    found = lrp.relevance(model, X, TARGETS, rules={str(index): rules.epsilon()})
    assert list(found.layers) == ["0", "2", "6"]
    plain = sequential()
    with torch.no_grad():
        model(X)
        plain[index].weight.copy_(model[index].weight)
    expected = lrp.relevance(plain, X, TARGETS, rules={str(index): rules.epsilon()})
    torch.testing.assert_close(found.layers, expected.layers)


def test_shared_weights_and_shared_layers():
    tied = sequential()
    tied.insert(2, nn.Conv2d(8, 8, 3, padding=1).double())
    tied.insert(3, nn.Conv2d(8, 8, 3, padding=1).double())
    tied[3].weight = tied[2].weight
    assert list(lrp.relevance(tied, X, TARGETS).layers) == ["0", "2", "3", "4", "8"]
    twice = nn.Sequential(*[nn.Linear(3, 3).double()] * 2)
    with pytest.raises(ValueError, match="layer '0' runs twice"):
        lrp.relevance(twice, X[:, :, 0, 0], TARGETS)
    aliased = sequential()
    aliased.alias = aliased[2]
    aliased.forward = lambda x: sequential_forward(aliased, x)
    assert list(lrp.relevance(aliased, X, TARGETS).layers) == ["0", "2", "6"]

    class Filters(nn.Module):
        def forward(self, x):
            return F.linear(F.linear(x, torch.eye(3, dtype=x.dtype)), torch.eye(3, dtype=x.dtype))

    with pytest.raises(ValueError, match="'linear' with weights of no layer is called twice"):
        lrp.relevance(Filters(), X[:, :, 0, 0], TARGETS)


def sequential_forward(model, x):
    for index in range(7):
        x = model[index](x)
    return x


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "googlenet", "vgg11_bn", "mobilenet_v2", "squeezenet1_1"])
def test_torchvisions_networks(name):
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.get_model(name, num_classes=3, **options)
    images = torch.rand(2, 3, 64, 64)
    model = with_statistics(model).eval()
    found = lrp.relevance(model, images, TARGETS[:2])
    layers = [key for key, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    assert sorted(found.layers) == sorted(layers)
    assert all(values.isfinite().all() for values in found.layers.values())


def test_scripted_networks_are_refused_by_name():
    with pytest.raises(ValueError, match="'it' is a scripted module"):
        lrp.relevance(torch.jit.script(sequential()), X, TARGETS)
    half = sequential()
    half[2] = torch.jit.script(copy.deepcopy(half[2]))
    with pytest.raises(ValueError, match="'2' is a scripted module"):
        lrp.relevance(half, X, TARGETS)
