"""Collaborative compression: channels and singular values removed by one account :cite:p:`li2021collaborative`.

A convolution gets smaller in two ways: it reads fewer channels, or its kernel becomes the product of two. Both remove a
*unit*, an input channel or a singular value, and both lose something that one formula measures. So the units of a layer
compete, and the layers share a reduction by how steeply their loss rises::

    graph = surgery.channel_graph(model, (3, 32, 32), residual="gather")
    made = collaborate(graph, batches, keep_macs=0.5)
    small = compress(model, made)

The steps of :func:`collaborate` are :func:`kernel_gradients`, :func:`sensitivity` and :func:`removal_path` for each
layer, and :func:`global_rates` for all. Equation numbers are those of the chapter. :func:`scan` is the plain rival,
and :func:`refit` mends the weights of either by least squares.
"""

from . import costs, gradients, network, plans, rates, regression, scanning, steps, units
from .gradients import kernel_gradients
from .network import collaborate, compress
from .rates import global_rates, sensitivity
from .regression import second_moments
from .scanning import refit, scan
from .steps import removal_path

__all__ = [
    "collaborate",
    "compress",
    "costs",
    "global_rates",
    "gradients",
    "kernel_gradients",
    "network",
    "plans",
    "rates",
    "refit",
    "regression",
    "removal_path",
    "scan",
    "scanning",
    "second_moments",
    "sensitivity",
    "steps",
    "units",
]
