"""What the ranks that share a scene exchange, built on three collective operations.

Every method here but `choose` is collective: all ranks call it, in the same order and with arguments that
belong together. Tensors arrive bit for bit, in the order of the frames.
"""

from __future__ import annotations

import abc
import dataclasses
import math
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .frames import FrameSplit


@dataclasses.dataclass(frozen=True, eq=False)
class Pending:
    """A tensor of which parts are still on their way. `wait` returns it, once."""

    wait: Callable[[], Tensor]


@dataclasses.dataclass(frozen=True, eq=False)
class ChosenFrames:
    """Frames of the scene that all ranks are to have, see `Ranks.choose`.

    `rows` and `frames` are the batch elements and the places among its own frames of those that this rank
    sends, `sizes` how many each rank sends, and `order` where each chosen frame is among all that are sent.
    """

    rows: Int[Tensor, " own"]
    frames: Int[Tensor, " own"]
    sizes: tuple[int, ...]
    order: Int[Tensor, "batch chosen"]


class Ranks(abc.ABC):
    """The ranks that share a scene, seen from one of them.

    Attributes:
        split: Which frames each rank has.
        ring: Dense attention passes keys and values around in a ring, where not all of them fit.
        received: Bytes from other ranks so far; of a sum, what it takes in a ring.
    """

    def __init__(self, split: FrameSplit, ring: bool = False) -> None:
        self.split, self.ring, self.received = split, ring, 0

    @abc.abstractmethod
    def with_split(self, frames: int, together: int = 1, ring: bool = False) -> Ranks | None:
        """Those of these ranks that have frames of a scene of `frames` frames (`FrameSplit.of`).

        None for the others, which call it too.
        """

    @abc.abstractmethod
    def _all_gather(self, x: Tensor, sizes: Sequence[int]) -> Pending:
        """The rows (dimension 0) of all ranks one after the other, `sizes` by rank; some may be 0."""

    @abc.abstractmethod
    def _all_reduce(self, x: Tensor) -> Tensor:
        """The sum over all ranks, in the type of `x`."""

    @abc.abstractmethod
    def _to_next(self, x: Tensor, like: Sequence[int]) -> Pending:
        """What the rank before sent, of shape `like`, while `x` goes to the rank after."""

    def gather(self, x: Tensor, dim: int, sizes: Sequence[int] | None = None) -> Pending:
        """`x` of all ranks joined along `dim`, in the order of the ranks.

        `sizes` of `dim` by rank; None: in proportion to the frames. In memory `dim` comes first.
        """
        split = self.split
        if sizes is None:
            each, rest = divmod(x.shape[dim], split.count)
            if rest:
                raise ValueError(f"{x.shape[dim]} rows are not as many for each of {split.count} frames")
            sizes = [each * count for count in split.counts]
        if len(sizes) != split.ranks or sizes[split.rank] != x.shape[dim]:
            raise ValueError(f"rank {split.rank} has {x.shape[dim]} rows, which are not those of {sizes}")
        if split.ranks == 1:
            return Pending(lambda: x)
        rows = x.movedim(dim, 0).contiguous()
        from_others = sum(sizes) - rows.shape[0]
        self.received += from_others * math.prod(rows.shape[1:]) * rows.element_size()
        pending = self._all_gather(rows, sizes)
        return Pending(lambda: pending.wait().movedim(0, dim))

    def to_next(self, x: Tensor, like: Sequence[int]) -> Pending:
        """What the rank before sends, of shape `like` and the type of `x`, while `x` goes to the rank after.

        Ranks are a ring: the last one's next is the first.
        """
        self.received += math.prod(like) * x.element_size()
        return self._to_next(x.contiguous(), like)

    def sum(self, x: Tensor) -> Tensor:
        """The sum over all ranks, in the type of `x` (float32, float64 or int64)."""
        if self.split.ranks == 1:
            return x
        self.received += 2 * (self.split.ranks - 1) * x.nbytes // self.split.ranks
        return self._all_reduce(x.contiguous())

    def sizes(self, n: int) -> tuple[int, ...]:
        """The `n` of every rank."""
        ones = (1,) * self.split.ranks
        return tuple(self.gather(torch.tensor([n], device="cpu"), 0, ones).wait().tolist())

    def objects(self, value: Any) -> list[Any]:
        """The value of every rank, which can be pickled; for before and after a forward pass.

        Ranks of `MeshRanks.of_environment` wait here for each other as long as it takes.
        """
        data = torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8)
        sizes = self.sizes(len(data))
        parts = self.gather(data, 0, sizes).wait().split(sizes)
        return [pickle.loads(part.numpy().tobytes()) for part in parts]

    def choose(self, frames: Int[Tensor, "batch chosen"]) -> ChosenFrames:
        """How `take` brings frames of the scene, the same `frames` on every rank. Waits for the device."""
        batch = frames.tolist()
        found = [(self.split.owner(f), row, f) for row, chosen in enumerate(batch) for f in chosen]
        return self._chosen(found, frames.shape, frames.device)

    def take(
        self, x: Float[Tensor, "batch own *sizes"], frames: Int[Tensor, "batch chosen"] | ChosenFrames
    ) -> Float[Tensor, "batch chosen *sizes"]:
        """Frames of the scene by their number, on every rank; a frame may be chosen more than once."""
        chosen = frames if isinstance(frames, ChosenFrames) else self.choose(frames)
        return self.join(x[chosen.rows, chosen.frames], chosen).wait()

    def join(self, rows: Tensor, chosen: ChosenFrames) -> Pending:
        """`take` of the rows that each rank made of its `chosen.rows` and `chosen.frames`."""
        pending = self.gather(rows, 0, chosen.sizes)
        return Pending(lambda: pending.wait()[chosen.order])

    def place(self, x: Tensor, order: Int[Tensor, "batch frames"]) -> Tensor:
        """Frames in another order: of batch element b frame `order[b, i]` of the scene is put at place i.

        Of `x` [batch, own frames, ...] only frames that change their rank travel.
        """
        split, wanted = self.split, order.tolist()
        owners = [split.owner(frame) for frame in range(split.frames)]
        moved = [
            (owners[frame], row, frame)
            for row, places in enumerate(wanted)
            for place, frame in enumerate(places)
            if owners[place] != owners[frame]
        ]
        own = torch.tensor([places[split.first : split.stop] for places in wanted], device=x.device)
        here = (own - split.first).clamp(0, split.count - 1)
        result: Tensor = x[torch.arange(len(x), device=x.device)[:, None], here]
        if not moved:
            return result
        chosen = self._chosen(moved, torch.Size([1, len(moved)]), x.device)
        arrived = self.join(x[chosen.rows, chosen.frames], chosen).wait()[0]
        place_of = [{frame: place for place, frame in enumerate(places)} for places in wanted]
        for number, (_, row, frame) in enumerate(moved):
            place = place_of[row][frame] - split.first
            if 0 <= place < split.count:
                result[row, place] = arrived[number]
        return result

    def kth_value(self, values: Float[Tensor, " n"], rank: int) -> Float[Tensor, ""]:
        """The value with `rank` smaller ones before it, counted from 0, of all ranks' float32 `values`.

        Exact: four rounds find the value's bits, a byte in each, from how often each byte occurs.
        """
        bits = values.to(torch.float32).contiguous().view(torch.int32).to(torch.int64)
        keys = torch.where(bits < 0, ~bits, bits + 2**31)  # ordered as the values are
        before = torch.tensor(rank, device=values.device)
        found = torch.zeros_like(before)
        for shift in (24, 16, 8, 0):
            candidates = keys[keys >> (shift + 8) == found]
            counts = self.sum(torch.bincount((candidates >> shift) & 255, minlength=256))
            up_to = counts.cumsum(0)
            byte = (up_to <= before).sum()
            before = before - (up_to - counts)[byte]
            found = found * 256 + byte
        bits = torch.where(found >= 2**31, found - 2**31, ~found)
        return bits.to(torch.int32).view(torch.float32)

    def _chosen(
        self, wanted: Sequence[tuple[int, int, int]], shape: Sequence[int], device: torch.device
    ) -> ChosenFrames:
        """`wanted`: owner, batch element and number in the scene of each chosen frame."""
        split = self.split
        sent = sorted(range(len(wanted)), key=lambda number: wanted[number][0])
        places = torch.empty(len(wanted), dtype=torch.long)
        places[sent] = torch.arange(len(wanted))
        own = [(row, frame - split.first) for owner, row, frame in wanted if owner == split.rank]
        rows, frames = torch.tensor(own, dtype=torch.long).view(-1, 2).to(device).unbind(1)
        owners = [owner for owner, _, _ in wanted]
        sizes = tuple(owners.count(rank) for rank in range(split.ranks))
        return ChosenFrames(rows, frames, sizes, places.view(*shape).to(device))
