"""The detector against slow oracles, on every kind of backbone, saved, counted, and refusing what it cannot take."""

import copy

import pytest
import torch
from compactvision import measure, surgery
from compactvision.data import boxes as placed
from compactvision.models import detection, encoders
from compactvision.models.detection import Cells, ChosenMaps, DetectionLoss, Detector, SwinMaps, ViTMaps
from torch import nn
from torchvision.models import SwinTransformer, VisionTransformer
from torchvision.ops import batched_nms, generalized_box_iou_loss, sigmoid_focal_loss

from oracles import detection as oracle


def swin():
    return SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=5)


def small(classes=3, **options):
    maps = SwinMaps(swin())
    return Detector(maps, maps.channels, maps.strides, classes, width=16, **options)


def some_targets(images=3, most=4, classes=3, size=64):
    corner = torch.rand(images, most, 2) * size * 0.7
    sides = torch.rand(images, most, 2) * size * 0.5 + 4
    found = torch.cat([corner, (corner + sides).clamp(max=size), torch.randint(0, classes, (images, most, 1))], 2)
    empty = torch.rand(images, most, 1) < 0.3
    return found.where(~empty, -1.0)


def some_cells(images=3, classes=3):
    centres = torch.cat([detection.network.cell_centres(8, 8, 8), detection.network.cell_centres(4, 4, 16)])
    strides = torch.cat([torch.full((64,), 8.0), torch.full((16,), 16.0)])
    logits = torch.randn(images, 80, classes, dtype=torch.float64)
    sides = torch.rand(images, 80, 4, dtype=torch.float64) * 20 + 0.1
    return Cells(logits, sides, centres.double(), strides.double())


def test_cells_are_where_they_should_be():
    cells = small().eval()(torch.zeros(2, 3, 64, 64))
    assert cells.logits.shape == (2, 256 + 64, 3)
    assert cells.centres[0].tolist() == [2, 2]
    assert cells.centres[1].tolist() == [6, 2]
    assert cells.centres[16].tolist() == [2, 6]
    assert cells.centres[256].tolist() == [4, 4]
    assert cells.centres[-1].tolist() == [60, 60]
    assert cells.strides[[0, 255, 256, 319]].tolist() == [4, 4, 8, 8]
    assert bool((cells.sides > 0).all())
    middle = (cells.boxes[..., :2] + cells.sides[..., :2], cells.boxes[..., 2:] - cells.sides[..., 2:])
    assert torch.allclose(middle[0], cells.centres.expand_as(middle[0]), atol=1e-4)
    assert torch.allclose(middle[1], cells.centres.expand_as(middle[1]), atol=1e-4)


def test_before_training_nothing_is_sure():
    probabilities = small()(torch.randn(2, 3, 64, 64)).logits.sigmoid()
    assert float(probabilities.detach().mean()) == pytest.approx(0.01, rel=0.2)


def test_the_head_is_shared_and_the_pyramid_adds():
    detector = small().eval()
    fine, coarse = torch.randn(1, 16, 16, 16), torch.randn(1, 32, 8, 8)
    levels = detector.pyramid([fine, coarse])
    below = detector.laterals[1](coarse)
    assert torch.allclose(levels[1], below)
    copied = below.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(levels[0], detector.laterals[0](fine) + copied, atol=1e-6)


@pytest.mark.parametrize("radius", [0.5, 1.5, 10.0])
def test_positives_equal_the_oracle(radius):
    cells, targets = some_cells(), some_targets().double()
    found = detection.positives(cells.centres, cells.strides, targets, radius=radius)
    expected = [
        [oracle.owner(c, s, t, radius) for c, s in zip(cells.centres.tolist(), cells.strides.tolist(), strict=True)]
        for t in targets.tolist()
    ]
    assert found.tolist() == expected
    assert (found >= 0).any()


