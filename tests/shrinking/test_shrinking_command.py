"""``compactvision shrink`` on a folder of small pictures, from the command line's own entry."""

import pickle
import shutil
import sys

import numpy as np
import pytest
import torch
from compactvision import __main__ as cli
from compactvision import data, measure, shrinking, surgery
from compactvision.shrinking import command, networks, onnx_file, pictures
from PIL import Image
from torch import nn

from .conftest import network, stripes

BUILD = """
from torch import nn

def build(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(12 * 16, num_classes),
    )

def wrong():
    return 7

def few():
    return build(3)

def gray():
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def raises():
    raise KeyError("no weights\\nof mine")

def needs(width):
    return build(4)
"""


def _write(folder, count, seed):
    images, targets = stripes(count, seed, size=16)
    levels = (images * 40 + 110).clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1).numpy()
    for number, (image, target) in enumerate(zip(levels, targets.tolist(), strict=True)):
        path = folder / f"class {target}"
        path.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(path / f"{number}.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures")
    _write(path / "train", 160, 1)
    _write(path / "test", 80, 2)
    (path / "net.py").write_text(BUILD)
    return path


def _arguments(folder, out, *more):
    model = f"{folder / 'net.py'}:build"
    options = [
        "shrink",
        "--model",
        model,
        "--data",
        str(folder),
        "--out",
        str(out),
        "--batch-size",
        "32",
        "--device",
        "cpu",
    ]
    return [*options, "--keep-macs", "0.6", *more]


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "small"
    assert cli.main(_arguments(folder, out, "--epochs", "1", "--rivals", "random")) == 0
    return out


def test_everything_is_written(done):
    written = {path.name for path in done.iterdir() if path.is_file()}
    assert written == {"small.safetensors", "small.onnx", "report.md", "report.json", "report.png"}
    assert (done / "report.png").read_bytes()[:4] == b"\x89PNG"


def test_the_report_tells_what_the_network_wants(done):
    report = shrinking.Report.from_json((done / "report.json").read_text())
    assert report.conditions["classes"] == [f"class {number}" for number in range(4)]
    assert report.conditions["size"] == [16, 16]
    assert report["tuned"].macs <= 0.6 * report["whole"].macs
    text = (done / "report.md").read_text()
    assert text.startswith("# A smaller network\n\n| network | accuracy |")
    assert "![The table](report.png)" in text
    assert "RGB pictures of 16 x 16 pixels in [0, 1], minus (0.485, 0.456, 0.406)" in text


def _small(folder, done):
    build = networks.named(f"{folder / 'net.py'}:build", None, 4).model
    return surgery.load(done / "small.safetensors", build=lambda: build)


def test_the_weights_are_those_of_the_table(folder, done):
    small = _small(folder, done)
    report = shrinking.Report.from_json((done / "report.json").read_text())
    assert measure.macs(small, (3, 16, 16)) == report["tuned"].macs
    read = pictures.pictures(folder, None, train_fraction=0.8, seed=0).normalised(*networks.IMAGENET)
    assert measure.accuracy(small, read.test) == report["tuned"].metric


def test_the_onnx_file_gives_the_same_answers_for_any_number_of_pictures(folder, done):
    onnxruntime = pytest.importorskip("onnxruntime")
    small = _small(folder, done)
    session = onnxruntime.InferenceSession(str(done / "small.onnx"), providers=["CPUExecutionProvider"])
    for count in (1, 5):
        x = torch.randn(count, 3, 16, 16)
        (found,) = session.run(None, {"pictures": x.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), small(x), rtol=1e-3, atol=1e-4)


def test_a_second_call_goes_on_from_the_first(folder, done, capsys):
    before = (done / "small.safetensors").read_bytes()
    assert cli.main(_arguments(folder, done, "--epochs", "1", "--rivals", "random", "--no-onnx")) == 0
    assert "trained first" not in capsys.readouterr().out
    assert (done / "small.safetensors").read_bytes() == before


def test_another_call_into_the_same_folder_is_refused(folder, done, capsys):
    assert cli.main(_arguments(folder, done, "--epochs", "2")) == 2
    assert "belongs to a different run: epochs is 1.0 there and 2.0 here" in capsys.readouterr().err


def test_plan_only_tunes_and_writes_nothing_but_the_report(folder, tmp_path, capsys):
    assert cli.main(_arguments(folder, tmp_path, "--plan-only", "--first-epochs", "1")) == 0
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"report.md", "report.json", "report.png"}
    assert "right after the cut" in capsys.readouterr().out


