"""Initialise a network from weights of a shallower one or another patch grid."""

from __future__ import annotations

import re
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
    the same pairs. The patch grid may differ: positions are resized at run time.
    Raises UsageError where the two do not fit.
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


def load_trainable(name: str) -> VGGT:
    """The weights called `name` (a file or a known model). Raises UsageError where they are no VGGT."""
    source = load(name, device="cpu")
    if not source.trainable:
        raise UsageError(f"'{name}' is not a VGGT: training starts from VGGT weights only")
    return cast(VGGT, source)