def test_of_two_boxes_around_a_cell_the_smaller_wins():
    centres, strides = torch.tensor([[10.0, 10]]), torch.tensor([8.0])
    large, small_one = [0.0, 0, 20, 20, 0], [8.0, 8, 13, 13, 1]
    for order, expected in (([large, small_one], 1), ([small_one, large], 0), ([large, large], 0)):
        assert detection.positives(centres, strides, torch.tensor([order])).tolist() == [[expected]]


def test_the_loss_equals_the_oracle():
    cells, targets = some_cells(), some_targets().double()
    for loss in (DetectionLoss(), DetectionLoss(alpha=0.5, gamma=1.0, radius=0.8, box_weight=2.0)):
        classes, sides = loss.parts(cells, targets)
        lists = (cells.logits, cells.boxes, cells.centres, cells.strides, targets)
        expected = oracle.loss(*(each.tolist() for each in lists), loss.alpha, loss.gamma, loss.radius)
        assert (float(classes), float(sides)) == pytest.approx(expected, rel=1e-12)
        assert float(loss(cells, targets)) == pytest.approx(expected[0] + loss.box_weight * expected[1], rel=1e-12)


def test_its_parts_are_those_of_torchvision():
    logits, targets = torch.randn(50, 3).double(), torch.randint(0, 2, (50, 3)).double()
    ours = detection.focal_loss(logits, targets)
    assert torch.allclose(ours, sigmoid_focal_loss(logits, targets), atol=1e-12)
    first, second = (placed.padded(list(some_targets(1, 9).abs()))[0, :, :4].double() for _ in range(2))
    first, second = (torch.cat([each[:, :2], each[:, :2].maximum(each[:, 2:]) + 1], 1) for each in (first, second))
    assert torch.allclose(
        1 - detection.generalised_iou(first, second), generalized_box_iou_loss(first, second), atol=1e-6
    )


def test_gradients_of_the_loss():
    cells, targets = some_cells(images=1), some_targets(images=1).double()
    logits, sides = (part.requires_grad_() for part in cells[:2])
    loss = DetectionLoss()
    assert torch.autograd.gradcheck(lambda a, b: loss(Cells(a, b, *cells[2:]), targets), (logits, sides), atol=1e-6)


def test_images_without_objects_have_a_loss_and_gradients():
    detector = small()
    loss = DetectionLoss()(detector(torch.randn(2, 3, 64, 64)), torch.full((2, 3, 5), -1.0))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in detector.parameters())


def test_every_parameter_gets_a_gradient():
    detector = small()
    DetectionLoss()(detector(torch.randn(2, 3, 64, 64)), some_targets(2)).backward()
    assert [name for name, p in detector.named_parameters() if p.grad is None or not p.grad.any()] == []


def ranked(images=4, count=40):
    corner = torch.rand(images, count, 2) * 20
    return torch.cat([corner, corner + torch.rand(images, count, 2) * 6 + 12], 2), torch.randint(0, 3, (images, count))


@pytest.mark.parametrize("overlap", [0.1, 0.5, 0.8])
def test_suppression_equals_the_oracle_and_torchvision(overlap):
    boxes, classes = ranked()
    stay = detection.survivors(boxes, classes, overlap=overlap)
    scores = torch.linspace(1, 0, boxes.shape[1])
    for image in range(len(boxes)):
        mine = stay[image].nonzero()[:, 0].tolist()
        assert mine == oracle.suppress(boxes[image].tolist(), classes[image].tolist(), overlap)
        assert mine == batched_nms(boxes[image], scores, classes[image], overlap).tolist()
    assert not stay.all()


def test_a_chain_of_overlaps_is_resolved_from_the_surest_on():
    steps = torch.arange(30.0)[:, None]
    boxes = torch.cat([steps * 4, steps * 0, steps * 4 + 10, steps * 0 + 10], 1)[None]  # each overlaps its neighbours
    stay = detection.survivors(boxes, torch.zeros(1, 30, dtype=torch.long), overlap=0.4)
    assert stay[0].tolist() == [place % 2 == 0 for place in range(30)]
    there = torch.ones(1, 30, dtype=torch.bool)
    there[0, 0] = False
    stay = detection.survivors(boxes, torch.zeros(1, 30, dtype=torch.long), there, overlap=0.4)
    assert stay[0].tolist() == [place % 2 == 1 for place in range(30)]


