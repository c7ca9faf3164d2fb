"""Batches: normalisation, crops and flips against the slow oracle, epochs, resuming."""

import pytest
import torch
from compactvision.data import ImageSet
from compactvision.data.batches import crop_and_flip
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.functional import normalize

from oracles import windows


def make(n=23, channels=3, height=5, width=6, targets=None):
    generator = torch.Generator().manual_seed(n)
    return ImageSet(
        images=torch.randint(1, 256, (n, channels, height, width), dtype=torch.uint8, generator=generator),
        targets=torch.arange(n) if targets is None else targets,
        classes=tuple(str(i) for i in range(n)),
        name="made",
        provenance="made for a test",
        mean=(0.5, 0.25, 0.125)[:channels],
        std=(0.25, 0.5, 0.2)[:channels],
    )


def test_normalisation_by_hand():
    images = torch.tensor([[0, 255], [51, 102]], dtype=torch.uint8).view(1, 1, 2, 2)
    made = ImageSet(images, torch.tensor([0]), ("a",), "m", "p", (0.5,), (0.25,))
    ((inputs, targets),) = made.batches()
    torch.testing.assert_close(inputs, torch.tensor([[-2.0, 2.0], [-1.2, -0.4]]).view(1, 1, 2, 2))
    assert targets.tolist() == [0]


def test_normalisation_agrees_with_torchvision_bit_by_bit():
    made = make()
    ((inputs, _),) = made.batches()
    assert torch.equal(inputs, normalize(made.images.float().div(255), made.mean, made.std))


@settings(max_examples=40, deadline=None)
@given(
    crop=st.integers(0, 4),
    flip=st.booleans(),
    seed=st.integers(-3, 2**70),
    epoch=st.integers(0, 5),
    batch_size=st.integers(1, 30),
    channels=st.integers(1, 3),
)
def test_crops_equal_the_oracle_bit_by_bit(crop, flip, seed, epoch, batch_size, channels):
    made = make(channels=channels)
    batches = made.batches(batch_size, crop=crop, flip=flip, seed=seed, shuffle=True)
    batches.set_epoch(epoch)
    drawn = {int(t): image for images, targets in batches.raw() for image, t in zip(images, targets, strict=True)}
    assert len(drawn) == 23
    for number, image in drawn.items():
        top, left, mirrored = windows.move(seed, epoch, number, crop, flip)
        expected = windows.window(made.images[number].numpy(), top, left, mirrored, crop)
        assert image.dtype == torch.uint8
        assert (image.numpy() == expected).all()


def test_every_window_and_mirror_occurs_evenly():
    made = make(n=3600, channels=1, height=1, width=1)
    moves = made.batches(crop=1, flip=True)._moves()
    counts = torch.bincount((moves[0] * 3 + moves[1]) * 2 + moves[2], minlength=18)
    assert counts.sum() == 3600
    assert (counts - 200).abs().max() < 60  # four standard deviations: 55


def test_a_border_of_zeros_comes_before_normalisation():
    made = make(n=50)
    black = torch.tensor([-2.0, -0.5, -0.625]).view(3, 1, 1)  # (0 - mean) / std
    for (inputs, _), (pixels, _) in zip(made.batches(crop=2), made.batches(crop=2).raw(), strict=True):
        border = pixels == 0
        assert border.any()
        assert torch.equal(inputs[border], black.expand_as(inputs)[border])


def test_crop_and_flip_by_hand():
    image = torch.tensor([[1, 2], [3, 4]]).view(1, 1, 2, 2)
    one, zero = torch.tensor([1]), torch.tensor([0])
    assert crop_and_flip(image, zero, zero, zero, 1).flatten().tolist() == [0, 0, 0, 1]
    assert crop_and_flip(image, one, 2 * one, zero, 1).flatten().tolist() == [2, 0, 4, 0]
    assert crop_and_flip(image, one, 2 * one, one, 1).flatten().tolist() == [0, 2, 0, 4]
    assert crop_and_flip(image, zero, zero, one, 0).flatten().tolist() == [2, 1, 4, 3]


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [10, 10, 3]), (True, [10, 10])])
def test_lengths(drop_last, sizes):
    batches = make().batches(10, drop_last=drop_last)
    assert [len(targets) for _, targets in batches] == sizes
    assert len(batches) == len(sizes)
    assert len(make(n=20).batches(10, drop_last=drop_last)) == 2


