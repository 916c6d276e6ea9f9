"""Point tracking across frames: local correlation, and a transformer that refines tracks step by step."""

from .tracker import Tracker, TrackIterations

__all__ = ["TrackIterations", "Tracker"]
