"""What a chapter prints under "On your own model" runs as it stands on torchvision's ResNet-18 at 224 pixels."""

import ast
import builtins
import copy
import json
import re

import pytest
import torch
import torchvision
from compactvision import measure, surgery
from compactvision.pruning import sidt
from torch import nn

from conftest import REPOSITORY
from networks import with_statistics

SHAPE = (3, 224, 224)
HEADING = re.compile(r"^On your own model:\n\n```python\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)


def block_of(path):
    """The lines that a chapter prints for a reader's own model; None where there are none."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    found = [lines for cell in cells for lines in HEADING.findall("".join(cell["source"]))]
    assert len(found) <= 1, f"{path.stem} has {len(found)} of them"
    return found[0] if found else None


CHAPTERS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
BLOCKS = {path.stem: block for path in CHAPTERS if (block := block_of(path)) is not None}


def taken_from_the_reader(block):
    """Names that a block reads before it has given them a value."""
    given, taken = set(dir(builtins)), set()
    for statement in ast.parse(block).body:
        names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
        own = {
            argument.arg for node in ast.walk(statement) if isinstance(node, ast.Lambda) for argument in node.args.args
        }
        own |= {node.id for node in names if isinstance(node.ctx, ast.Store) and not isinstance(statement, ast.Assign)}
        taken |= {node.id for node in names if isinstance(node.ctx, ast.Load)} - given - own
        given |= {node.id for node in names if isinstance(node.ctx, ast.Store)}
        if isinstance(statement, ast.Import | ast.ImportFrom):
            given |= {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
    return taken


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return with_statistics(torchvision.models.resnet18(weights=None))


@pytest.fixture
def readers(network):
    """What a reader has: a network, a few pictures, and the numbers that the comments ask for, small ones."""
    model = copy.deepcopy(network)
    images = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    return {
        "model": model,
        "images": images,
        "batches": [(images[:1], torch.tensor([3])), (images[1:], torch.tensor([1]))],
        "train_batches": [(images, torch.tensor([3, 1]))],
        "test_batches": [(images, torch.tensor([3, 1]))],
        "example_inputs": SHAPE,
        "epochs": 1,
        "steps": 2,
        "layer": "layer4",
        "writer": "layer4.1.conv2",
        "widths": {"layer1.0.conv1": 8, "layer1.1.conv1": 8},
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.01),
    }


@pytest.fixture
def run(readers, capsys):
    """Run a chapter's block as it is printed; what it leaves behind."""

    def execute(slug):
        exec(compile(BLOCKS[slug], f"{slug}, On your own model", "exec"), readers)
        return readers, capsys.readouterr().out

    return execute


def relative(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


def outputs(model, images):
    with torch.no_grad(), measure.evaluating(model):
        return model(images)


def trains_and_loads(small, images, path):
    """One step of training, then a file and back."""
    before = copy.deepcopy(small.state_dict())
    small.train()
    sgd = torch.optim.SGD(small.parameters(), lr=0.01)
    nn.functional.cross_entropy(small(images), torch.tensor([1, 2])).backward()
    assert all(parameter.grad is not None for parameter in small.parameters())
    sgd.step()
    assert any(not torch.equal(value, before[key]) for key, value in small.state_dict().items())
    small.eval()
    surgery.save(small, path)
    same = surgery.load(path, build=lambda: torchvision.models.resnet18(weights=None))
    assert torch.equal(outputs(same, images), outputs(small, images))


def test_every_chapter_has_one():
    assert set(BLOCKS) == {path.stem for path in CHAPTERS}


@pytest.mark.parametrize("slug", BLOCKS)
def test_it_is_short_and_says_what_it_takes(slug, readers):
    block = BLOCKS[slug]
    assert len(block.splitlines()) <= 20
    comment = " ".join(re.search(r"^# yours: .*\n(?:^# .*\n)*", block, flags=re.MULTILINE)[0].split("# "))
    taken = taken_from_the_reader(block)
    assert {name for name in readers if re.search(rf"\b{name}\b", comment)} >= taken
    assert taken <= readers.keys()


@pytest.mark.parametrize("slug", ["energy_aware_pruning", "lrp_pruning", "autobot", "unit_ablation"])
def test_a_cut_network_gives_what_the_mask_gives(slug, run, tmp_path):
    found, printed = run(slug)
    assert ("tensor(" in printed) == (slug == "unit_ablation")  # its drops, which the block prints
    plan = found["plan"] if "plan" in found else found["rows"][-1].plan
    small, images = found["small"], found["images"]
    assert measure.macs(small, SHAPE) == plan.macs < measure.macs(found["model"], SHAPE)
    with surgery.mask(plan.graph.model, plan):
        masked = outputs(plan.graph.model, images)
    assert relative(outputs(small, images), masked) < 1e-4
    assert relative(outputs(found["model"], images), masked) > 1e-3
    trains_and_loads(small, images, tmp_path / "small.safetensors")


def test_slimming(run, tmp_path):
    found, _ = run("proximal_network_slimming")
    model, plan, small, images = (found[name] for name in ("model", "plan", "small", "images"))
    assert measure.macs(small, SHAPE) == plan.macs < measure.macs(model, SHAPE)
    pruned = outputs(surgery.prune(model, plan), images)
    with surgery.mask(model, plan):
        assert relative(pruned, outputs(model, images)) < 1e-4
    assert outputs(small, images).isfinite().all()
    trains_and_loads(small, images, tmp_path / "small.safetensors")


def test_filter_fusion(run, tmp_path):
    found, printed = run("dcff")
    small, images = found["small"], found["images"]
    assert measure.macs(small, SHAPE) < measure.macs(found["model"], SHAPE)
    assert relative(outputs(small, images), outputs(found["fused"], images)) < 1e-4
    assert {name: small.get_submodule(name).out_channels for name in found["widths"]} == found["widths"]
    assert printed.endswith("filters exchanged\n")
    trains_and_loads(small, images, tmp_path / "small.safetensors")


def test_channels_and_ranks(run, tmp_path):
    found, _ = run("collaborative_compression")
    made, small, images = found["made"], found["small"], found["images"]
    assert measure.macs(small, SHAPE) == made.macs <= measure.macs(found["model"], SHAPE) / 2
    paths = {name: path for name, path, _ in surgery.named_layers(small)}
    dense = copy.deepcopy(small)
    factorised = [name for name, rank in made.ranks.items() if rank is not None]
    for name in factorised:
        layer = small.get_submodule(paths[name])
        assert layer.ranks == (made.ranks[name],)
        dense.set_submodule(paths[name], layer.dense())
    assert factorised
    assert relative(outputs(small, images), outputs(dense, images)) < 1e-4
    trains_and_loads(small, images, tmp_path / "small.safetensors")


def test_single_weights(run, tmp_path):
    found, _ = run("rvsm_sparsity")
    sparse, images = found["sparse"], found["images"]
    share = float((sparse.fc.weight == 0).double().mean())
    assert 0 < share == found["splitting"].sparsity()
    assert outputs(sparse, images).isfinite().all()
    trains_and_loads(sparse, images, tmp_path / "sparse.safetensors")


def test_tensor_trains(run, tmp_path):
    found, _ = run("admm_tensor_train")
    model, small, images, table = found["model"], found["small"], found["images"], found["found"]
    assert measure.macs(small, SHAPE) == table.total < measure.macs(model, SHAPE) / 2
    thin = {name: small.get_submodule(name) for name in table.formats}
    assert {name: layer.ranks for name, layer in thin.items()} == {
        name: train.ranks for name, train in table.formats.items()
    }
    dense = copy.deepcopy(small)
    for name, layer in thin.items():
        dense.set_submodule(name, layer.dense())
    assert relative(outputs(small, images), outputs(dense, images)) < 1e-4
    trains_and_loads(small, images, tmp_path / "small.safetensors")


def test_a_decoder_on_the_stages(run):
    found, _ = run("u_mixformer")
    assert found["decoder"].channels == (64, 128, 256, 512)
    assert found["logits"].shape == (2, 21, 56, 56)
    assert found["logits"].isfinite().all()
    look = found["look"]
    assert (look.level, look.query_size, look.key_size) == (4, (7, 7), (7, 7))
    assert torch.allclose(look.weights.sum(-1), torch.ones(2, 8, 49), atol=1e-5)


def test_a_filter_in_the_last_block(run):
    found, _ = run("afidaf")
    assert found["logits"].shape == (2, 1000)
    assert found["logits"].isfinite().all()
    kernels = found["kernels"]
    assert kernels.shape == (2, 512, 7, 7)
    assert not torch.allclose(kernels[0], kernels[1])  # made from the picture


def test_dimensions_of_a_transformer(readers, run):
    torch.manual_seed(1)
    readers["model"] = torchvision.models.SwinTransformer([4, 4], 48, [2, 2], [3, 6], [7, 7], num_classes=10)
    found, _ = run("sidt")
    whole, small = found["model"], found["small"]
    assert found["logits"].shape == (2, 10)
    assert measure.parameters(small) < 0.75 * measure.parameters(whole)
    masked = surgery.mask_dimensions(found["scored"], found["keep"])
    assert relative(outputs(small, found["images"]), outputs(masked, found["images"])) < 1e-4
    assert isinstance(found["search"], sidt.DimensionSearch)


def test_maps(run):
    found, _ = run("xgrad_cam")
    for maps in (found["maps"], found["of_class"]):
        assert maps.shape == (2, 224, 224)
        assert maps.isfinite().all()
        assert 0 <= maps.min() < maps.max() <= 1
    assert found["raw"].shape == (2, 7, 7)
    assert found["raw"].isfinite().all()


def test_the_whole_way(run, tmp_path):
    found, printed = run("your_own_network")
    assert found["report"].budget["met"]
    assert "random channels, tuned alike" in printed
    trains_and_loads(found["small"], found["images"], tmp_path / "small.safetensors")


def test_counts(run):
    found, printed = run("foundations")
    assert printed.startswith(f"11689512 {measure.macs(found['model'], SHAPE)}\n[('")
