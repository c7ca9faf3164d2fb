"""XGrad-CAM the slow way: number by number in float64, gradients by differences, the whole network each time."""

import numpy as np
import torch


def score_with(model, layer, image, activation, number):
    """Logit `number` of one image while the layer gives `activation` (K, H, W); the whole model through a hook."""
    handle = model.get_submodule(layer).register_forward_hook(
        lambda *_: torch.tensor(activation, dtype=image.dtype)[None].clone()
    )
    try:
        with torch.no_grad():
            return model(image[None])[0, number].item()
    finally:
        handle.remove()


def activation_of(model, layer, image):
    """What the layer gives for one image, (K, H, W) float64."""
    kept = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _m, _i, out: kept.append(out.detach().clone()))
    try:
        with torch.no_grad():
            model(image[None])
    finally:
        handle.remove()
    return kept[0][0].double().numpy()


def gradient_by_differences(model, layer, image, number, step=1e-5):
    """Central differences of the logit, element by element: (K, H, W). Exact where no ReLU switches within a step."""
    activation = activation_of(model, layer, image)
    gradient = np.zeros_like(activation)
    for place in np.ndindex(*activation.shape):
        scores = []
        for sign in (1, -1):
            moved = activation.copy()
            moved[place] += sign * step
            scores.append(score_with(model, layer, image, moved, number))
        gradient[place] = (scores[0] - scores[1]) / (2 * step)
    return gradient


def drops(model, layer, image, number):
    """Fall of the logit when a channel is zero, channel by channel: (K,)."""
    activation = activation_of(model, layer, image)
    whole = score_with(model, layer, image, activation, number)
    fallen = np.zeros(len(activation))
    for k in range(len(activation)):
        without = activation.copy()
        without[k] = 0
        fallen[k] = whole - score_with(model, layer, image, without, number)
    return fallen


def xgrad_weights(activation, gradient):
    """Sum over positions of (F / A_k) g, position by position: (K,)."""
    channels, height, width = activation.shape
    weights = np.zeros(channels)
    for k in range(channels):
        total = 0.0
        for y in range(height):
            for x in range(width):
                total += activation[k, y, x]
        for y in range(height):
            for x in range(width):
                if total > 0:
                    weights[k] += activation[k, y, x] / total * gradient[k, y, x]
    return weights


def grad_cam_weights(activation, gradient):
    """Sum over positions of g / Z: (K,)."""
    channels, height, width = activation.shape
    weights = np.zeros(channels)
    for k in range(channels):
        for y in range(height):
            for x in range(width):
                weights[k] += gradient[k, y, x] / (height * width)
    return weights


def grad_cam_plus_plus_weights(activation, gradient):
    """Sum over positions of a relu(g), a = g^2 / (2 g^2 + A_k g^3 + 1e-6), 0 where g = 0: (K,)."""
    weights = np.zeros(len(activation))
    for k in range(len(activation)):
        total = activation[k].sum()
        for g in gradient[k].ravel():
            if g != 0:
                weights[k] += g**2 / (2 * g**2 + total * g**3 + 1e-6) * max(g, 0)
    return weights


def raw_map(activation, weights):
    """Sum over channels of w_k F^k: (H, W)."""
    total = np.zeros(activation.shape[1:])
    for k in range(len(activation)):
        total += weights[k] * activation[k]
    return total


def bias_term(model, layer, image, number):
    """Sum of <dS/dp, p> over the bias-like parameters p behind the layer, the gradient of each taken alone."""
    model = model.eval()
    handle = model.get_submodule(layer).register_forward_hook(lambda _m, _i, out: out.detach())
    try:
        with torch.enable_grad():
            score = model(image[None])[0, number]
    finally:
        handle.remove()
    total = 0.0
    for module in model.modules():
        if getattr(module, "bias", None) is None:
            continue
        gradient = torch.autograd.grad(score, module.bias, retain_graph=True, allow_unused=True)[0]
        if gradient is None:
            continue
        for channel in range(len(module.bias)):
            bias = module.bias[channel].item()
            if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
                sigma = (module.running_var[channel].item() + module.eps) ** 0.5
                bias -= module.weight[channel].item() * module.running_mean[channel].item() / sigma
            total += gradient[channel].item() * bias
    return total
