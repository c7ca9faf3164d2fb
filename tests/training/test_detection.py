"""A detector is trained, validated, interrupted and continued as any other network."""

import pytest
import torch
from compactvision import data, measure, training
from compactvision.data import boxes
from compactvision.models.detection import ChosenMaps, DetectionLoss, Detector
from torch import nn
from torch.utils.data import DataLoader


class Maps(nn.Module):
    """Two maps of a small convolutional network."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.BatchNorm2d(16), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(16, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())

    def forward(self, x):
        fine = self.first(x)
        return [fine, self.second(fine)]


def detector():
    torch.manual_seed(0)
    return Detector(Maps(), (16, 16), (4, 8), 4, width=16)


def train(model, batches, **options):
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    options = {"epochs": 2, "loss": DetectionLoss(), "progress": False, **options}
    return training.fit(model, batches, optimizer=optimizer, **options)


def augmented(n=24, seed=0):
    return data.load("objects", n=n).batches(8, shuffle=True, crop=4, flip=True, seed=seed)


def test_the_loop_of_a_chapter():
    test = data.load("objects", train=False, n=10)
    model = detector()

    def validate(trained):
        return measure.average_precision(*measure.detected(trained, test, score=0.01)).numbers()

    history = train(model, augmented(), validate=validate, progress=True, schedule=training.schedules.one_cycle())
    losses = history.column("train_loss")
    assert losses[1] < losses[0]
    assert set(history.rows[0]) >= {"val_ap", "val_ap50", "val_ap75"}
    assert all(0 <= value <= 1 for value in history.column("val_ap50"))


def test_an_interrupted_run_continues_bitwise(tmp_path):
    whole = detector()
    train(whole, augmented(), seed=3)

    class Stop:
        def on_step(self, state):
            state.stop = state.step == 4

    class Go:
        def on_step(self, state):
            pass

    Go.__name__ = Go.__qualname__ = Stop.__name__ = Stop.__qualname__ = "Watch"
    half = detector()
    options = {"checkpoint": tmp_path / "run.pt", "every_steps": 1, "seed": 3}
    with pytest.raises(training.Stopped):
        train(half, augmented(), callbacks=[Stop()], **options)
    rest = detector()
    train(rest, augmented(), callbacks=[Go()], **options)
    for ours, theirs in zip(rest.state_dict().values(), whole.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_checkpoint_of_another_loss_is_refused(tmp_path):
    train(detector(), augmented(), checkpoint=tmp_path / "run.pt")
    with pytest.raises(ValueError, match="gamma"):
        train(detector(), augmented(), checkpoint=tmp_path / "run.pt", loss=DetectionLoss(gamma=1.0))


def test_evaluate_gives_the_loss_of_all_images():
    model, found = detector(), data.load("objects", n=6)
    numbers = training.evaluate(model, found.batches(6), loss=DetectionLoss())
    assert numbers["n"] == 6
    assert set(numbers) == {"loss", "n"}
    with torch.no_grad():
        expected = DetectionLoss()(model.eval()(next(iter(found.batches(6)))[0]), found.targets)
    assert numbers["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_a_loader_with_padded_boxes_will_do():
    pictures = [torch.randn(3, 32, 32) for _ in range(8)]
    rows = [torch.tensor([[2.0, 2, 20, 20, number % 4]] * (number % 3)).reshape(-1, 5) for number in range(8)]

    def together(samples):
        images, objects = zip(*samples, strict=True)
        return torch.stack(images), boxes.padded(objects)

    loader = DataLoader(list(zip(pictures, rows, strict=True)), batch_size=4, collate_fn=together)
    assert train(detector(), loader).column("train_loss")[-1] > 0


def test_half_precision():
    assert train(detector(), augmented(), precision="bf16", epochs=1).column("train_loss")[0] > 0


def test_what_does_not_fit_is_told():
    class_numbers = data.load("scenes", n=8, targets="class", objects=(1, 1), size=64)
    with pytest.raises(ValueError, match="targets must be"):
        train(detector(), class_numbers.batches(4))
    backwards = Detector(ChosenMaps(Maps(), (0,)), (8,), (4,), 4, width=16)
    with pytest.raises(ValueError, match=r"batches: maps\[0\] must be \(B, 8, H, W\)"):
        train(backwards, augmented())
    with pytest.raises(ValueError, match="model must have a method predict"):
        measure.detected(Maps(), augmented())
    with pytest.raises(ValueError, match=r"batches\[0\] \(targets\) must be boxes"):
        measure.detected(detector(), class_numbers)
    with pytest.raises(ValueError, match="batches is empty"):
        measure.detected(detector(), [])


def test_it_learns():
    """One object that is always there is found after a few steps, in its place and of its class."""
    found = data.load("objects", n=2, count=(1, 1), seed=1)
    model = detector()
    train(model, found.batches(2), epochs=60)
    ours = measure.average_precision(*measure.detected(model, found))
    assert ours.at(0.5) == 1