def test_a_first_training_stops_in_time_and_says_so(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "FIRST_MOST", 0.0)
    monkeypatch.setattr(command, "step_seconds", lambda *given: 1e-9)
    assert cli.main(_arguments(folder, tmp_path, "--plan-only", "--first-epochs", "2", "--minutes", "1")) == 0
    assert "2.0 passes planned, and stopped by the time after 1 of 10 steps" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(("apart", "said"), [(None, "the exporter fails (Oops: no such operation)"),
                                             (0.5, "its answers differ by 0.5 of the largest")])  # fmt: skip
def test_without_an_onnx_file_the_rest_is_kept_and_the_status_says_it(
    folder, done, tmp_path, monkeypatch, capsys, apart, said
):
    def export(model, example, path):
        if apart is None:
            raise ValueError("Oops: no such operation")
        path.write_bytes(b"wrong")
        return apart

    shutil.copytree(done, tmp_path / "small")
    (tmp_path / "small" / "small.onnx").unlink()
    monkeypatch.setattr(onnx_file, "export", export)
    assert cli.main(_arguments(folder, tmp_path / "small", "--epochs", "1", "--rivals", "random")) == 1
    assert f"no ONNX file after all, {said}" in capsys.readouterr().out
    assert not (tmp_path / "small" / "small.onnx").exists()
    assert said in (tmp_path / "small" / "report.md").read_text().replace("\\", "")


def test_nothing_is_pickled_unless_asked_for(folder, tmp_path):
    more = ["--pickle", "--no-onnx", "--first-epochs", "1", "--epochs", "0.2", "--rivals"]
    assert cli.main(_arguments(folder, tmp_path, *more)) == 0
    assert isinstance(torch.load(tmp_path / "small.pt", weights_only=False), nn.Module)
    assert not (tmp_path / "small.onnx").exists()


def test_one_folder_is_split_alike_each_time(folder):
    parts = [pictures.pictures(folder / "train", 16, train_fraction=0.8, seed=0) for _ in range(2)]
    assert parts[0].test.digest() == parts[1].test.digest()
    assert len(parts[0].train) + len(parts[0].test) == 160
    assert "split by content" in parts[0].said[-1]


def test_pictures_in_both_parts_are_counted(folder, tmp_path):
    _write(tmp_path / "train", 40, 1)
    _write(tmp_path / "test", 40, 1)
    assert "40 of 40 test pictures are among the training pictures" in pictures.pictures(
        tmp_path, 16, train_fraction=0.8, seed=0
    ).said[0]  # fmt: skip


def test_the_side_is_the_usual_one(folder):
    assert pictures.usual_side(folder) == 16


def test_other_classes_in_the_test_part_are_refused(tmp_path):
    _write(tmp_path / "train", 40, 1)
    _write(tmp_path / "test", 40, 1)
    (tmp_path / "test" / "class 0").rename(tmp_path / "test" / "class 9")
    with pytest.raises(ValueError, match="same classes; class 0, class 9 is in one of them only"):
        pictures.pictures(tmp_path, 16, train_fraction=0.8, seed=0)


def test_the_books_own_trained_network_needs_no_first_training():
    found = networks.named("compactvision:resnet20_glyphs", None, data.load("glyphs", n=10).num_classes)
    assert found.trained
    assert (found.builder, found.arguments) == ("pretrained", {"name": "resnet20_glyphs"})


def test_weights_with_another_last_layer_are_taken_but_for_it(tmp_path):
    whole = networks.named("torchvision:squeezenet1_1", None, 4)
    assert not whole.trained
    other = networks.named("compactvision:resnet20", None, 7).model
    torch.save({"state_dict": other.state_dict()}, tmp_path / "seven.pt")
    found = networks.named("compactvision:resnet20", tmp_path / "seven.pt", 4)
    assert not found.trained
    assert "made anew" in found.said[0]
    assert found.model.conv1.weight.equal(other.conv1.weight)
    same = networks.named("compactvision:resnet20", tmp_path / "seven.pt", 7)
    assert same.trained
    assert same.said == ()


def test_weights_are_read_without_running_code(tmp_path):
    class Bad:
        def __reduce__(self):
            return (exec, ("raise SystemExit(3)",))

    (tmp_path / "bad.pt").write_bytes(pickle.dumps(Bad()))
    torch.save(network(), tmp_path / "whole.pt")
    for name in ("bad.pt", "whole.pt"):
        with pytest.raises(ValueError, match=f"--weights: .*{name}"):
            networks.read_weights(tmp_path / name)


