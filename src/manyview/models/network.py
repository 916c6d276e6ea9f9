"""The networks there are: everything outside this folder takes any of them."""

from __future__ import annotations

from .omega.config import OmegaConfig
from .omega.model import Omega
from .pi3.config import Pi3Config
from .pi3.model import Pi3
from .predictions import Predictions
from .vggt.config import VGGTConfig
from .vggt.model import VGGT

__all__ = ["Network", "NetworkConfig", "Predictions"]

Network = VGGT | Pi3 | Omega
"""A network with weights: `config`, `name`, `licence`, `info`, `available_heads`, and the call."""

NetworkConfig = VGGTConfig | Pi3Config | OmegaConfig
"""The sizes of a network; see `AlternatingSizes` for what all have."""
