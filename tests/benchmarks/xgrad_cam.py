"""XGrad-CAM of 32 images on VGG-16 against pytorch-grad-cam: interleaved runs, medians, the ratio.

Weights are random: they do not change what is computed. The last ReLU is
read (512 channels of 14 x 14 for images of 224 x 224). The aim for the ratio is 0.8.
"""

import statistics
import time

import torch
from compactvision import models
from compactvision.explanation.xgrad_cam import XGradCAM as Ours
from pytorch_grad_cam import XGradCAM as Theirs
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

IMAGES, REPEATS = 32, 3


def main():
    model = models.imagenet("vgg16").eval()
    layer = "features.29"
    images = torch.randn(IMAGES, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(IMAGES)
    ours, theirs = Ours(model, layer), Theirs(model=model, target_layers=[model.get_submodule(layer)])
    targets = [ClassifierOutputTarget(int(c)) for c in classes]
    runs = {
        "compactvision": lambda: ours(images, classes),
        "pytorch-grad-cam": lambda: theirs(input_tensor=images, targets=targets),
    }
    seconds = {name: [] for name in runs}
    for run in runs.values():
        run()  # warm up
    for _ in range(REPEATS):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    print(f"{IMAGES} maps, VGG-16, 224 x 224, {torch.get_num_threads()} CPU threads, {REPEATS} interleaved runs")
    for name, values in seconds.items():
        print(f"  {name:18s} median {statistics.median(values):6.2f} s   ({min(values):.2f} to {max(values):.2f})")
    ratios = [a / b for a, b in zip(*seconds.values())]
    print(f"  ratio              median {statistics.median(ratios):6.2f}     ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
