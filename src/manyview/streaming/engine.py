"""What every streaming engine offers: push new frames, get their cameras and depth in one fixed world."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class StreamUpdate:
    """What an engine says about frames `first`, `first` + 1, ... of the stream when they arrive.

    The world is the camera of frame 0 for the whole stream. Tensors are float32 on the CPU; depth is
    z-depth, intrinsics are in pixels of the pushed images. `memory_bytes` is what the engine holds for
    later frames once these are in, `seconds` what the push took. `whole` numbers frames of the stream
    that from now on are seen with all their tokens (anchors, keyframes), if any were added. `notes` are
    sentences for the user, each given once a stream.
    """

    first: int
    cam_from_world: Float[Tensor, "views 3 4"]
    intrinsics: Float[Tensor, "views 3 3"]
    z_depth: Float[Tensor, "views height width"]
    depth_conf: Float[Tensor, "views height width"]
    memory_bytes: int
    seconds: float
    whole: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.cam_from_world)


@runtime_checkable
class StreamEngine(Protocol):
    """A network with a memory of the frames it has seen. Built as `Engine(model, options, run)`.

    `options` is the engine's own frozen dataclass, `run` a `models.run_options.RunOptions`.
    `stream.make_engine` builds them by name: "chunks" `recursive.RecursiveEngine` of `RecursiveOptions`,
    "anchors" `anchors.AnchorEngine` of `AnchorOptions`.
    """

    def push(self, images: Float[Tensor, "views 3 height width"]) -> StreamUpdate:
        """One or several new frames (uint8, or floating in [0, 1]), all of the stream's one size.

        Either all of them are taken in or, when an error is raised, none. Raises UsageError for another size.
        """
        ...

    @property
    def frames(self) -> int:
        """Frames taken in so far."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Bytes held for later frames, without the network's weights."""
        ...

    def cameras(self) -> tuple[Float[Tensor, "frames 3 4"], Float[Tensor, "frames 3 3"]] | None:
        """Cameras and intrinsics of all frames so far as seen now, float32 on the CPU.

        None where those of the updates are final.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """Everything the engine holds, as tensors by name: after `restore` it goes on identically."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` of an engine with the same network and options gave.

        Raises ValueError if it does not fit.
        """
        ...
