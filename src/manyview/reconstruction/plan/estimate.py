"""Expected seconds of a pass, stage by stage, from operations and bytes and the rates of a device.

Bytes are counted in token tensors (u in docs/kernels.md): one tensor [tokens, width] read or written once.
Reads and writes of matrix products and of attention are part of their rates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...attention.dense import NoFill, SameFrameKeys
from ...attention.global_attention import GlobalAttention
from .device_model import DeviceModel
from .machine import precision_name

if TYPE_CHECKING:
    from .preflight import Request

# Token tensors that a block moves outside of products and attention, plain and with fused norms: norms, sums
# and GELU; those of q or k with norm and rotation. A quantised linear layer costs as much again.
_BLOCK, _BLOCK_FUSED = 18.0, 17.0
_ROTATED, _ROTATED_FUSED = 13.0, 2.0
_QUANTISED, _QUANTISED_FUSED = 32.0, 0.0
# Queries that are merged and copied back; keys that are matched and merged; terms of another softmax that are
# merged in: their own attention, and three tensors.
_MERGED_QUERIES, _MERGED_KEYS, _TERMS = 20.0, 12.0, 7.0
# Matching is products with small results, at this share of the rate of large ones.
_MATCHING = 0.5
# Operations of the host: of a block for each piece of frames, plain and fused; of what merges; of a camera
# head; of a piece of a dense head.
_DISPATCHES, _DISPATCHES_FUSED, _MERGING, _CAMERA, _HEAD = 28, 16, 60, 500, 80
_TOKENS_AT_ONCE, _HEAD_FRAMES = 32768, 8
_OUTPUT_BYTES = {"depth": 8, "points": 16, "rays": 28}  # of a pixel


def stage_seconds(request: Request, device: DeviceModel, own_frames: int | None = None) -> dict[str, float]:
    """Expected seconds of each stage of `Request.flops_by_stage`, of matching, and of transfers.

    `own_frames`: of a rank that has so many of the frames, without what it waits for (None: all frames).
    """
    config, layout, plan = request.config, request.layout, request.plan
    frames = layout.frames if own_frames is None else own_frames
    kind, dim, share = precision_name(request.dtype), config.dim, frames / layout.frames
    fused = request.kernels != "plain"
    products = device.products["fp8" if request.linear_precision == "fp8" else kind]
    flops = {stage: count * share for stage, count in request.flops_by_stage().items()}
    own_tokens = frames * layout.tokens_per_frame
    unit = own_tokens * dim * request.dtype.itemsize / device.bytes_per_s
    block, rotated = (_BLOCK_FUSED, _ROTATED_FUSED) if fused else (_BLOCK, _ROTATED)
    if request.linear_precision == "fp8":
        block += _QUANTISED_FUSED if fused else _QUANTISED
    rotated /= 1.0 if fused else device.strided_share
    pieces = math.ceil(own_tokens / _TOKENS_AT_ONCE)
    host = (_DISPATCHES_FUSED if fused else _DISPATCHES) * pieces * device.dispatch_s

    def computed(total: float, attended: float) -> float:
        return (total - attended) / products + attended / device.attention[kind]

    result: dict[str, float] = {}
    inside = config.encoder
    depth = 0 if inside is None else inside.depth
    tokens = layout.patches_per_frame + 1 + (0 if inside is None else inside.registers)
    attended = 4.0 * frames * depth * tokens**2 * dim
    result["encoder"] = _both(
        computed(flops["encoder"], attended) + depth * block * unit, depth * host, device
    )

    blocks = config.depth - config.unpaired
    attended = 4.0 * frames * blocks * layout.tokens_per_frame**2 * dim
    moved = blocks * (block + 2 * rotated) * unit
    result["frame layers"] = _both(computed(flops["frame layers"], attended) + moved, blocks * host, device)

    cost = request.attention_cost()
    keys = sum(layer.keys.projected(layout) for layer in plan.layers) / layout.tokens
    moved = (len(plan.layers) * (block + rotated) + keys * rotated + _units(plan.layers)) * unit
    extra = sum(_merges(layer) for layer in plan.layers)
    result["global layers"] = _both(
        computed(flops["global layers"], cost.attention_flops * share) + moved,
        len(plan.layers) * host + extra * _MERGING * device.dispatch_s,
        device,
    )
    result["matching"] = cost.extra_flops * share / (_MATCHING * products)
    for stage, count in flops.items():
        if stage not in result:
            result[stage] = _head_seconds(request, frames, stage, count, device)
    if device.link_bytes_per_s is not None:
        each = 3 + sum(_OUTPUT_BYTES.get(head, 0) for head in request.heads)
        result["transfers"] = frames * request.height * request.width * each / device.link_bytes_per_s
    return {stage: seconds for stage, seconds in result.items() if seconds > 0}


def total_seconds(request: Request, device: DeviceModel, own_frames: int | None = None) -> float:
    """Expected seconds of the whole pass; see `stage_seconds`."""
    return sum(stage_seconds(request, device, own_frames).values())


def _head_seconds(request: Request, frames: int, stage: str, flops: float, device: DeviceModel) -> float:
    """A head in its own precision. A dense one moves a value of each of its channels for each pixel."""
    kind = "fp32" if request.head_dtype is None else precision_name(request.head_dtype)
    if stage in ("camera head", "text head"):
        return _both(flops / device.products["fp32"], _CAMERA * device.dispatch_s, device)
    item = 4 if request.head_dtype is None else request.head_dtype.itemsize
    pixels = frames * request.height * request.width
    moved = item * math.sqrt(flops / pixels) * pixels / device.bytes_per_s
    dispatches = _HEAD * math.ceil(frames / _HEAD_FRAMES)
    return _both(flops / device.convolutions[kind] + moved, dispatches * device.dispatch_s, device)


def _both(computing: float, starting: float, device: DeviceModel) -> float:
    """A card computes while its host starts what comes next; a CPU does one after the other."""
    return computing + starting if device.link_bytes_per_s is None else max(computing, starting)


def _units(layers: Iterable[GlobalAttention]) -> float:
    """Token tensors that the parts of layers move beside those of a dense layer."""
    total = 0.0
    for layer in layers:
        total += 0.0 if layer.queries.every_token else _MERGED_QUERIES
        total += _MERGED_KEYS if _merged_keys(layer) else 0.0
        total += _TERMS if _has_terms(layer) else 0.0
    return total


def _merges(layer: GlobalAttention) -> bool:
    return not layer.queries.every_token or _merged_keys(layer) or _has_terms(layer)


def _merged_keys(layer: GlobalAttention) -> bool:
    """Keys that are no single tokens of the sequence, but means of several."""
    return not (layer.keys.every_token or layer.keys.single_tokens or layer.keys.per_query)


def _has_terms(layer: GlobalAttention) -> bool:
    per_query = layer.keys.per_query and not isinstance(layer.keys, SameFrameKeys)
    return per_query or layer.fill != NoFill()
