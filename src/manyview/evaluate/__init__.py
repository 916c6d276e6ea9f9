"""Metrics, protocols and tables."""

from __future__ import annotations

from manyview.evaluate.benchmark import Case, chosen_cases, listed_cases
from manyview.evaluate.compare_plans import Comparison, compare_plans
from manyview.evaluate.depth_metrics import DepthErrors, Sparsification, depth_errors, sparsification
from manyview.evaluate.pose_metrics import PairErrors, auc, pair_errors
from manyview.evaluate.synthetic import Numbers, SyntheticTable, evaluate_synthetic

__all__ = [
    "Case",
    "Comparison",
    "DepthErrors",
    "Numbers",
    "PairErrors",
    "Sparsification",
    "SyntheticTable",
    "auc",
    "chosen_cases",
    "compare_plans",
    "depth_errors",
    "evaluate_synthetic",
    "listed_cases",
    "pair_errors",
    "sparsification",
]
