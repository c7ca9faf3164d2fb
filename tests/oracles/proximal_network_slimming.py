"""Slow and plain: proximal network slimming as the paper writes it, one number after the other, without momentum."""

import torch
import torch.nn.functional as F


def soft(value, threshold):
    """Soft threshold of one number."""
    if value > threshold:
        return value - threshold
    return value + threshold if value < -threshold else 0.0


def train(model, batches, scales, xi, learning_rate, beta, penalty):
    """Take one step a batch in place: weights, then scales, then copies, by the paper's three lines.

    ``scales`` names the parameters that are scales; ``xi`` maps the names to lists of numbers and is changed.
    """
    alpha = 1 / learning_rate
    for inputs, targets in batches:
        model.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                values, slopes = parameter.view(-1).tolist(), parameter.grad.reshape(-1).tolist()
                if name not in scales:
                    new = [w - slope / alpha for w, slope in zip(values, slopes, strict=True)]
                else:
                    new = [
                        (alpha * gamma + beta * copied) / (alpha + beta) - slope / (alpha + beta)
                        for gamma, copied, slope in zip(values, xi[name], slopes, strict=True)
                    ]
                    xi[name] = [
                        soft((alpha * copied + beta * gamma) / (alpha + beta), penalty / (alpha + beta))
                        for copied, gamma in zip(xi[name], new, strict=True)
                    ]
                parameter.view(-1).copy_(torch.tensor(new, dtype=parameter.dtype))
