"""What a network costs and how often it is right: parameters, MACs, latency, accuracy, overlap, average precision."""

from compactvision.measure.classification import Batches, accuracy, confusion, per_class_accuracy
from compactvision.measure.counts import CONVENTIONS, Summary, macs, macs_by_module, operations, parameters, summary
from compactvision.measure.detection import AveragePrecision, Detections, average_precision, box_iou, detected
from compactvision.measure.operations import OperationCounter
from compactvision.measure.segmentation import boundary_f1, confusion_of, iou, iou_by_size, mean_iou
from compactvision.measure.state import ExampleInputs, evaluating
from compactvision.measure.timing import Latency, LatencyComparison, Ratio, latency, latency_ratio

__all__ = [
    "CONVENTIONS",
    "AveragePrecision",
    "Batches",
    "Detections",
    "ExampleInputs",
    "Latency",
    "LatencyComparison",
    "OperationCounter",
    "Ratio",
    "Summary",
    "accuracy",
    "average_precision",
    "boundary_f1",
    "box_iou",
    "confusion",
    "confusion_of",
    "detected",
    "evaluating",
    "iou",
    "iou_by_size",
    "latency",
    "latency_ratio",
    "macs",
    "macs_by_module",
    "mean_iou",
    "operations",
    "parameters",
    "per_class_accuracy",
    "summary",
]
