"""VGGT-Ω as a family: its keys and heads, and weights that have a name."""

from __future__ import annotations

from ..checkpoints.named import NamedModel
from ..spec import ModelSpec
from .checkpoint import infer_config
from .config import OMEGA_256_TEXT, OMEGA_512, OmegaConfig
from .model import Omega

_REGISTERS = "all; its five layers among camera and register tokens stay as they are"
_FAIR = "FAIR Noncommercial Research License v1 (research only; restricts outputs too)"
_BALANCED = "about {0}x{0} pixels in each image's shape ({1} at 4:3), patches of 16"

SPEC = ModelSpec(
    name="VGGT-Omega",
    keys=("aggregator.frame_blocks.", "aggregator.inter_frame_blocks."),
    config=OmegaConfig,
    network=Omega,
    infer_config=infer_config,
    head_keys={"camera": "camera_head.", "depth": "dense_head.", "text": "text_alignment_head."},
    example="facebook/VGGT-Omega",
    only_public=True,
    models=(
        NamedModel(
            name="vggt-omega",
            hub_id="facebook/VGGT-Omega",
            licence=_FAIR,
            commercial_use=False,
            notes="gated: accept the licence on its hub page and log in; outputs are restricted too",
            file="vggt_omega_1b_512.pt",
            predicts="cameras, depth",
            images=_BALANCED.format(512, "592x448"),
            methods=_REGISTERS,
            config=OMEGA_512,
            size_bytes=4_576_000_000,
        ),
        NamedModel(
            name="vggt-omega-256-text",
            hub_id="facebook/VGGT-Omega",
            licence=_FAIR,
            commercial_use=False,
            notes="as vggt-omega, for small images; one vector of a scene to compare with text (Python)",
            file="vggt_omega_1b_256_text.pt",
            predicts="cameras, depth, text alignment",
            images=_BALANCED.format(256, "288x224"),
            methods=_REGISTERS,
            config=OMEGA_256_TEXT,
            size_bytes=5_399_000_000,
        ),
    ),
)
