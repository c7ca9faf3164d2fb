"""Each package names its entry points, and each of these shows an example, which tests/test_examples.py runs."""

import doctest
import importlib

import pytest

ENTRY_POINTS = {
    "unit_ablation": ["cache_layer", "importance", "unit_drops"],
    "xgrad_cam": ["XGradCAM", "bias_term", "channel_drops", "xgrad_cam_weights"],
}


@pytest.mark.parametrize("slug", ENTRY_POINTS)
def test_entry_points_have_examples(slug):
    package = importlib.import_module(f"compactvision.explanation.{slug}")
    assert package.__all__ == ENTRY_POINTS[slug]
    for name in package.__all__:
        (example,) = doctest.DocTestFinder(recurse=False).find(getattr(package, name), name, globs={})
        assert example.examples, name
