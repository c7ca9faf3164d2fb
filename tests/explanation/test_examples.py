"""The examples in the docstrings of the entry points run as they stand."""

import doctest
import importlib

import pytest

ENTRY_POINTS = {
    "evidence": ("gather",),
    "xgrad_cam": ("XGradCAM", "bias_term", "channel_drops", "xgrad_cam_weights"),
    "unit_ablation": ("cache_layer", "importance", "unit_drops"),
}


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in ENTRY_POINTS.items() for name in names]
)
def test_example_of_the_docstring(module, name):
    entry = getattr(importlib.import_module(f"compactvision.explanation.{module}"), name)
    (example,) = (found for found in doctest.DocTestFinder(recurse=False).find(entry, name, globs={}))
    assert example.examples
    assert doctest.DocTestRunner(verbose=False).run(example).failed == 0