def says(cells, images, **options):
    given = copy.copy(small())
    given.forward = lambda x: cells
    return given.predict(images, **options)


def test_prediction_step_by_step():
    cells = some_cells(images=2)
    cells = Cells(*(part.float() for part in cells))
    images = torch.zeros(2, 3, 64, 64)
    for candidates in (5, 300):
        found = says(cells, images, score=0.4, overlap=0.5, most=6, candidates=candidates)
        for image in range(2):
            pairs = [(float(cells.logits[image, a, c].sigmoid()), a, c) for a in range(80) for c in range(3)]
            best = sorted((p for p in pairs if p[0] > 0.4), reverse=True)[:candidates]
            boxes = [[min(max(v, 0.0), 64.0) for v in cells.boxes[image, a].tolist()] for _, a, _ in best]
            stay = oracle.suppress(boxes, [c for *_, c in best], 0.5)[:6]
            assert found[image].classes.tolist() == [best[place][2] for place in stay]
            assert torch.allclose(found[image].scores, torch.tensor([best[place][0] for place in stay]))
            assert torch.allclose(found[image].boxes, torch.tensor([boxes[place] for place in stay]), atol=1e-4)


def test_prediction_leaves_the_model_as_it_was():
    detector = small().train()
    detector.backbone.eval()
    found = detector.predict(torch.randn(3, 3, 64, 64), score=0.001)
    assert detector.training
    assert not detector.backbone.training
    assert len(found) == 3
    assert not found[0].scores.requires_grad
    assert found[0].boxes.min() >= 0
    assert found[0].boxes.max() <= 64
    assert bool((found[0].scores.diff() <= 0).all())


def test_swin_maps_are_the_stages():
    network = swin().eval()
    maps = SwinMaps(network).eval()
    x = torch.randn(2, 3, 64, 64)
    first = network.features[1](network.features[0](x))
    second = network.features[3](network.features[2](first))
    for found, stage in zip(maps(x), (first, second), strict=True):
        expected = nn.functional.layer_norm(stage, stage.shape[-1:])
        assert torch.allclose(found, expected.permute(0, 3, 1, 2), atol=1e-5)
    assert [p for p in maps.parameters() if p is network.features[1][0].mlp[0].weight]
    only = SwinMaps(network, (1,)).eval()
    assert (only.channels, only.strides) == ((32,), (8,))
    assert torch.allclose(only(x)[0], maps(x)[1])


