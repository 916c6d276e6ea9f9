"""Weights from files: read safely, checked strictly, translated to configurations of our models."""

from .assign import assign_weights
from .keys import KeyReport, compare_keys
from .read import Checkpoint, read_checkpoint

__all__ = [
    "Checkpoint",
    "KeyReport",
    "assign_weights",
    "compare_keys",
    "read_checkpoint",
]
