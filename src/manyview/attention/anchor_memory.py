"""Anchors solved once: their keys and values of every layer, against which any frame can be attached.

With anchors a frame depends on the anchors and itself alone (`anchor_keys`). So one pass over the anchors
leaves their K/V here, and later passes over any other frames, in any order and any chunks, give what one
pass over all frames gives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .dense import AllQueries, NoFill, SameFrameKeys
from .global_attention import GlobalAttention
from .layout import TokenLayout
from .methods.anchors import AnchorKeys, same_frame_terms
from .plan import Plan
from .protocols import LayerInput
from .softmax.extended import attend_extended

KeysValues = tuple[Float[Tensor, "batch heads keys dim"], Float[Tensor, "batch heads keys dim"]]


class AnchorMemory:
    """Keys (normalised, turned) and values of the anchors, [B, heads, anchors * P, d], by layer.

    `layers` are the network's global layers, `camera` the blocks of its camera head, each numbered in the
    order in which they run.
    """

    def __init__(
        self, layers: Mapping[int, KeysValues] | None = None, camera: Mapping[int, KeysValues] | None = None
    ) -> None:
        self.layers, self.camera = dict(layers or {}), dict(camera or {})

    @property
    def bytes(self) -> int:
        """What the keys and values take."""
        both = (*self.layers.values(), *self.camera.values())
        return sum(k.nbytes + v.nbytes for k, v in both)

    def joined(self, more: AnchorMemory) -> AnchorMemory:
        """These anchors and those of `more`."""

        def join(first: dict[int, KeysValues], second: dict[int, KeysValues]) -> dict[int, KeysValues]:
            return {
                number: (torch.cat([k, second[number][0]], 2), torch.cat([v, second[number][1]], 2))
                for number, (k, v) in first.items()
            }

        return AnchorMemory(join(self.layers, more.layers), join(self.camera, more.camera))

    def tensors(self) -> dict[str, Tensor]:
        """All keys and values by name; `from_tensors` takes them back."""
        rooms = {"layer": self.layers, "camera": self.camera}
        return {
            f"{room} {number} {part}": tensor
            for room, kept in rooms.items()
            for number, pair in kept.items()
            for part, tensor in zip(("keys", "values"), pair, strict=True)
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> AnchorMemory:
        """The memory whose `tensors` these are; other names are passed over. KeyError for half a pair."""
        rooms: dict[str, dict[int, KeysValues]] = {"layer": {}, "camera": {}}
        for name in tensors:
            room, _, rest = name.partition(" ")
            number, _, part = rest.partition(" ")
            if room in rooms and part == "keys":
                rooms[room][int(number)] = (tensors[name], tensors[f"{room} {number} values"])
        return cls(rooms["layer"], rooms["camera"])


@dataclasses.dataclass(frozen=True, eq=False)
class SolvedKeys:
    """What `keys` answers, leaving the anchors' keys and values in `left` as they pass."""

    keys: AnchorKeys
    left: dict[int, KeysValues]

    def attend_layer(self, layer: LayerInput, queries: Any, fill: Any) -> Tensor:
        """Outputs [B, heads, S*P, d] before the output projection."""
        anchors = self.keys.anchors(layer)
        tokens = layer.tokens.unflatten(1, (layer.layout.frames, -1))
        rows = torch.arange(len(tokens), device=tokens.device)[:, None]
        chosen = tokens[rows, anchors].flatten(1, 2)
        self.left[layer.run.layer] = layer.attention.keys_values(chosen, layer.rotation, layer.piece)
        return self.keys.attend_layer(layer, queries, fill)

    def select(self, layer: LayerInput) -> Any:
        raise TypeError("keys differ from frame to frame: use attend_layer")

    def count(self, layout: TokenLayout) -> float:
        return self.keys.count(layout)

    def projected(self, layout: TokenLayout) -> float:
        return self.keys.projected(layout) + self.keys.frames * layout.tokens_per_frame


