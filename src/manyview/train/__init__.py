"""Training: the bundled model from procedural scenes; losses, loop, state and export."""

from __future__ import annotations

from manyview.train.config import TrainConfig, load_config
from manyview.train.loop import run
from manyview.train.weights import export_weights, trained_model

__all__ = ["TrainConfig", "export_weights", "load_config", "run", "trained_model"]
