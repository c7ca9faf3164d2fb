"""Your own network, smaller: one call from a trained network to a smaller one and a table that says what it cost.

The way through::

    small, report = compactvision.compress(model, train_batches, test_batches, keep_macs=0.6, minutes=10)
    print(report)
    surgery.save(small, "small.safetensors", builder="imagenet", arguments={"name": "resnet18"})

The same from a folder of pictures, in a terminal::

    compactvision shrink --model torchvision:resnet18 --data pictures --keep-macs 0.6 --out small
"""

from compactvision.shrinking.arguments import CRITERIA, RIVALS
from compactvision.shrinking.folding import folded
from compactvision.shrinking.report import Report, Row
from compactvision.shrinking.scan import sensitivity
from compactvision.shrinking.whole import compress

__all__ = ["CRITERIA", "RIVALS", "Report", "Row", "compress", "folded", "sensitivity"]
