"""The memory of a plan: projected keys and values for each global layer that attends across frames, and which
frames stay in it."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ..attention.dense import AllQueries, NoFill, SameFrameKeys
from ..attention.global_attention import GlobalAttention
from ..attention.methods.flashvggt import DescriptorKeys
from ..attention.plan import Plan
from ..errors import UsageError
from .recursive_keys import LayerMemory, RecursiveKeys


@dataclasses.dataclass(frozen=True)
class RetentionRule:
    """Of every `keep_one_in` frames the first is kept, at most `limit` frames in all (None: no bound).

    `by_chunk` follows the released code: frames are counted within each chunk, and the dropped ones are
    masked in their own chunk too.
    """

    keep_one_in: int = 5
    limit: int | None = None
    by_chunk: bool = False


@functools.lru_cache(maxsize=64)
def retained_frames(arrived: int, keep_one_in: int = 1, limit: int | None = None) -> tuple[int, ...]:
    """Frames in memory, in order, after `arrived` frames (at least one).

    Every `keep_one_in`-th frame from frame 0 on; if these are more than `limit`, half of them are the
    latest, the others lie evenly over the whole past: every 2ⁿ-th, with the smallest n that fits. Frame 0
    always stays. A frame kept later was kept before.
    """
    every = range(0, arrived, keep_one_in)
    if limit is None or len(every) <= limit:
        return tuple(every)
    spread = (limit + 1) // 2
    step = keep_one_in
    while len(range(0, arrived, step)) > spread:
        step *= 2
    latest = every[len(every) - (limit - spread) :]
    return tuple(sorted({*range(0, arrived, step), *latest}))


class PlanMemory:
    """The memory of all layers of a plan, the frames in it, and how many have arrived."""

    def __init__(self, plan: Plan, rule: RetentionRule) -> None:
        for number, layer in enumerate(plan.layers):
            _check(number, layer, plan)
        self._plan, self._rule = plan, rule
        self.layers = [LayerMemory() for _ in plan.layers]
        self.kept: tuple[int, ...] = ()
        self.arrived = 0

    def plan(self, new: int) -> Plan:
        """The plan for a chunk of `new` frames; its pass adds to the layers, and `commit` keeps."""
        seen = tuple(range(0, new, self._rule.keep_one_in)) if self._rule.by_chunk else None
        return Plan(
            tuple(
                layer
                if isinstance(layer.keys, SameFrameKeys)
                else GlobalAttention(keys=RecursiveKeys(layer.keys, memory, seen))  # type: ignore[arg-type]
                for layer, memory in zip(self._plan.layers, self.layers, strict=True)
            )
        )

    def commit(self, new: int) -> None:
        """Count `new` frames as arrived, and keep those frames in memory that the rule selects."""
        first, rule = self.arrived, self._rule
        arrived = first + new
        if rule.by_chunk:
            offered = tuple(range(first, arrived, rule.keep_one_in))
            kept = self.kept + offered
        else:
            offered = tuple(range(first, arrived))
            kept = retained_frames(arrived, rule.keep_one_in, rule.limit)
        place = {frame: index for index, frame in enumerate(self.kept + offered)}
        index = torch.tensor([place[frame] for frame in kept])
        for memory in self.layers:
            if memory.new_short is not None:
                memory.commit(index)
        self.kept, self.arrived = kept, arrived

    def discard_new(self) -> None:
        """Drop what a failed pass added."""
        for memory in self.layers:
            memory.discard_new()

    def tokens(self) -> list[int]:
        """Number of keys in memory of each layer."""
        keys = [[pair[0] for pair in (m.whole, m.short) if pair is not None] for m in self.layers]
        return [sum(math.prod(k.shape[2:-1]) for k in layer) for layer in keys]

    @property
    def nbytes(self) -> int:
        """Bytes of all keys and values in memory."""
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
        """Load what `state` returned; raises ValueError if the layers do not match."""
        across = [n for n, layer in enumerate(self._plan.layers) if not isinstance(layer.keys, SameFrameKeys)]
        wanted = {f"layer{n}.{pair}.{part}" for n in across for pair in ("whole", "short") for part in "kv"}
        if wanted ^ {name for name in state if name.startswith("layer")}:
            raise ValueError("the state belongs to a stream with another plan")
        for number in across:
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
            f"global layer {number} of {plan} does not attend to descriptors, which a stream in chunks "
            "keeps in memory; use --accel flash (flash:r=2, flash:version=v2)"
        )
    if not (layer.keys.specials and layer.keys.first_frame):
        raise UsageError(f"a stream in chunks keeps special tokens and frame 0, which {plan} leaves out")
    if layer.keys.keyframes is not None and layer.keys.keyframes > 1:
        raise UsageError(f"a stream cannot choose keyframes among future frames; give {plan} keyframes=0")
