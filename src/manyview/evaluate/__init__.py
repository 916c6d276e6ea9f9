"""Metrics, protocols and tables."""

from __future__ import annotations

from manyview.evaluate.benchmark import Case, chosen_cases, listed_cases
from manyview.evaluate.compare_plans import Comparison, compare_plans
from manyview.evaluate.compare_results import Difference, compare_results
from manyview.evaluate.dataset_run import evaluate_dataset
from manyview.evaluate.datasets import DATASETS, Dataset, dataset_named
from manyview.evaluate.depth_metrics import DepthErrors, Sparsification, depth_errors, sparsification
from manyview.evaluate.evaluation import Evaluation
from manyview.evaluate.pose_metrics import PairErrors, auc, pair_errors
from manyview.evaluate.protocol import Protocol
from manyview.evaluate.protocols import PROTOCOLS, protocol_named
from manyview.evaluate.synthetic import Numbers, SyntheticTable, evaluate_synthetic

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
