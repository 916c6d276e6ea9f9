"""The memory of a whole plan: one of projected descriptors per global layer that joins frames."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ..attention.dense import AllQueries, NoFill, SameFrameKeys
from ..attention.global_attention import GlobalAttention
from ..attention.methods.flashvggt import DescriptorKeys
from ..attention.plan import Plan
from ..errors import UsageError
from .frame_retention import kept_frames
from .recursive_keys import LayerMemory, RecursiveKeys


@dataclasses.dataclass(frozen=True)
class KeepRule:
    """Of `keep_one_in` frames the first is kept, at most `limit` frames in all (None: no bound).

    `by_chunk` is the released code's way: frames are counted in each chunk, and the dropped ones are
    hidden from their own chunk too.
    """

    keep_one_in: int = 5
    limit: int | None = None
    by_chunk: bool = False


class PlanMemory:
    """What all layers of a plan remember, the frames that are in it, and how many have arrived."""

    def __init__(self, plan: Plan, rule: KeepRule) -> None:
        for number, layer in enumerate(plan.layers):
            _check(number, layer, plan)
        self._plan, self._rule = plan, rule
        self.layers = [LayerMemory() for _ in plan.layers]
        self.kept: tuple[int, ...] = ()
        self.arrived = 0

    def plan(self, new: int) -> Plan:
        """The plan for a chunk of `new` frames; its pass leaves in the layers what `take_over` keeps."""
        seen = tuple(range(0, new, self._rule.keep_one_in)) if self._rule.by_chunk else None
        return Plan(
            tuple(
                layer
                if isinstance(layer.keys, SameFrameKeys)
                else GlobalAttention(keys=RecursiveKeys(layer.keys, memory, seen))  # type: ignore[arg-type]
                for layer, memory in zip(self._plan.layers, self.layers, strict=True)
            )
        )

    def take_over(self, new: int) -> None:
        """Count `new` frames as arrived and keep of them and of the past what the rule says."""
        first, rule = self.arrived, self._rule
        arrived = first + new
        if rule.by_chunk:
            offered = tuple(range(first, arrived, rule.keep_one_in))
            kept = self.kept + offered
        else:
            offered = tuple(range(first, arrived))
            kept = kept_frames(arrived, rule.keep_one_in, rule.limit)
        place = {frame: index for index, frame in enumerate(self.kept + offered)}
        index = torch.tensor([place[frame] for frame in kept])
        for memory in self.layers:
            if memory.new_short is not None:
                memory.take_over(index)
        self.kept, self.arrived = kept, arrived

    def forget_new(self) -> None:
        """Drop what a failed pass left."""
        for memory in self.layers:
            memory.forget_new()

    def tokens(self) -> list[int]:
        """Remembered keys of each layer."""
        keys = [[pair[0] for pair in (m.whole, m.short) if pair is not None] for m in self.layers]
        return [sum(math.prod(k.shape[2:-1]) for k in layer) for layer in keys]

    @property
    def nbytes(self) -> int:
        """Bytes of all remembered keys and values."""
        return sum(tensor.nbytes for memory in self.layers for tensor in memory.tensors().values())

    def state(self) -> dict[str, Tensor]:
        """All tensors by name."""
        named = {
            f"layer{number}.{name}": tensor
            for number, memory in enumerate(self.layers)
            for name, tensor in memory.tensors().items()
        }
        return {
            **named,
            "kept": torch.tensor(self.kept, dtype=torch.long),
            "arrived": torch.tensor(self.arrived),
        }

    def restore(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Take over what `state` gave; raises ValueError if the layers do not fit."""
        joining = [
            n for n, layer in enumerate(self._plan.layers) if not isinstance(layer.keys, SameFrameKeys)
        ]
        wanted = {f"layer{n}.{pair}.{part}" for n in joining for pair in ("whole", "short") for part in "kv"}
        if wanted ^ {name for name in state if name.startswith("layer")}:
            raise ValueError("the memory of the stream belongs to another plan")
        for number in joining:
            memory = self.layers[number]
            memory.whole, memory.short = (
                (state[f"layer{number}.{pair}.k"].to(device), state[f"layer{number}.{pair}.v"].to(device))
                for pair in ("whole", "short")
            )
        self.kept = tuple(int(frame) for frame in state["kept"])
        self.arrived = int(state["arrived"])


def _check(number: int, layer: GlobalAttention, plan: Plan) -> None:
    if isinstance(layer.keys, SameFrameKeys):
        return
    plain = layer.queries == AllQueries() and layer.fill == NoFill()
    if not isinstance(layer.keys, DescriptorKeys) or not plain:
        raise UsageError(
            f"global layer {number} of {plan} does not meet by descriptors, which is what a chunk-recursive "
            "stream remembers; use --accel flash (flash:r=2, flash:version=v2)"
        )
    if layer.keys.keyframes is not None and layer.keys.keyframes > 1:
        raise UsageError(
            f"a stream cannot choose keyframes among frames that are still to come; give {plan} keyframes=0"
        )
