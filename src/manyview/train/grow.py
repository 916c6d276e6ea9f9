"""Initialise a network from weights of a shallower or narrower one or another patch grid."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from ..errors import UsageError
from ..models.load import load
from ..models.vggt.model import VGGT

_PAIR = re.compile(r"^(aggregator\.(?:frame|global)_blocks\.)(\d+)(\..*)$")


def place_pairs(weights: Mapping[str, Tensor], layers: tuple[int, ...]) -> dict[str, Tensor]:
    """Rename the pairs of blocks of `weights` so that pair i becomes pair `layers[i]`."""
    placed = {}
    for name, tensor in weights.items():
        match = _PAIR.match(name)
        if match is not None:
            name = f"{match[1]}{layers[int(match[2])]}{match[3]}"
        placed[name] = tensor
    return placed


def grow_from(model: VGGT, source: VGGT, layers: tuple[int, ...] = (), layer_scale: float = 0.0) -> None:
    """Copy `source` into `model`; pairs of blocks that it lacks begin with LayerScale at `layer_scale`.

    `layers[i]` is the pair of `model` that takes pair i of `source` (none given: the same place). With
    `layer_scale` zero the grown network computes what `source` does as long as its dense heads read
    the same pairs. A network of twice the width and twice the heads everywhere begins with every channel
    twice (see `widened`), and computes the same. The patch grid may differ: positions are resized at run
    time. Raises UsageError where the two do not fit.
    """
    depth = source.config.depth
    layers = layers or tuple(range(depth))
    if len(layers) != depth or sorted(set(layers)) != list(layers) or layers[-1] >= model.config.depth:
        raise UsageError(
            f"the {depth} pairs of the initial weights need {depth} increasing places among the "
            f"{model.config.depth} of this network, not {layers}"
        )
    placed = place_pairs(source.state_dict(), layers)
    state = model.state_dict()
    if model.config.dim == 2 * source.config.dim and _head_dims(model) == _head_dims(source):
        placed = {
            name: widened(name, tensor, state[name].shape, _head_dims(source)) if name in state else tensor
            for name, tensor in placed.items()
        }
    for name, tensor in state.items():
        if name not in placed:
            match = _PAIR.match(name)
            if match is None or int(match[2]) in layers:
                raise UsageError(f"the initial weights have no '{name}', which this network needs")
            if name.endswith(("ls1.gamma", "ls2.gamma")):
                tensor.fill_(layer_scale)
        elif placed[name].shape != tensor.shape:
            raise UsageError(
                f"'{name}' of the initial weights has shape {tuple(placed[name].shape)}, "
                f"this network needs {tuple(tensor.shape)}"
            )
    with torch.no_grad():
        model.load_state_dict({name: placed.get(name, tensor) for name, tensor in state.items()})


def _head_dims(model: VGGT) -> dict[str, int]:
    """Size of the attention heads by the beginning of a parameter's name; the first that fits counts."""
    config = model.config
    found = (
        {} if config.camera_head is None else {"camera_head.": 2 * config.dim // config.camera_head.num_heads}
    )
    if config.encoder is not None:
        found["aggregator.patch_embed."] = config.dim // config.encoder.num_heads
    return {**found, "": config.dim // config.num_heads}


def widened(name: str, tensor: Tensor, shape: torch.Size, head_dims: Mapping[str, int]) -> Tensor:
    """The tensor with every channel (in attention: every head) twice along the axes that `shape` doubles.

    Whatever reads two equal channels shares its weight between them at random, which leaves the output what
    it was and lets the copies learn different things (Net2WiderNet, arXiv 1511.05641). Copies stand side by
    side, so that concatenated tokens and stacked outputs stay in order.
    """
    head_dim = next(size for prefix, size in head_dims.items() if name.startswith(prefix))
    draws = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    for axis in range(tensor.ndim):
        if tensor.shape[axis] == shape[axis]:
            continue
        reads = axis == 1 and name.endswith(".weight")
        by_head = (".attn.qkv." in name and not reads) or (".attn.proj.weight" in name and reads)
        size = head_dim if by_head else 1
        blocks = tensor.unflatten(axis, (-1, size)).repeat_interleave(2, axis)
        if reads:
            first = torch.rand(blocks.unflatten(axis, (-1, 2)).select(axis + 1, 0).shape, generator=draws)
            share = 0.2 + 0.6 * first
            blocks = blocks * torch.stack([share, 1 - share], axis + 1).flatten(axis, axis + 1).to(blocks)
        tensor = blocks.flatten(axis, axis + 1)
    return tensor


def load_trainable(name: str) -> VGGT:
    """The weights called `name` (a file or a known model). Raises UsageError where they are no VGGT."""
    source = load(name, device="cpu")
    if not source.trainable:
        raise UsageError(f"'{name}' is not a VGGT: training starts from VGGT weights only")
    return cast(VGGT, source)
