"""Anchors solved once: their keys and values of every layer, against which any frame can be attached.

With anchors a frame depends on the anchors and itself alone (`methods.anchors`). So one pass over the anchors
keeps their K/V here, and later passes over any other frames, in any order and any chunks, give what one
pass over all frames gives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from .dense import NoFill, SameFrameKeys
from .global_attention import GlobalAttention
from .layout import TokenLayout
from .methods.anchors import AnchorKeys
from .plan import Plan
from .protocols import Exchange, Keys, LayerInput
from .softmax.logsumexp import attend_with_lse
from .softmax.sdpa import attend
from .softmax.terms import attend_own_frame, merge_terms

KeysValues = tuple[Float[Tensor, "batch _ _ _"], Float[Tensor, "batch _ _ _"]]  # [B, heads, keys, d]


class AnchorMemory:
    """Keys (normalised, rotated) and values of the anchors, [B, heads, anchors * P, d], by layer.

    `layers` are the network's global layers, `camera` the blocks of its camera head, each numbered in the
    order in which they run.
    """

    def __init__(
        self, layers: Mapping[int, KeysValues] | None = None, camera: Mapping[int, KeysValues] | None = None
    ) -> None:
        self.layers, self.camera = dict(layers or {}), dict(camera or {})

    @property
    def bytes(self) -> int:
        """Size of the keys and values."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def joined(self, more: AnchorMemory) -> AnchorMemory:
        """These anchors and those of `more`."""
        other = more.tensors()
        return self.from_tensors({name: torch.cat([x, other[name]], 2) for name, x in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """All keys and values by name; `from_tensors` takes them back."""
        return {
            f"{part} {number} {name}": tensor
            for part, pairs in (("layer", self.layers), ("camera", self.camera))
            for number, pair in pairs.items()
            for name, tensor in zip(("keys", "values"), pair, strict=True)
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> AnchorMemory:
        """The memory whose `tensors` these are; other names are ignored. KeyError for half a pair."""
        found: dict[str, dict[int, KeysValues]] = {"layer": {}, "camera": {}}
        for name, keys in tensors.items():
            part, number, kind = [*name.split(" ", 2), "", ""][:3]
            if part in found and kind == "keys":
                found[part][int(number)] = (keys, tensors[f"{part} {number} values"])
        return cls(found["layer"], found["camera"])


@dataclasses.dataclass(frozen=True, eq=False)
class SolvedKeys(Keys):
    """`keys`, with the anchors' keys and values written to `known`."""

    keys: AnchorKeys
    known: dict[int, KeysValues]

    per_query = True
    of_anchors = True

    def attend_layer(self, layer: LayerInput) -> Float[Tensor, "batch tokens dim"]:
        self.known[layer.run.layer] = layer.keys_values_of(self.keys.anchors(layer))
        return self.keys.attend_layer(layer)

    def count(self, layout: TokenLayout) -> float:
        return self.keys.count(layout)

    def projected(self, layout: TokenLayout) -> float:
        return self.keys.projected(layout) + self.keys.frames * layout.tokens_per_frame


@dataclasses.dataclass(frozen=True, eq=False)
class RememberedKeys(Keys):
    """Anchors solved earlier (`known`: their keys and values by layer), and with `own_frame` the own frame.

    None of the frames of the pass is an anchor. `added`, if given, receives their keys and values: with
    them the frames can be anchors of later ones. `needs_frame_features`: the pass computes them, for a rule
    that chooses among these frames.
    """

    known: Mapping[int, KeysValues]
    own_frame: bool = True
    added: dict[int, KeysValues] | None = None
    needs_frame_features: bool = False

    per_query = True
    of_anchors = True

    def attend_layer(self, layer: LayerInput) -> Float[Tensor, "batch tokens dim"]:
        return layer.attention.output(self._heads(layer))

    def _heads(self, layer: LayerInput) -> Float[Tensor, "batch heads tokens dim"]:
        q = layer.queries()
        k, v = (x.expand(len(q), -1, -1, -1) for x in self.known[layer.run.layer])
        # Anchors are added as a stream goes on, so that their number differs from pass to pass.
        if not self.own_frame and self.added is None:
            return attend(q, k, v, shapes_vary=True)
        own_k, own_v = layer.keys_values()
        if self.added is not None:
            self.added[layer.run.layer] = (own_k, own_v)
        if not self.own_frame:
            return attend(q, k, v, shapes_vary=True)
        own = attend_own_frame(q, own_k, own_v, layer.layout.frames, layer.run.frames_per_chunk)
        shared, lse = attend_with_lse(q, k, v, shapes_vary=True)
        return merge_terms(q, shared, lse, own, kernels=layer.run.kernels)

    def count(self, layout: TokenLayout) -> float:
        anchors = max((k.shape[2] for k, _ in self.known.values()), default=0)
        return anchors + self.own_frame * layout.tokens_per_frame

    def projected(self, layout: TokenLayout) -> float:
        return layout.tokens if self.own_frame else 0

    def exchange(self, whole: TokenLayout, num_heads: int, dim: int) -> Exchange:
        """Nothing: every rank knows the anchors."""
        return Exchange()


def why_not_attachable(plan: Plan) -> str | None:
    """Why frames cannot be attached one by one under this plan; None where they can."""
    for layer in plan.layers if plan.camera is None else (*plan.layers, plan.camera):
        if not layer.queries.every_token or layer.fill != NoFill():
            return "queries or fills depend on all frames"
        if isinstance(layer.keys, AnchorKeys):
            if layer.keys.descriptors:
                return "descriptors of all frames are keys"
        elif not isinstance(layer.keys, SameFrameKeys):
            return "frames see frames that are no anchors"
    if not any(isinstance(layer.keys, AnchorKeys) for layer in plan.layers):
        return "no layer has anchors"
    return "the camera head attends to all frames (cameras=all)" if plan.camera is None else None


@dataclasses.dataclass(frozen=True)
class ChosenAnchors:
    """An attachable plan with its anchors known.

    `frames`: the anchors of any layer in rising order, and frame 0, which is solved with them as its camera
    is the world. `plan`: the plan for a pass over just these.
    """

    frames: tuple[int, ...]
    plan: Plan

    @classmethod
    def of(
        cls,
        plan: Plan,
        frames: int,
        reference: int | None,
        features: Float[Tensor, "batch frames dim"] | None,
    ) -> ChosenAnchors:
        """Anchors that `plan` takes of `frames` frames, with `features` as one pass over all would see them.

        Raises ValueError for a plan under which frames cannot be attached.
        """
        problem = why_not_attachable(plan)
        if problem is not None:
            raise ValueError(problem)
        found: dict[AnchorKeys, list[int]] = {}

        def choose(keys: AnchorKeys, camera: bool) -> AnchorKeys:
            if keys not in found:
                found[keys] = keys.choose(frames, reference, features)[0].tolist()
            return keys

        _with_anchors(plan, choose)
        solved = sorted({0}.union(*found.values()))

        def named(keys: AnchorKeys, camera: bool) -> AnchorKeys:
            return AnchorKeys(own_frame=keys.own_frame, indices=tuple(solved.index(i) for i in found[keys]))

        return cls(tuple(solved), _with_anchors(plan, named))


def solving_plan(plan: Plan, memory: AnchorMemory) -> Plan:
    """`plan` of `ChosenAnchors`, filling the empty `memory` in a pass over its frames."""
    return _with_anchors(
        plan, lambda keys, camera: SolvedKeys(keys, memory.camera if camera else memory.layers)
    )


def attaching_plan(
    plan: Plan, memory: AnchorMemory, added: AnchorMemory | None = None, features: bool = False
) -> Plan:
    """`plan` for frames that are no anchors, against those in `memory`; see `RememberedKeys`.

    `added` receives their own keys and values by layer.
    """

    def remembered(keys: AnchorKeys, camera: bool) -> Keys:
        known, more = (None if m is None else m.camera if camera else m.layers for m in (memory, added))
        assert known is not None
        return RememberedKeys(known, keys.own_frame, more, features)

    return _with_anchors(plan, remembered)


def _with_anchors(plan: Plan, change: Callable[[AnchorKeys, bool], Keys]) -> Plan:
    """`plan` with `change(keys, of the camera head)` in place of all anchors."""

    def changed(layer: GlobalAttention, camera: bool = False) -> GlobalAttention:
        keys = layer.keys
        return GlobalAttention(keys=change(keys, camera)) if isinstance(keys, AnchorKeys) else layer

    camera = None if plan.camera is None else changed(plan.camera, True)
    return Plan(tuple(map(changed, plan.layers)), plan.name, camera)
