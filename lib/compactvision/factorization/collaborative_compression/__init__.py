"""Collaborative compression: channels and singular values removed by one account :cite:p:`li2021collaborative`.

A convolution gets smaller in two ways: it reads fewer channels, or its kernel becomes the product of two. Both remove a
*unit*, an input channel or a singular value, and both lose something that one formula measures. So the units of a layer
compete, and the layers share a reduction by how steeply their loss rises::

    graph = surgery.channel_graph(model, (3, 32, 32), residual="gather")
    kernels, gradients = cc.kernels(graph), cc.kernel_gradients(graph, batches)
    curves = {name: cc.sensitivity(kernel, gradients[name]) for name, kernel in kernels.items()}
    paths = {name: cc.removal_path(kernel, gradients[name]) for name, kernel in kernels.items()}
    made = cc.at_budget(lambda rate: cc.at_rates(graph, paths, cc.global_rates(curves, macs, rate * total)), 0.5)
    small = cc.compress(model, made)

Equation numbers are those of the chapter.
"""

from . import costs, units
from .costs import Choice
from .gradients import kernel_gradients, kernels
from .network import Compression, at_budget, at_rates, compress, compression
from .sensitivity import Sensitivity, global_rates, sensitivity
from .steps import Path, removal_path

__all__ = [
    "Choice",
    "Compression",
    "Path",
    "Sensitivity",
    "at_budget",
    "at_rates",
    "compress",
    "compression",
    "costs",
    "global_rates",
    "kernel_gradients",
    "kernels",
    "removal_path",
    "sensitivity",
    "units",
]
