"""VGGT as a family: its keys and heads, and weights that have a name."""

from __future__ import annotations

import dataclasses
import logging

from ..checkpoints.metadata import stored_metadata
from ..checkpoints.named import NamedModel
from ..checkpoints.read import Checkpoint
from ..spec import ModelSpec
from .checkpoint import infer_config
from .compressor import add_compressors
from .config import VGGT_1B, VGGTConfig
from .model import VGGT

logger = logging.getLogger(__name__)

_FLASH = "flash (used by default) or flash:version=v2; others replace what it was trained for"
_FLASH_SIZES = dataclasses.replace(VGGT_1B, point_head=None, track_head=None)
_TRAINED = "{} (used by default); others replace what it was trained for"


def _bundled(
    name: str,
    notes: str,
    *,
    image_size: int,
    size_bytes: int,
    trained_on: str | None,
    plan: str | None = None,
) -> NamedModel:
    """Weights that come with the package, trained for `plan` on images of `trained_on` (None: any)."""
    return NamedModel(
        name, None, "Apache-2.0", True, notes, file=f"{name}.safetensors", plan=plan,
        images=f"longer side {image_size}, patches of 8", size_bytes=size_bytes, trained_on=trained_on,
        methods="all" if plan is None else _TRAINED.format(plan),
    )  # fmt: skip


def _prepare(model: VGGT, checkpoint: Checkpoint) -> None:
    """Adds FlashVGGT's learnt compressors where the file has them, and logs what may surprise."""
    reduction = _reduction(checkpoint)
    if reduction is not None:
        add_compressors(model.aggregator.global_blocks, model.config.dim, reduction)
    present = SPEC.heads_in(checkpoint.tensors)
    missing = [name for name in SPEC.head_keys if name not in present]
    if missing:
        # A file that states its own configuration lacks a head on purpose.
        level = logging.DEBUG if stored_metadata(checkpoint).get("config") else logging.INFO
        logger.log(level, "%s has no %s head", checkpoint.source, " and no ".join(missing))
    if present == ("camera", "depth") and not checkpoint.metadata and SPEC.published_as(checkpoint) is None:
        text = "%s: FlashVGGT's checkpoints look the same; if this is one, run it with --accel flash"
        logger.info(text, checkpoint.source)


def _reduction(checkpoint: Checkpoint) -> int | None:
    """By how much FlashVGGT's learnt compressor in a checkpoint reduces; None without one."""
    kernel = checkpoint.tensors.get("aggregator.global_blocks.0.attn.spatial_compressor.compressor.weight")
    return None if kernel is None or kernel.ndim != 4 else kernel.shape[-1]


def _trained_for(checkpoint: Checkpoint) -> str | None:
    reduction = _reduction(checkpoint)
    return None if reduction is None else f"flash:r={reduction},version=learnt"


SPEC = ModelSpec(
    name="VGGT",
    keys=("aggregator.frame_blocks.", "aggregator.global_blocks."),
    config=VGGTConfig,
    network=VGGT,
    infer_config=infer_config,
    head_keys={
        "camera": "camera_head.",
        "depth": "depth_head.",
        "points": "point_head.",
        "track": "track_head.",
    },
    example="facebook/VGGT-1B",
    prepare=_prepare,
    trained_for=_trained_for,
    models=(
        _bundled(
            "manyview-small",
            "comes with the package; trained on procedural scenes",
            image_size=112,
            size_bytes=12_200_000,
            trained_on="rendered scenes of at most 112 pixels",
        ),
        _bundled(
            "manyview-photos",
            "comes with the package; manyview-small grown and trained on with photographs; rough on most",
            image_size=160,
            size_bytes=15_400_000,
            trained_on=None,
        ),
        _bundled(
            "manyview-flash",
            "manyview-photos trained on for descriptors, sets and streams; rough on most photographs",
            image_size=160,
            size_bytes=9_700_000,
            trained_on=None,
            plan="flash:r=4",
        ),
        NamedModel(
            name="vggt-1b",
            hub_id="facebook/VGGT-1B",
            licence="CC-BY-NC-4.0",
            commercial_use=False,
            notes="research only; facebook/VGGT-1B-Commercial allows commercial use",
            revision="860abec7937da0a4c03c41d3c269c366e82abdf9",
            predicts="cameras, depth, points, tracks",
            config=VGGT_1B,
            size_bytes=5_026_000_000,
        ),
        NamedModel(
            name="vggt-1b-commercial",
            hub_id="facebook/VGGT-1B-Commercial",
            licence="VGGT licence v1 (commercial use allowed, military use excluded)",
            commercial_use=True,
            notes="gated: accept the licence on its hub page and log in",
            predicts="cameras, depth, points, tracks",
            config=VGGT_1B,
            size_bytes=5_026_000_000,
        ),
        NamedModel(
            name="flashvggt",
            hub_id="ZipW/FlashVGGT",
            licence="not stated",
            commercial_use=None,
            notes="VGGT-1B trained on for short keys; which of two public versions, the file does not tell",
            file="flashvggt.pt",
            predicts="cameras, depth",
            methods=_FLASH,
            plan="flash",
            config=_FLASH_SIZES,
            size_bytes=4_632_000_000,
        ),
        NamedModel(
            name="flashvggt-stream",
            hub_id="ZipW/FlashVGGT",
            licence="not stated",
            commercial_use=None,
            notes="as flashvggt, trained on for chunks of a video",
            file="flashvggt_stream.pt",
            predicts="cameras, depth",
            methods=_FLASH,
            plan="flash",
            config=_FLASH_SIZES,
            size_bytes=4_632_000_000,
        ),
    ),
)
