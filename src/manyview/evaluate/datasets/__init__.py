"""Datasets as they are downloaded: where their scenes lie under a root, and which of them papers use."""

from __future__ import annotations

from .dataset import Dataset, Scene
from .known import DATASETS, dataset_named
from .splits import listed_splits, split_scenes

__all__ = ["DATASETS", "Dataset", "Scene", "dataset_named", "listed_splits", "split_scenes"]
