"""Ranks that are threads of one process, of which one computes at a time until it waits for the others."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from manyview.distributed.frames import FrameSplit
from manyview.distributed.ranks import Pending, Ranks

T = TypeVar("T")


class _Aborted(Exception):
    """Another thread failed, or ended while this one waited for it."""


@dataclasses.dataclass
class _Board:
    """What every thread has handed in so far, operation by operation; `turn` is held while computing."""

    posted: list[list[tuple[Any, ...]]]
    ended: list[bool]
    turn: threading.Condition = dataclasses.field(default_factory=threading.Condition)
    parts: dict[int, _Board] = dataclasses.field(default_factory=dict)


class ThreadRanks(Ranks):
    """Exchanges through a board; fails where threads do not call the same operations with the same sizes."""

    def __init__(self, board: _Board, split: FrameSplit, ring: bool = False) -> None:
        super().__init__(split, ring)
        self._board = board

    def with_split(self, frames: int, together: int = 1, ring: bool = False) -> ThreadRanks | None:
        active = min(self.split.ranks, -(-frames // together))
        number = self._post("split", torch.tensor([frames, together]), (frames, together))
        part = _Board([[] for _ in range(active)], self._board.ended, self._board.turn)
        part = self._board.parts.setdefault(number, part)
        split = FrameSplit.of(frames, self.split.ranks, self.split.rank, together)
        return None if split is None else ThreadRanks(part, split, ring)

    def _post(self, name: str, x: Tensor, sizes: tuple[int, ...]) -> int:
        self._board.posted[self.split.rank].append((name, sizes, x.dtype, x))
        return len(self._board.posted[self.split.rank]) - 1

    def _all(self, number: int) -> list[Tensor]:
        """What all threads handed in to that operation."""
        board = self._board
        while any(len(posted) <= number for posted in board.posted):
            missing = [r for r, posted in enumerate(board.posted) if len(posted) <= number]
            if any(board.ended[rank] for rank in missing):
                raise _Aborted(f"rank {self.split.rank} waits for {missing}, which have ended")
            board.turn.wait()
        handed_in = [posted[number] for posted in board.posted]
        assert len({one[:3] for one in handed_in}) == 1, [one[:3] for one in handed_in]
        return [one[3] for one in handed_in]

    def _all_gather(self, x: Tensor, sizes: Sequence[int]) -> Pending:
        assert x.is_contiguous() and len(x) == sizes[self.split.rank]
        number = self._post("gather", x, (*sizes, *x.shape[1:]))
        self._board.turn.notify_all()
        return Pending(lambda: torch.cat(self._all(number)))

    def _all_reduce(self, x: Tensor) -> Tensor:
        number = self._post("sum", x, tuple(x.shape))
        self._board.turn.notify_all()
        return torch.stack(self._all(number)).sum(0, dtype=x.dtype)

    def _to_next(self, x: Tensor, like: Sequence[int]) -> Pending:
        number = self._post("to next", x.clone(), ())
        self._board.turn.notify_all()

        def arrived() -> Tensor:
            found = self._all(number)[self.split.rank - 1]
            assert found.shape == torch.Size(like)
            return found

        return Pending(arrived)


def run(
    frames: int, ranks: int, function: Callable[[ThreadRanks], T], together: int = 1, ring: bool = False
) -> list[T]:
    """What `function` returns on each of the ranks that have frames; raises their first error."""
    active = [s for r in range(ranks) if (s := FrameSplit.of(frames, ranks, r, together)) is not None]
    board = _Board([[] for _ in active], [False] * len(active))
    gradients, results, errors = torch.is_grad_enabled(), [None] * len(active), []

    def one(split: FrameSplit) -> None:
        with board.turn:
            try:
                torch.set_grad_enabled(gradients)  # each thread has its own
                results[split.rank] = function(ThreadRanks(board, split, ring))
            except BaseException as error:
                errors.append(error)
            finally:
                board.ended[split.rank] = True
                board.turn.notify_all()

    threads = [threading.Thread(target=one, args=(split,)) for split in active]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise min(errors, key=lambda error: isinstance(error, _Aborted))
    numbers = [len(posted) for posted in board.posted]
    assert len(set(numbers)) == 1, f"ranks made {numbers} operations"
    return results


def own_frames(x: Tensor, ranks: Ranks, dim: int = 1) -> Tensor:
    """A rank's frames of what belongs to all frames along `dim`."""
    return x.narrow(dim, ranks.split.first, ranks.split.count)
