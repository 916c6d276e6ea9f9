"""Metrics, protocols and tables."""

from __future__ import annotations

from manyview.evaluate.depth_metrics import DepthErrors, Sparsification, depth_errors, sparsification
from manyview.evaluate.pose_metrics import PairErrors, auc, pair_errors
from manyview.evaluate.synthetic import Numbers, SyntheticTable, evaluate_synthetic

__all__ = [
    "DepthErrors",
    "Numbers",
    "PairErrors",
    "Sparsification",
    "SyntheticTable",
    "auc",
    "depth_errors",
    "evaluate_synthetic",
    "pair_errors",
    "sparsification",
]
