"""Cut transformers saved, loaded, exported and counted."""

import io

import pytest
import torch
from compactvision import measure, models, surgery
from compactvision.surgery.blocks import KINDS
from safetensors import safe_open
from safetensors.torch import load_file, save_file


def build_swin():
    from torchvision.models.swin_transformer import SwinTransformer

    return SwinTransformer([4, 4], 24, [2, 2], [2, 4], [4, 3], num_classes=3)


def build_vit():
    from torchvision.models.vision_transformer import VisionTransformer

    return VisionTransformer(32, 8, 2, 3, 24, 40, num_classes=3)


BUILDERS = {"swin": (build_swin, (3, 36, 52)), "vit": (build_vit, (3, 32, 32))}


@pytest.fixture(params=BUILDERS)
def case(request):
    """Builder, cut network and images."""
    build, shape = BUILDERS[request.param]
    model, generator = build(), torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    keep = {
        name: {kind: torch.rand(block.sites[kind].shape, generator=generator) < 0.6 for kind in KINDS}
        for name, block in surgery.find_blocks(model).items()
    }
    keep[next(iter(keep))]["v"][0] = False
    return build, surgery.cut_dimensions(model, keep).eval(), torch.randn(2, *shape)


def test_a_loaded_network_is_bitwise_the_same(case, tmp_path):
    build, small, x = case
    surgery.save(small, tmp_path / "small.safetensors")
    again = surgery.load(tmp_path / "small.safetensors", build=build)
    assert str(again) == str(small)
    assert again.state_dict().keys() == small.state_dict().keys()
    assert all(torch.equal(value, small.state_dict()[key]) for key, value in again.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(again(x), small(x), rtol=1e-6, atol=1e-6)
    assert surgery.find_blocks(again) == surgery.find_blocks(small)


@pytest.mark.parametrize("shared", [False, True])
def test_scores_are_saved_too(case, shared, tmp_path):
    build, _, x = case
    scored = surgery.insert_scores(build(), KINDS, shared=shared).eval()
    for scores in surgery.block_scores(scored).values():
        for score in scores.values():
            torch.nn.init.normal_(score)
    surgery.save(scored, tmp_path / "scored.safetensors")
    again = surgery.load(tmp_path / "scored.safetensors", build=build)
    for name, scores in surgery.block_scores(again).items():
        for kind, score in scores.items():
            assert torch.equal(score, surgery.block_scores(scored)[name][kind])
            assert score.requires_grad
    torch.testing.assert_close(again(x), scored(x), rtol=1e-6, atol=1e-6)


def test_a_network_with_a_builder_needs_nothing_else(tmp_path):
    model = models.imagenet("vit_b_32", image_size=32, num_classes=2)
    keep = {name: {"hidden": torch.arange(3072) < 8} for name in surgery.find_blocks(model)}
    small, path = surgery.cut_dimensions(model, keep | {}), tmp_path / "vit.safetensors"
    arguments = {"name": "vit_b_32", "image_size": 32, "num_classes": 2}
    surgery.save(small, path, builder="imagenet", arguments=arguments)
    assert measure.parameters(surgery.load(path)) == measure.parameters(small)


@pytest.mark.parametrize(
    ("end", "change"),
    [("rows", lambda t: t.flip(0)), ("columns", lambda t: t + 1), ("selection", lambda t: t.flip(0)),
     ("selection", lambda t: t + 1000), ("relative_position_index", torch.zeros_like)],
)  # fmt: skip
def test_damaged_indices_are_refused(end, change, tmp_path):
    model = build_swin()
    keep = {name: {kind: torch.arange(block.sites[kind].shape[-1]).expand(block.sites[kind].shape) % 5 > 1
                   for kind in KINDS} for name, block in surgery.find_blocks(model).items()}  # fmt: skip
    keep["features.1.0"]["v"] = keep["features.1.0"]["v"].clone()
    keep["features.1.0"]["v"][0, 5:] = False
    path = tmp_path / "small.safetensors"
    surgery.save(surgery.cut_dimensions(model, keep), path)
    tensors = load_file(str(path))
    with safe_open(str(path), framework="pt") as file:
        text = file.metadata()
    name = next(name for name in tensors if name.endswith(end))
    tensors[name] = change(tensors[name])
    save_file(tensors, str(path), metadata=text)
    with pytest.raises(ValueError, match=rf"does not fit the network that was built: .*{end}"):
        surgery.load(path, build=build_swin)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"query_sizes": [3, -1]}, "query_sizes"), ({"value_sizes": [0]}, "value_sizes"), ({"heads": 2}, "heads"),
     ({"value_sizes": [2**21]}, "at most 1048576"), ({"scale": "a"}, "scale"), ({"window": [0, 1]}, "window"),
     ({"scores": {"q": [1]}}, "scores"), ({"reads": 999}, "reads"), ({"dropout": 2}, "dropout")],
)  # fmt: skip
def test_descriptions_are_checked(change, message):
    from compactvision.models.attention_forms import MapAttention

    layer = MapAttention(8, (4, 2), (4, 3), scale=0.5, window=(2, 2))
    assert MapAttention.from_description(layer.description()).description() == layer.description()
    with pytest.raises(ValueError, match=message):
        MapAttention.from_description(layer.description() | change)


def test_torch_export_gives_the_same(case):
    _, small, x = case
    exported = torch.export.export(small, (x,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(x), small(x), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_onnx_gives_the_same(case):
    import onnxruntime

    _, small, x = case
    buffer = io.BytesIO()
    torch.onnx.export(small, (x,), dynamo=True, verbose=False).save(buffer)
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(result), small(x), rtol=1e-4, atol=1e-4)
