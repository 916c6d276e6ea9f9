"""Between the host and a CUDA device through small page-locked buffers, while the device goes on computing.

Pageable memory is copied at a fraction of the bus, and the host waits for it. Here pieces go through a few
page-locked buffers, whose size is bounded, and everything that is returned has arrived.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

_BUFFERS = 3
_PIECE_BYTES = 32 << 20


@runtime_checkable
class Copies(Protocol):
    """How pieces are copied from a device: on CUDA a stream of their own; tests have others."""

    def buffer(self, like: Tensor) -> Tensor:
        """Contiguous host memory for a piece of this size."""
        ...

    def start(self, pieces: Sequence[Tensor], buffers: Sequence[Tensor]) -> Any:
        """Queue copies behind what makes the pieces; an event whose `synchronize()` waits for them."""
        ...


class CudaCopies:
    """Copies on a second stream, which waits for what is queued at `start` and for nothing later."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)

    def buffer(self, like: Tensor) -> Tensor:
        return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)

    def start(self, pieces: Sequence[Tensor], buffers: Sequence[Tensor]) -> Any:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        done = torch.cuda.Event(blocking=True)
        with torch.cuda.stream(self._stream):
            for piece, buffer in zip(pieces, buffers, strict=True):
                buffer.copy_(piece, non_blocking=True)
                piece.record_stream(self._stream)  # its memory is not given away before
            done.record(self._stream)
        return done


@dataclasses.dataclass(eq=False)
class _Slot:
    """Page-locked buffers of one piece, and the copy out of them that is under way."""

    buffers: list[Tensor] = dataclasses.field(default_factory=list)
    stored: Future[None] | None = None


class Download:
    """Tensors `total` long that arrive in pieces in host memory, each while the next is computed.

    A thread waits for a piece and moves it from its page-locked buffers to the result; a buffer is used again
    when that is over. Used as a context manager: on the way out the thread has nothing left to do.
    """

    def __init__(self, total: int, copies: Copies) -> None:
        self._total, self._copies = total, copies
        self._slots = [_Slot() for _ in range(_BUFFERS)]
        self._count = 0
        self._results: list[Tensor] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="manyview-download")

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def add(self, part: slice, pieces: Sequence[Tensor]) -> None:
        """Queue the pieces of all tensors at `part`; the first piece is the largest."""
        if not self._results:
            self._results = [_host_memory((self._total, *x.shape[1:]), x.dtype) for x in pieces]
        pieces = [x.contiguous() for x in pieces]  # a copy between other orders would take one more
        slot = self._slots[self._count % _BUFFERS]
        self._count += 1
        if slot.stored is not None:
            slot.stored.result()
        if not slot.buffers:
            slot.buffers = [self._copies.buffer(x) for x in pieces]
        buffers = [b[: len(x)] for b, x in zip(slot.buffers, pieces, strict=True)]
        slot.stored = self._thread.submit(self._store, self._copies.start(pieces, buffers), part, buffers)

    def results(self) -> list[Tensor]:
        """The tensors, when all has arrived."""
        for slot in self._slots:
            if slot.stored is not None:
                slot.stored.result()
        return self._results

    def _store(self, done: Any, part: slice, buffers: Sequence[Tensor]) -> None:
        done.synchronize()
        with torch.inference_mode():  # a thread has a mode of its own, and the results may be of that one
            for whole, buffer in zip(self._results, buffers, strict=True):
                whole[part].copy_(buffer)


def in_slices_to_host(
    run: Callable[[slice], Sequence[Tensor] | Tensor], total: int, size: int | None, copies: Copies
) -> list[Tensor]:
    """The outputs of `run` on slices of `size` (None: on one) in host memory, as `in_slices` joins them."""
    step = size or total
    with Download(total, copies) as download:
        for start in range(0, total, step):
            part = slice(start, min(start + step, total))
            out = run(part)
            download.add(part, [out] if isinstance(out, Tensor) else out)
        return download.results()


def to_host(tensor: Tensor) -> Tensor:
    """`tensor.cpu()`, from CUDA through page-locked buffers."""
    if tensor.device.type != "cuda" or not tensor.ndim or not tensor.numel():
        return tensor.cpu()
    step = max(1, _PIECE_BYTES * len(tensor) // tensor.nbytes)
    pieces = tensor.split(step)
    return in_slices_to_host(
        lambda part: pieces[part.start // step], len(tensor), step, CudaCopies(tensor.device)
    )[0]


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor.to(device)`, to CUDA through page-locked buffers; memory order is kept.

    Copies are queued in the current stream, so that what follows there finds them done.
    """
    if device.type != "cuda" or tensor.device.type != "cpu" or not tensor.ndim or not tensor.numel():
        return tensor.to(device)
    found = torch.empty_like(tensor, device=device)
    step = max(1, _PIECE_BYTES * len(tensor) // tensor.nbytes)
    buffers = [torch.empty_like(tensor[:step], pin_memory=True) for _ in range(2)]
    copied = [torch.cuda.Event(blocking=True) for _ in buffers]
    for number, (here, there) in enumerate(zip(tensor.split(step), found.split(step), strict=True)):
        which = number % len(buffers)
        copied[which].synchronize()  # at once, where nothing was recorded yet
        there.copy_(buffers[which][: len(here)].copy_(here), non_blocking=True)
        copied[which].record(torch.cuda.current_stream(device))
    return found


def _host_memory(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Uninitialised; NumPy asks for large pages, which fill faster."""
    size = int(np.prod(shape)) * dtype.itemsize
    return torch.from_numpy(np.empty(size, dtype=np.uint8)).view(dtype).view(*shape)
