"""torchvision's networks for ImageNet sizes."""

from __future__ import annotations

import difflib

from torch import nn

from compactvision import _checks as checks


def imagenet(name: str, num_classes: int = 1000, **options) -> nn.Module:
    """Return one of torchvision's classification networks without weights, its activations not in place.

    In-place activations would overwrite what a hook has captured; the values computed are the same. Where torchvision
    calls one activation module several times in a block, that stays so.

    Parameters
    ----------
    name : str
        torchvision's name, such as "resnet50", "vgg16_bn", "mobilenet_v2" or "vit_b_16".
    num_classes : int, default 1000
        Outputs of the last layer.
    **options
        Passed on to torchvision's builder.

    Raises
    ------
    ValueError
        If torchvision has no classification network of this name; close matches are listed. If ``num_classes`` is below
        1.
    """
    import torchvision

    checks.texts(name=name)
    checks.counts(num_classes=num_classes)
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(f"name: torchvision has no classification network {name!r}{hint}")
    model = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)
    for module in model.modules():
        if getattr(module, "inplace", False):
            module.inplace = False
    return model
