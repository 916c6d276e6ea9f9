"""The interface of streaming engines: push new frames, get their cameras and depth in one fixed world."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Num
from torch import Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class StreamUpdate:
    """Cameras and depth of the frames `first`, `first` + 1, ... of a stream.

    The world is the camera of frame 0 for the whole stream, up to scale. Tensors are float32 on the CPU.

    Attributes:
        first: number of the first frame of this update.
        cam_from_world: extrinsics, OpenCV axes.
        intrinsics: in pixels of the pushed images.
        z_depth, depth_conf: depth along the optical axis, and its confidence.
        memory_bytes: what the engine holds for later frames after this update.
        seconds: duration of the forward pass.
        whole: frames that later ones attend to with all their tokens (anchors, frame 0), if any were added.
        notes: sentences for the user, each given once a stream.
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

    def push(self, images: Num[Tensor, "views 3 height width"]) -> StreamUpdate:
        """Predict cameras and depth of new frames (uint8, or floating point in [0, 1]).

        If it raises, the state is unchanged. Raises UsageError for images of another size than before.
        """
        ...

    @property
    def frames(self) -> int:
        """Frames pushed so far."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Bytes held for later frames, without the weights."""
        ...

    def cameras(self) -> tuple[Float[Tensor, "frames 3 4"], Float[Tensor, "frames 3 3"]] | None:
        """Revised cameras and intrinsics of all frames; None if those of the updates are final."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Everything the engine holds, as tensors by name; after `restore` it continues identically."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Load what `state` of an engine with the same network and options returned.

        Raises ValueError if it does not match.
        """
        ...
