"""Metrics, protocols, one loop over plans and scenes, and reports."""

from __future__ import annotations

from ..datasets import TITLES, Dataset, dataset_named
from .metrics.confidence import Sparsification, sparsification
from .metrics.depth import DepthErrors, depth_errors
from .metrics.pose import PairErrors, auc, pair_errors
from .protocols.procedural import Case, chosen_cases, listed_cases
from .protocols.protocol import Protocol
from .protocols.published import PROTOCOLS, protocol_named
from .report.comparison import Difference, compare_results
from .runner.benchmark import Comparison, compare_plans
from .runner.image_sets import evaluate_dataset, evaluate_posed
from .runner.records import Evaluation
from .runner.streamed import StreamedPlan, streamed_plans
from .runner.synthetic import SyntheticTable, evaluate_synthetic

__all__ = [
    "PROTOCOLS",
    "TITLES",
    "Case",
    "Comparison",
    "Dataset",
    "DepthErrors",
    "Difference",
    "Evaluation",
    "PairErrors",
    "Protocol",
    "Sparsification",
    "StreamedPlan",
    "SyntheticTable",
    "auc",
    "chosen_cases",
    "compare_plans",
    "compare_results",
    "dataset_named",
    "depth_errors",
    "evaluate_dataset",
    "evaluate_posed",
    "evaluate_synthetic",
    "listed_cases",
    "pair_errors",
    "protocol_named",
    "sparsification",
    "streamed_plans",
]
