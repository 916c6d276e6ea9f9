"""Metrics, protocols and tables."""

from __future__ import annotations

from ..datasets import DATASETS, Dataset, dataset_named
from .compare_plans import Comparison, compare_plans
from .metrics.depth import DepthErrors, Sparsification, depth_errors, sparsification
from .metrics.pose import PairErrors, auc, pair_errors
from .protocols.procedural import Case, chosen_cases, listed_cases
from .protocols.protocol import Protocol
from .protocols.published import PROTOCOLS, protocol_named
from .report.comparison import Difference, compare_results
from .runner.loop import evaluate_dataset
from .runner.records import Evaluation
from .synthetic import Numbers, SyntheticTable, evaluate_synthetic

__all__ = [
    "DATASETS",
    "PROTOCOLS",
    "Case",
    "Comparison",
    "Dataset",
    "DepthErrors",
    "Difference",
    "Evaluation",
    "Numbers",
    "PairErrors",
    "Protocol",
    "Sparsification",
    "SyntheticTable",
    "auc",
    "chosen_cases",
    "compare_plans",
    "compare_results",
    "dataset_named",
    "depth_errors",
    "evaluate_dataset",
    "evaluate_synthetic",
    "listed_cases",
    "pair_errors",
    "protocol_named",
    "sparsification",
]
