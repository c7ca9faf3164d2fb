"""What a network costs and how often it is right: parameters, MACs, latency, accuracy."""

from compactvision.measure.classification import Batches, accuracy, confusion, per_class_accuracy
from compactvision.measure.counts import CONVENTIONS, Summary, macs, macs_by_module, operations, parameters, summary
from compactvision.measure.operations import OperationCounter
from compactvision.measure.state import ExampleInputs, evaluating
from compactvision.measure.timing import Latency, LatencyComparison, Ratio, latency, latency_ratio

__all__ = [
    "CONVENTIONS",
    "Batches",
    "ExampleInputs",
    "Latency",
    "LatencyComparison",
    "OperationCounter",
    "Ratio",
    "Summary",
    "accuracy",
    "confusion",
    "evaluating",
    "latency",
    "latency_ratio",
    "macs",
    "macs_by_module",
    "operations",
    "parameters",
    "per_class_accuracy",
    "summary",
]
