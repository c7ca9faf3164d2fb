"""Dynamic-coded filter fusion: a narrow network whose filters are mixtures of many :cite:p:`lin2021dcff`.

A layer trains ``c`` filters and computes with ``m < c`` *fused* ones. Each is a convex combination of all ``c``, with
weights from a softmax over the distances between filters; which ``m`` rows are used is decided anew in each epoch. A
rising temperature turns mixtures into single filters, so that training ends with an ordinary narrow network::

    narrow = surgery.prune(full, plan)  # only its widths matter
    model = dcff.fuse(narrow, full)
    training.fit(model, batches, callbacks=[dcff.DynamicFusion(dcff.rules.exact)], ...)
    small = dcff.compact(model)

Equation numbers in here are those of the chapter. The package's files: ``formulas`` (what happens to one layer),
``rules`` (how filters are mixed and scored in an epoch), ``network``, and ``published`` (the networks of the paper).
"""

from . import formulas, published, rules
from .network import DynamicFusion, FusedConv2d, compact, fuse, fused_layers

__all__ = ["DynamicFusion", "FusedConv2d", "compact", "formulas", "fuse", "fused_layers", "published", "rules"]
