"""Structure from motion on the original images, by COLMAP in a process of its own."""

from .cameras import KnownViewCameras
from .solve import solve

__all__ = ["KnownViewCameras", "solve"]