def test_weights_that_do_not_fit_are_named(tmp_path):
    torch.save(network().state_dict(), tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"--weights: .* does not fit the network: it lacks"):
        networks.named("compactvision:resnet20", tmp_path / "other.pt", 4)


BAD = [
    (["--model", "resnet18"], "--model must be torchvision:NAME"),
    (["--model", "torchvision:resnet19"], "did you mean"),
    (["--model", "compactvision:nothing"], "--model: the book has no network 'nothing'"),
    (["--model", "none.py:build"], "--model: there is no file 'none.py'"),
    (["--weights", "none.pt"], "--weights: there is no file"),
    (["--data", "none"], "none is not a folder"),
    (["--keep-macs", "1.5"], "keep_macs must be in (0, 1]"),
    (["--keep-macs", "0.5", "--minutes", "0"], "--minutes must be positive"),
    (["--batch-size", "1"], "--batch-size must be at least 2"),
    (["--test-share", "1"], "--test-share must lie in (0, 1)"),
    (["--mean", "0", "0", "0"], "--mean and --std are given together"),
    (["--mean", "0", "0", "0", "--std", "1", "0", "1"], "--std must be positive, got 0.0"),
    (["--mean", "0", "nan", "0", "--std", "1", "1", "1"], "--mean must be finite, got nan"),
    (["--seed", "-1"], "--seed must not be negative, got -1"),
    (["--device", "cuda:9"], "device"),
    (["--importance", "best"], "invalid choice: 'best'"),
]


@pytest.mark.parametrize(("more", "said"), BAD)
def test_bad_options_are_one_line(folder, tmp_path, capsys, more, said):
    assert cli.main(_arguments(folder, tmp_path, "--first-epochs", "1", *more)) == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(("function", "said"), [
    ("wrong", "wrong must return a torch.nn.Module, got a int"),
    ("none", "has no function 'none'"),
    ("raises", "raises in"),
    ("raises", "fails (KeyError: 'no weights"),
    ("needs", "fails (TypeError: needs() missing 1 required positional argument: 'width')"),
    ("few", "3"),
    ("gray", "channel"),
])  # fmt: skip
def test_a_function_that_builds_no_network_for_these_pictures_is_refused(folder, capsys, tmp_path, function, said):
    arguments = _arguments(folder, tmp_path, "--plan-only")
    arguments[2] = arguments[2].replace(":build", f":{function}")
    assert cli.main(arguments) == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [("def build(:", "SyntaxError: "), ("import not_there_at_all", "ModuleNotFoundError: No module named")],
)
def test_a_file_that_cannot_be_imported_is_refused_in_one_line(folder, capsys, tmp_path, text, said):
    (tmp_path / "broken_file.py").write_text(text)
    arguments = _arguments(folder, tmp_path / "out")
    arguments[2] = f"{tmp_path / 'broken_file.py'}:build"
    assert cli.main(arguments) == 2
    told = capsys.readouterr().err
    assert f"broken_file.py' cannot be imported ({said}" in told
    assert len(told.splitlines()) == 1
    assert "broken_file" not in sys.modules


def test_a_file_may_import_what_lies_beside_it_and_its_classes_can_be_pickled(tmp_path):
    (tmp_path / "layers_of_mine.py").write_text("from torch import nn\n\nclass Mine(nn.Linear):\n    pass\n")
    (tmp_path / "net_of_mine.py").write_text(
        "from layers_of_mine import Mine\n\nclass Net(Mine):\n    pass\n\ndef build():\n    return Net(2, 2)\n"
    )
    before = list(sys.path)
    model = networks.named(f"{tmp_path / 'net_of_mine.py'}:build", None, 2).model
    assert sys.path == before
    torch.save(model, tmp_path / "whole.pt")
    again = torch.load(tmp_path / "whole.pt", weights_only=False)
    assert again.weight.equal(model.weight)
    for name in ("layers_of_mine", "net_of_mine"):
        del sys.modules[name]


def test_too_few_pictures_to_split_name_the_option(tmp_path):
    for name, level in (("a", 10), ("b", 200)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (16, 16), (level, 0, 0)).save(tmp_path / name / "only.png")
    with pytest.raises(ValueError, match=r"--test-share 0\.2: "):
        pictures.pictures(tmp_path, 16, train_fraction=0.8, seed=0)
