"""Training: the bundled model from procedural scenes; losses, loop, state and export."""

from __future__ import annotations

from .config import TrainConfig, load_config
from .loop import run
from .weights import export_weights, trained_model

__all__ = ["TrainConfig", "export_weights", "load_config", "run", "trained_model"]
