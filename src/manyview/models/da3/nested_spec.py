"""Depth Anything 3's nested network as a family: its keys, and weights that have a name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeVar

from torch import Tensor

from ..checkpoints.named import NamedModel
from ..checkpoints.read import Checkpoint
from ..checkpoints.shapes import Shapes
from ..part_configs import Taps
from ..spec import ModelSpec
from .checkpoint import PREFIX, infer_config, used_tensors
from .mono_spec import infer_config as infer_mono_config
from .nested import DA3Nested
from .nested_config import DA3NestedConfig
from .spec import SPEC

_ANY_VIEW, _METRIC = "da3.", "da3_metric."
Value = TypeVar("Value")


def infer_nested_config(
    read: Shapes,
    taps: Taps | None = None,
    metric_taps: Sequence[int] | None = None,
    metric_heads: int | None = None,
) -> DA3NestedConfig:
    """Sizes of both networks; see their own `infer_config` for what shapes do not tell."""

    def part(prefix: str) -> Shapes:
        return Shapes(_below(prefix, read.shapes), read.source, read.model)

    metric = infer_mono_config(part(_METRIC), metric_heads, metric_taps)
    return DA3NestedConfig(infer_config(part(_ANY_VIEW), taps), dataclasses.replace(metric, metric=True))


def used_nested_tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """See `used_tensors`; the metric network has no part that is not used."""
    any_view = dataclasses.replace(checkpoint, tensors=_below(_ANY_VIEW, checkpoint.tensors))
    others = {key: value for key, value in checkpoint.tensors.items() if not key.startswith(_ANY_VIEW)}
    return {f"{_ANY_VIEW}{key}": value for key, value in used_tensors(any_view).items()} | others


def _below(prefix: str, named: Mapping[str, Value]) -> dict[str, Value]:
    return {key.removeprefix(prefix): value for key, value in named.items() if key.startswith(prefix)}


NESTED_SPEC = ModelSpec(
    name="Depth Anything 3 (nested)",
    keys=(f"{_ANY_VIEW}{PREFIX}", f"{_METRIC}{PREFIX}"),
    config=DA3NestedConfig,
    network=DA3Nested,
    infer_config=infer_nested_config,
    used=used_nested_tensors,
    suited=SPEC.suited,
    models=(
        NamedModel(
            name="da3-nested",
            hub_id="depth-anything/DA3NESTED-GIANT-LARGE-1.1",
            licence="CC-BY-NC-4.0",
            commercial_use=False,
            size_bytes=6_759_000_000,
            notes="da3-giant, scaled to metres by da3-metric-large; known cameras as optional input",
            predicts="cameras, depth, metric scale, sky",
            images="longer side 504, patches of 14",
            methods=SPEC.models[0].methods,
            config=DA3NestedConfig(),
        ),
    ),
)