@dataclasses.dataclass(frozen=True, eq=False)
class RememberedKeys:
    """Anchors solved earlier (`known`: their keys and values by layer), and with `own_frame` the own frame.

    None of the frames that ask is an anchor. `left`, if given, receives their own keys and values: with them
    the frames can be anchors of later ones. `needs_frame_features` has the pass leave them in its memory, for
    a rule that chooses among these frames.
    """

    known: Mapping[int, KeysValues]
    own_frame: bool = True
    left: dict[int, KeysValues] | None = None
    needs_frame_features: bool = False

    def attend_layer(self, layer: LayerInput, queries: Any, fill: Any) -> Tensor:
        """Outputs [B, heads, S*P, d] before the output projection."""
        attention, layout = layer.attention, layer.layout
        q = attention.queries(layer.tokens, layer.rotation, layer.piece)
        k, v = (x.expand(len(q), -1, -1, -1) for x in self.known[layer.run.layer])
        if not self.own_frame and self.left is None:
            return attend_extended(q, k, v)
        own_k, own_v = attention.keys_values(layer.tokens, layer.rotation, layer.piece)
        if self.left is not None:
            self.left[layer.run.layer] = (own_k, own_v)
        if not self.own_frame:
            return attend_extended(q, k, v)
        logit, value = same_frame_terms(q, own_k, own_v, layout)
        return attend_extended(q, k, v, None, logit, value, kernels=layer.run.kernels)

    def select(self, layer: LayerInput) -> Any:
        raise TypeError("keys differ from frame to frame: use attend_layer")

    def count(self, layout: TokenLayout) -> float:
        anchors = max((k.shape[2] for k, _ in self.known.values()), default=0)
        return anchors + self.own_frame * layout.tokens_per_frame

    def projected(self, layout: TokenLayout) -> float:
        return layout.tokens if self.own_frame else 0


def why_not_attachable(plan: Plan) -> str | None:
    """Why frames cannot be attached one by one under this plan; None where they can."""
    for answer in (*plan.layers, *(() if plan.camera is None else (plan.camera,))):
        if answer.queries != AllQueries() or answer.fill != NoFill():
            return "queries or fills join frames"
        if isinstance(answer.keys, AnchorKeys):
            if answer.keys.descriptors:
                return "descriptors of all frames are keys"
        elif not isinstance(answer.keys, SameFrameKeys):
            return "frames see frames that are no anchors"
    if not any(isinstance(answer.keys, AnchorKeys) for answer in plan.layers):
        return "no layer has anchors"
    return "the camera head joins all frames (cameras=all)" if plan.camera is None else None


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
        found: dict[AnchorKeys, tuple[int, ...]] = {}
        for answer in (*plan.layers, plan.camera):
            if answer is not None and isinstance(answer.keys, AnchorKeys) and answer.keys not in found:
                found[answer.keys] = tuple(answer.keys.choose(frames, reference, features)[0].tolist())
        needed = {frame for chosen in found.values() for frame in chosen}
        solved = tuple(sorted(needed | {0}))
        place = {frame: index for index, frame in enumerate(solved)}

        def named(answer: GlobalAttention) -> GlobalAttention:
            if not isinstance(answer.keys, AnchorKeys):
                return answer
            indices = tuple(place[frame] for frame in found[answer.keys])
            return GlobalAttention(keys=AnchorKeys(own_frame=answer.keys.own_frame, indices=indices))

        camera = None if plan.camera is None else named(plan.camera)
        return cls(solved, Plan(tuple(named(answer) for answer in plan.layers), plan.name, camera))


def solving_plan(plan: Plan, memory: AnchorMemory) -> Plan:
    """`plan` of `ChosenAnchors`, filling the empty `memory` in a pass over its frames."""
    return _changed(plan, lambda keys, room: SolvedKeys(keys, getattr(memory, room)))


def attaching_plan(
    plan: Plan, memory: AnchorMemory, left: AnchorMemory | None = None, features: bool = False
) -> Plan:
    """`plan` for frames that are no anchors, against those in `memory`; see `RememberedKeys`.

    `left` receives their own keys and values by layer.
    """
    return _changed(
        plan,
        lambda keys, room: RememberedKeys(
            getattr(memory, room), keys.own_frame, None if left is None else getattr(left, room), features
        ),
    )


def _changed(plan: Plan, keys_for: Any) -> Plan:
    def change(answer: GlobalAttention, room: str) -> GlobalAttention:
        own = isinstance(answer.keys, SameFrameKeys)
        return answer if own else GlobalAttention(keys=keys_for(answer.keys, room))

    camera = None if plan.camera is None else change(plan.camera, "camera")
    return Plan(tuple(change(answer, "layers") for answer in plan.layers), plan.name, camera)