def test_other_backbones():
    for backbone, size in (
        (SwinMaps(SwinTransformer([4, 4], 24, [1, 1, 1, 1], [1, 2, 4, 8], [4, 4]), (1, 2, 3)), (64, 96)),
        (ViTMaps(VisionTransformer(32, 8, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=32)), (32, 32)),
    ):
        detector = Detector(backbone, backbone.channels, backbone.strides, 2, width=8)
        cells = detector(torch.zeros(1, 3, *size))
        assert cells.logits.shape[1] == sum(-(-size[0] // s) * -(-size[1] // s) for s in backbone.strides)
    mit = ChosenMaps(encoders.mit_b0(), (2, 3))
    assert Detector(mit, (160, 256), (16, 32), 2, width=8)(torch.zeros(1, 3, 64, 64)).logits.shape == (1, 20, 2)
    one = ChosenMaps(nn.Conv2d(3, 8, 4, 4), (0,))
    assert Detector(one, (8,), (4,), 2, width=8)(torch.zeros(1, 3, 32, 32)).logits.shape == (1, 64, 2)


def test_sizes_that_do_not_divide():
    cells = small()(torch.zeros(1, 3, 52, 60))
    assert cells.logits.shape[1] == 13 * 15 + 7 * 8
    assert len(small().predict(torch.zeros(1, 3, 52, 60))) == 1


def test_counts():
    detector = small()
    head = 2 * (16 * 16 * 9 + 16 + 32) + (16 * 3 + 16 * 4) * 9 + 7
    assert measure.parameters(detector) == measure.parameters(detector.backbone) + 16 * 16 + 16 + 32 * 16 + 16 + head
    own = measure.macs(detector, (3, 64, 64)) - measure.macs(detector.backbone, (3, 64, 64))
    assert own == 256 * 16 * 16 + 64 * 32 * 16 + 320 * (2 * 16 * 16 * 9 + 16 * 7 * 9)


def test_saved_and_loaded(tmp_path):
    detector, x = small().eval(), torch.randn(1, 3, 64, 64)
    surgery.save(detector, tmp_path / "detector.safetensors")
    loaded = surgery.load(tmp_path / "detector.safetensors", build=small)
    assert torch.equal(loaded(x).logits, detector(x).logits)
    assert torch.equal(loaded(x).sides, detector(x).sides)


def test_initial_weights_come_from_the_generator():
    first, second = (small(generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.head[0].weight, second.head[0].weight)
    assert torch.equal(first.sides.weight, second.sides.weight)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Detector(nn.Identity(), (8, 16), (4,), 3), "strides must be 2 whole numbers"),
        (lambda: Detector(nn.Identity(), (8, 16), (8, 4), 3), "strides must rise"),
        (lambda: Detector(nn.Identity(), (8,), (8,), 0), "classes must be at least 1"),
        (lambda: Detector(nn.Identity(), (8,), (8,), 3, width=12), "width must be a multiple of 8"),
        (lambda: Detector(3, (8,), (8,), 3), "backbone must be"),
        (lambda: Detector(nn.Identity(), (8,), (8,), 3)(torch.zeros(1, 8, 4, 4)), "maps must be a list of 1"),
        (lambda: small().predict(torch.zeros(3, 64, 64)), r"images must be \(B, 3, H, W\)"),
        (lambda: SwinMaps(nn.Identity()), "network must be of class SwinTransformer"),
        (lambda: SwinMaps(swin(), (0, 2)), "stages must be rising places from 0 below 2"),
        (lambda: SwinMaps(swin(), ()), "stages must be a sequence"),
        (lambda: ChosenMaps(nn.Identity(), (1, 0)), "levels must be rising"),
        (lambda: ChosenMaps(nn.Identity(), (1,))(torch.zeros(1, 3, 4, 4)), "places in the 1 maps"),
        (lambda: DetectionLoss(alpha=2), r"alpha must lie in \[0, 1\]"),
        (lambda: DetectionLoss(gamma=-1), "gamma must be at least 0"),
        (lambda: DetectionLoss(radius=0), "radius must be positive"),
        (lambda: DetectionLoss(box_weight=-1), "box_weight must be at least 0"),
        (lambda: DetectionLoss()(torch.zeros(1), torch.zeros(1, 1, 5)), "outputs must be of class Cells"),
        (lambda: DetectionLoss()(some_cells(2), some_targets(3)), "targets must be those of 2 images"),
        (lambda: DetectionLoss()(some_cells(2), torch.zeros(2, 3)), "targets must be boxes with classes"),
        (lambda: DetectionLoss()(some_cells(1), torch.tensor([[[0.0, 0, 9, 9, 3]]])), "targets have class 3"),
        (lambda: detection.focal_loss(torch.zeros(2), torch.zeros(3)), "targets must be as logits"),
        (lambda: detection.generalised_iou(torch.zeros(2, 4), torch.zeros(2, 3)), "first and second must be boxes"),
        (lambda: detection.positives(torch.zeros(2, 3), torch.zeros(2), some_targets()), "centres must be"),
        (lambda: detection.survivors(torch.zeros(1, 2, 4), torch.zeros(1, 3)), "classes must be one for each"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