def test_order_without_and_with_shuffle():
    made = make()
    assert torch.cat([targets for _, targets in made.batches(4)]).tolist() == list(range(23))
    batches = made.batches(4, shuffle=True, seed=9)
    batches.set_epoch(3)
    assert torch.cat([targets for _, targets in batches]).tolist() == windows.order(9, 3, 23)
    assert torch.cat(batches.indices()).tolist() == windows.order(9, 3, 23)


def test_iterating_does_not_advance_the_epoch():
    batches = make().batches(23, shuffle=True, crop=1, flip=True)
    ((first, order),), ((again, order_again),) = batches, batches
    assert torch.equal(first, again)
    assert torch.equal(order, order_again)
    batches.set_epoch(1)
    ((_, other),) = batches
    assert other.tolist() != order.tolist()
    batches.set_epoch(0)
    ((back, _),) = batches
    assert torch.equal(first, back)


def test_a_sample_looks_the_same_at_any_batch_size():
    made = make()
    looks = []
    for batch_size in (1, 7, 23):
        batches = made.batches(batch_size, shuffle=True, crop=2, flip=True, seed=1)
        inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
        looks.append(inputs[targets.argsort()])
    assert torch.equal(looks[0], looks[1])
    assert torch.equal(looks[0], looks[2])


def test_starting_at_a_step_continues_the_epoch():
    batches = make().batches(4, shuffle=True, crop=1)
    full, rest = list(batches), list(batches.starting_at(4))
    assert len(rest) == 2
    for (x, y), (u, v) in zip(full[4:], rest, strict=True):
        assert torch.equal(x, u)
        assert torch.equal(y, v)
    assert list(batches.starting_at(6)) == []


def test_types_and_memory_format():
    made = make()
    ((plain, _),) = made.batches(23, crop=1)
    ((inputs, _),) = made.batches(23, crop=1, dtype=torch.bfloat16, channels_last=True, device="cpu")
    assert inputs.dtype == torch.bfloat16
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(inputs, plain.bfloat16())


def test_other_targets_pass_through():
    several = torch.rand(23, 4)
    assert torch.equal(torch.cat([t for _, t in make(targets=several).batches(5, crop=1, flip=True)]), several)
    masks = torch.randint(0, 3, (23, 5, 6))
    assert torch.equal(torch.cat([t for _, t in make(targets=masks).batches(5)]), masks)
    with pytest.raises(ValueError, match=r"\(23, 5, 6\) are masks"):
        make(targets=masks).batches(5, flip=True)


def test_the_set_is_not_changed():
    made = make()
    before = made.images.clone()
    list(made.batches(5, shuffle=True, crop=2, flip=True))
    assert torch.equal(made.images, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"crop": -1}, "crop must be at least 0, not -1"),
        ({"dtype": torch.int64}, "dtype must be a floating-point type"),
        ({"batch_size": 24, "drop_last": True}, "batch_size 24 with drop_last leaves no batch of 23"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make().batches(**options)


def test_bad_epochs_and_steps_are_named():
    batches = make().batches(4)
    with pytest.raises(ValueError, match="epoch must be at least 0, not -1"):
        batches.set_epoch(-1)
    with pytest.raises(ValueError, match=r"step must lie in \[0, 6\], not 7"):
        batches.starting_at(7)


@pytest.mark.cuda
def test_the_same_batches_on_a_gpu():
    made = make()
    options = {"batch_size": 5, "shuffle": True, "crop": 2, "flip": True}
    for (x, y), (u, v) in zip(made.batches(**options), made.batches(**options, device="cuda"), strict=True):
        assert u.is_cuda
        assert v.is_cuda
        torch.testing.assert_close(x, u.cpu())
        assert torch.equal(y, v.cpu())
