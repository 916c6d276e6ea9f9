"""A plan: the attention of every global layer of a network."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TypeVar

from .._option_checks import check_instance
from ..errors import UsageError
from .dense import AllKeys, AllQueries, NoFill
from .global_attention import DENSE, SAME_FRAME, GlobalAttention
from .layout import TokenLayout
from .methods import METHODS
from .plan_spec import preset_from_spec, spec_of
from .protocols import Exchange

T = TypeVar("T")
_NAMES = {"dense": DENSE, "frame": SAME_FRAME}


@dataclasses.dataclass(frozen=True)
class PlanCost:
    """What the global attention of a run costs, before anything runs.

    FLOPs count two per multiply-add: `linear_flops` for the projections (q, k, v, output) and
    `attention_flops` for scores and weighted sums; `extra_flops` for what a method spends on choosing or
    matching (`Part.extra`); `key_value_bytes` is the largest K/V of a layer.
    """

    linear_flops: float
    attention_flops: float
    key_value_bytes: int
    extra_flops: float = 0.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """One `GlobalAttention` per global layer, in order. Prints as a spec string and parses back.

    `name` is the spec it came from; plans with the same layers are equal whatever they are called. `camera`
    is the attention between frames in a camera head that has it (None: every frame attends to all).
    """

    layers: tuple[GlobalAttention, ...]
    name: str | None = dataclasses.field(default=None, compare=False)
    camera: GlobalAttention | None = None

    @classmethod
    def dense(cls, depth: int) -> Plan:
        """Every token attends to all tokens of all frames, in every global layer."""
        return cls((DENSE,) * depth)

    @classmethod
    def frame_only(cls, depth: int) -> Plan:
        """Every global layer attends within frames: the baseline that cannot align views."""
        return cls((SAME_FRAME,) * depth)

    @classmethod
    def parse(cls, spec: str, depth: int) -> Plan:
        """Plan of `depth` layers from "dense", "frame", ranges such as "0-3:frame,4-11:dense", or a method.

        A method is "avggt" or "avggt:early=3,stride=2x2" (see `methods`); "avggt+httm" composes layer by
        layer (see `compose`). Raises UsageError for unknown names or options, parts that cannot be combined,
        layers outside the network, or layers given twice.
        """
        check_instance("plan", spec, str)
        if "+" in spec:
            plans = [cls.parse(part, depth) for part in spec.split("+")]
            try:
                layers = tuple(compose(parts) for parts in zip(*(p.layers for p in plans), strict=True))
            except ValueError as error:
                raise UsageError(f"{spec} cannot be combined: {error}") from error
            return cls(layers, "+".join(map(str, plans)), _one_camera(plans))
        if spec.strip().partition(":")[0] in METHODS:
            return cls._from_preset(spec, depth)
        return cls._from_ranges(spec, depth)

    @classmethod
    def _from_preset(cls, spec: str, depth: int) -> Plan:
        preset = preset_from_spec(spec)
        try:
            return cls(preset.layers(depth), spec_of(preset), preset.camera())
        except ValueError as error:
            raise UsageError(f"{spec}: {error}") from error

    @classmethod
    def _from_ranges(cls, spec: str, depth: int) -> Plan:
        layers: dict[int, GlobalAttention] = {}
        parts = [part.strip() for part in spec.split(",")]
        presets = []
        for part in parts:
            where, _, name = part.rpartition(":")
            if name in _NAMES:
                chosen = (_NAMES[name],) * depth
            elif name in METHODS:
                presets.append(cls._from_preset(name, depth))
                chosen = presets[-1].layers
            else:
                known = ", ".join((*_NAMES, *METHODS))
                raise UsageError(f"unknown plan {name!r} in {spec!r}: choose from {known}")
            for index in _layer_range(where, depth, spec):
                if index in layers:
                    raise UsageError(f"plan {spec!r} gives layer {index} twice")
                layers[index] = chosen[index]
        missing = [index for index in range(depth) if index not in layers]
        if missing:
            raise UsageError(f"plan {spec!r} does not give layer {missing[0]} (of {depth})")
        found = tuple(layers[index] for index in range(depth))
        return cls(found, ",".join(parts) if presets else None, _one_camera(presets))

    @property
    def needs_frame_features(self) -> bool:
        """Whether any layer chooses frames by what they show."""
        layers = self.layers if self.camera is None else (*self.layers, self.camera)
        return any(layer.needs_frame_features for layer in layers)

    @property
    def has_anchors(self) -> bool:
        """Whether in any layer frames depend on chosen frames and themselves alone."""
        return any(layer.keys.of_anchors for layer in self.layers)

    def __str__(self) -> str:
        if self.name is not None:
            return self.name
        runs = list(_runs([_name(layer) for layer in self.layers]))
        return runs[0][1] if len(runs) == 1 else ",".join(f"{where}:{name}" for where, name in runs)

    def table(self, layout: TokenLayout, dim: int = 1) -> str:
        """What each layer does, a line a run of equal layers, with its share of dense attention's FLOPs.

        `dim` is the network's width; the share counts scores and weighted sums and does not depend on it.
        """
        dense = Plan((DENSE,)).cost(layout, dim).attention_flops
        lines = []
        for where, layer in _runs(self.layers):
            share = Plan((layer,)).cost(layout, dim).attention_flops / dense
            lines.append(f"{where:>6}  {layer.queries}  {layer.keys}  {layer.fill}  {share:.1%} of dense")
        return "\n".join(lines)

    def cost(self, layout: TokenLayout, dim: int, element_bytes: int = 2, head_dim: int = 64) -> PlanCost:
        """FLOPs of the attention of all global layers, and the bytes of one layer's K/V.

        `head_dim` matters only to fills that add channels to a head.
        """
        linear = sum(4.0 * (layout.tokens + layer.keys.projected(layout)) * dim**2 for layer in self.layers)
        scores = sum(layer.attention_flops(layout, dim, head_dim) for layer in self.layers)
        extra = sum(layer.extra_flops(layout, dim) for layer in self.layers)
        most_keys = max((layer.keys.count(layout) for layer in self.layers), default=0)
        return PlanCost(linear, scores, round(2 * most_keys * dim * element_bytes), extra)

    def exchange(self, whole: TokenLayout, num_heads: int, dim: int) -> tuple[Exchange, ...]:
        """What each layer needs of other ranks where several share a scene of the layout `whole`."""
        return tuple(layer.exchange(whole, num_heads, dim) for layer in self.layers)

    def frames_together(self, whole: TokenLayout) -> int:
        """So many frames, counted from the first, must be on one rank (`FrameSplit.of`)."""
        return math.lcm(*(exchange.frames_together for exchange in self.exchange(whole, 1, 1)))

    def why_not_distributed(self, whole: TokenLayout) -> str | None:
        """Why several ranks cannot share a scene of the layout `whole` in this way; None where they can."""
        layers = [(f"layer {i}", layer) for i, layer in enumerate(self.layers)]
        if self.camera is not None:
            layers.append(("the camera head", self.camera))
        for name, layer in layers:
            refused = layer.exchange(whole, 1, 1).refused
            if refused is not None:
                return f"{self} cannot run over several ranks: in {name} {refused}"
        return None

    def why_dense(self, layout: TokenLayout) -> str | None:
        """A note where another plan leaves nothing out of a run of so many frames; None elsewhere."""
        dense = Plan.dense(len(self.layers))
        if self == dense or not all(layer.keys.all_tokens(layout) for layer in self.layers):
            return None
        if self.cost(layout, 1) != dense.cost(layout, 1):
            return None
        return f"{self}: with {layout.frames} views it leaves nothing out and is dense attention"


def compose(layers: Sequence[GlobalAttention]) -> GlobalAttention:
    """One layer from several: within frames if any is, else the first reduced queries and keys.

    The fill comes with the keys it stands in for, without what merged queries cannot have
    (`Fill.for_merged_queries`). Raises ValueError where the parts cannot be combined.
    """
    if SAME_FRAME in layers:
        return SAME_FRAME
    queries = next((layer.queries for layer in layers if not layer.queries.every_token), AllQueries())
    source = next((layer for layer in layers if not layer.keys.every_token), None)
    keys = AllKeys() if source is None else source.keys
    filled = layers if source is None else (source,)
    fill = next((layer.fill for layer in filled if layer.fill != NoFill()), NoFill())
    return GlobalAttention(queries, keys, fill if queries.every_token else fill.for_merged_queries())


def _one_camera(plans: Sequence[Plan]) -> GlobalAttention | None:
    return next((plan.camera for plan in plans if plan.camera is not None), None)


def _name(layer: GlobalAttention) -> str:
    return next((name for name, known in _NAMES.items() if known == layer), str(layer))


def _runs(values: Sequence[T]) -> Iterator[tuple[str, T]]:
    """("first-last", value) of each run of equal values."""
    start = 0
    for value, run in itertools.groupby(values):
        last = start + len(list(run)) - 1
        yield (f"{start}-{last}" if last > start else str(start)), value
        start = last + 1


def _layer_range(where: str, depth: int, spec: str) -> range:
    if not where:
        return range(depth)
    first, _, last = where.partition("-")
    try:
        start, stop = int(first), int(last or first) + 1
    except ValueError:
        raise UsageError(f"{where!r} in plan {spec!r} is not a layer or a range such as 0-8") from None
    if not 0 <= start < stop <= depth:
        raise UsageError(f"layers {where} in plan {spec!r} are outside the network's 0-{depth - 1}")
    return range(start, stop)
