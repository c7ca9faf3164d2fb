"""Each paper's entry points: named by its package, shown with an example, which tests/test_examples.py runs."""

import doctest
import importlib
import inspect

import pytest

ENTRY_POINTS = {
    "architectures.afidaf": {"AlternatingFilter", "FilterNet", "FourierFilter", "ImageFilter", "afidaf", "shuffle"},
    "architectures.u_mixformer": {"KeyValueMixer", "UMixFormerHead", "u_mixformer"},
    "explanation.unit_ablation": {"cache_layer", "importance", "unit_drops"},
    "explanation.xgrad_cam": {"XGradCAM", "bias_term", "channel_drops", "xgrad_cam_weights"},
    "factorization.admm_tensor_train": {"ADMM", "Projected", "TensorTrain", "decompose", "select_ranks"},
    "factorization.collaborative_compression": {
        "collaborate",
        "compress",
        "global_rates",
        "kernel_gradients",
        "refit",
        "removal_path",
        "scan",
        "second_moments",
        "sensitivity",
    },
    "pruning.autobot": {"LearnedGates", "binary_loss", "budget_loss", "count_operations", "learn_gates"},
    "pruning.dcff": {"DynamicFusion", "FusedConv2d", "compact", "fuse", "fused_layers"},
    "pruning.energy_aware_pruning": {"energy", "rank"},
    "pruning.lrp_pruning": {"lrp", "relevance"},
    "pruning.proximal_network_slimming": {
        "NetworkSlimming",
        "ProximalSlimming",
        "behind_scales",
        "fold_shifts",
        "scales_at_zero",
    },
    "pruning.rvsm_sparsity": {"RelaxedSplitting"},
    "pruning.sidt": {
        "DimensionSearch",
        "random_of_same_widths",
        "random_scores",
        "same_widths",
        "score_rule",
        "select",
        "weight_norms",
    },
    "search.rarts": {"Block", "darts_", "rarts_", "search", "single_level_", "width_search"},
}


# What is for a reader's own network is no paper's: beside its functions it exports constants and the report's classes.
OWN = {"shrinking": {"compress", "folded", "sensitivity"}, "awkward": {"markdown"}}


@pytest.mark.parametrize(("name", "entries"), [*ENTRY_POINTS.items(), *OWN.items()])
def test_entry_points_have_examples(name, entries):
    module = importlib.import_module(f"compactvision.{name}")
    missing = []
    for entry in sorted(entries):
        (found,) = doctest.DocTestFinder(recurse=False).find(getattr(module, entry), entry, globs={})
        missing += [] if found.examples else [entry]
    assert missing == []


@pytest.mark.parametrize(
    "name", [name for name in ENTRY_POINTS if hasattr(importlib.import_module(f"compactvision.{name}"), "__path__")]
)
def test_a_package_exports_them_and_modules_alone(name):
    package = importlib.import_module(f"compactvision.{name}")
    exported = {entry for entry in package.__all__ if not inspect.ismodule(getattr(package, entry))}
    assert exported == ENTRY_POINTS[name]
