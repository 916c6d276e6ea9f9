"""A plan: one answer per global layer to how frames meet."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..errors import UsageError
from .dense import AllKeys, AllQueries, NoFill, SameFrameKeys
from .global_attention import GlobalAttention
from .layout import TokenLayout
from .methods import PRESETS
from .methods.avggt import DiagonalMean
from .plan_spec import preset_from_spec, spec_of

_DENSE = GlobalAttention()
_FRAME = GlobalAttention(keys=SameFrameKeys())


@dataclasses.dataclass(frozen=True)
class PlanCost:
    """What the global attention of a run costs, before anything runs.

    FLOPs count two per multiply-add: `linear_flops` for the projections (q, k, v, output) and
    `attention_flops` for scores and weighted sums; `extra_flops` for what a method spends on choosing or
    matching, where its answers tell by `extra(layout, dim)`; `key_value_bytes` is the largest K/V of a layer.
    """

    linear_flops: float
    attention_flops: float
    key_value_bytes: int
    extra_flops: float = 0.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """One `GlobalAttention` per global layer, in order. Prints as a spec string and parses back.

    `name` is the spec it came from; plans with the same answers are equal whatever they are called. `camera`
    says how frames meet in a camera head that joins them (None: every frame sees every other).
    """

    layers: tuple[GlobalAttention, ...]
    name: str | None = dataclasses.field(default=None, compare=False)
    camera: GlobalAttention | None = None

    @classmethod
    def dense(cls, depth: int) -> Plan:
        """Every token of every frame meets every other, in every global layer."""
        return cls((_DENSE,) * depth)

    @classmethod
    def frame_only(cls, depth: int) -> Plan:
        """Every global layer is cut to its own frame: the baseline that cannot align views."""
        return cls((_FRAME,) * depth)

    @classmethod
    def parse(cls, spec: str, depth: int) -> Plan:
        """Plan of `depth` layers from "dense", "frame", ranges such as "0-3:frame,4-11:dense", or a preset.

        A preset is "avggt" or "avggt:early=3,stride=2x2" (see `presets`); "avggt+httm" composes layer by
        layer (see `compose`). Raises UsageError for unknown names or options, answers that do not go
        together, layers outside the network, or layers given twice.
        """
        if "+" in spec:
            plans = [cls.parse(part, depth) for part in spec.split("+")]
            try:
                layers = tuple(compose(answers) for answers in zip(*(p.layers for p in plans), strict=True))
            except ValueError as error:
                raise UsageError(f"{spec} does not go together: {error}") from error
            return cls(layers, "+".join(map(str, plans)), _one_camera(plans))
        if spec.strip().partition(":")[0] in PRESETS:
            return cls._from_preset(spec, depth)
        return cls._from_ranges(spec, depth)

    @classmethod
    def _from_preset(cls, spec: str, depth: int) -> Plan:
        preset = preset_from_spec(spec)
        try:
            camera = getattr(preset, "camera", None)
            return cls(preset.layers(depth), spec_of(preset), None if camera is None else camera())
        except ValueError as error:
            raise UsageError(f"{spec}: {error}") from error

    @classmethod
    def _from_ranges(cls, spec: str, depth: int) -> Plan:
        layers: list[GlobalAttention | None] = [None] * depth
        parts = [part.strip() for part in spec.split(",")]
        presets = []
        for part in parts:
            where, _, name = part.rpartition(":")
            if name in _NAMES:
                answers = (_NAMES[name],) * depth
            elif name in PRESETS:
                presets.append(cls._from_preset(name, depth))
                answers = presets[-1].layers
            else:
                known = ", ".join((*_NAMES, *sorted(PRESETS)))
                raise UsageError(f"unknown plan {name!r} in {spec!r}: choose from {known}")
            for layer in _layer_range(where, depth, spec):
                if layers[layer] is not None:
                    raise UsageError(f"plan {spec!r} gives layer {layer} twice")
                layers[layer] = answers[layer]
        missing = [i for i, layer in enumerate(layers) if layer is None]
        if missing:
            raise UsageError(f"plan {spec!r} says nothing about global layer {missing[0]} (of {depth})")
        plain = all(part.rpartition(":")[2] in _NAMES for part in parts)
        found = tuple(layer for layer in layers if layer is not None)
        return cls(found, None if plain else ",".join(parts), _one_camera(presets))

    @property
    def needs_frame_features(self) -> bool:
        """Whether any answer chooses frames by what they show."""
        answers = self.layers if self.camera is None else (*self.layers, self.camera)
        return any(answer.needs_frame_features for answer in answers)

    def __str__(self) -> str:
        if self.name is not None:
            return self.name
        names = [_name(layer) for layer in self.layers]
        if len(set(names)) == 1:
            return names[0]
        runs: list[tuple[int, int, str]] = []
        for index, name in enumerate(names):
            if runs and runs[-1][2] == name:
                runs[-1] = (runs[-1][0], index, name)
            else:
                runs.append((index, index, name))
        return ",".join(f"{a}-{b}:{name}" if a != b else f"{a}:{name}" for a, b, name in runs)

    def table(self, layout: TokenLayout, dim: int = 1) -> str:
        """What each layer does, a line a run of equal layers, with its share of dense attention's FLOPs.

        `dim` is the network's width; the share counts scores and weighted sums and does not depend on it.
        """
        dense = Plan((_DENSE,)).cost(layout, dim).attention_flops
        lines = []
        start = 0
        for index, layer in enumerate(self.layers):
            if index + 1 < len(self.layers) and self.layers[index + 1] == layer:
                continue
            where = f"{start}-{index}" if index > start else str(index)
            share = Plan((layer,)).cost(layout, dim).attention_flops / dense
            lines.append(f"{where:>6}  {layer.queries}  {layer.keys}  {layer.fill}  {share:.1%} of dense")
            start = index + 1
        return "\n".join(lines)

    def cost(self, layout: TokenLayout, dim: int, element_bytes: int = 2, head_dim: int = 64) -> PlanCost:
        """FLOPs of the attention of all global layers, and the bytes of one layer's K/V.

        `head_dim` matters only to fills that add channels to a head.
        """
        linear = sum(4.0 * (layout.tokens + layer.keys.projected(layout)) * dim**2 for layer in self.layers)
        scores = 0.0
        for layer in self.layers:
            queries, keys = layer.queries.count(layout), layer.keys.count(layout)
            filled = getattr(layer.fill, "attention_flops", None) or getattr(
                layer.keys, "attention_flops", None
            )
            plain = 4.0 * queries * keys * dim
            scores += plain if filled is None else filled(queries, keys, layout, dim, head_dim)
        most_keys = max(layer.keys.count(layout) for layer in self.layers)
        extra = sum(
            answer.extra(layout, dim)
            for layer in self.layers
            for answer in ((layer.queries,) if layer.queries == layer.keys else (layer.queries, layer.keys))
            if hasattr(answer, "extra")
        )
        return PlanCost(linear, scores, round(2 * most_keys * dim * element_bytes), extra)


def compose(answers: Sequence[GlobalAttention]) -> GlobalAttention:
    """One layer from several: the own frame if any has it, else the first reduced queries and keys.

    The fill comes with the keys it stands in for. Merged queries have no key of their own, so a
    `DiagonalMean` keeps the mean only. Raises ValueError where the answers do not go together.
    """
    if _FRAME in answers:
        return _FRAME
    queries = next((a.queries for a in answers if a.queries != AllQueries()), AllQueries())
    source = next((a for a in answers if a.keys != AllKeys()), None)
    fill = (
        source.fill if source is not None else next((a.fill for a in answers if a.fill != NoFill()), NoFill())
    )
    if queries != AllQueries() and isinstance(fill, DiagonalMean) and fill.diagonal:
        fill = dataclasses.replace(fill, diagonal=False) if fill.mean else NoFill()
    return GlobalAttention(queries, AllKeys() if source is None else source.keys, fill)


def _one_camera(plans: Sequence[Plan]) -> GlobalAttention | None:
    return next((plan.camera for plan in plans if plan.camera is not None), None)


_NAMES = {"dense": _DENSE, "frame": _FRAME}


def _name(layer: GlobalAttention) -> str:
    return next((name for name, known in _NAMES.items() if known == layer), str(layer))


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
