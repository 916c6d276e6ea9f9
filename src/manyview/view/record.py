"""Pictures and films of the page, drawn by a browser that shows it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from ..errors import optional_module
from ..geometry.unproject_np import invert_rigid
from ..reconstruction.result.result import Reconstruction
from .path import smooth_path
from .space import PageSpace

_LONGEST_SIDE = 1920  # pixels of a film
_PATIENCE_S = 60.0  # for one image
_QUALITY = {
    "crf": "24",
    "b": "0",
    "deadline": "realtime",
    "cpu-used": "6",
}  # hardly any loss that can be seen


def screenshot_png(client: Any) -> bytes:
    """What a browser shows, without panel, on white."""
    drawn = client.get_render(
        client.camera.image_height,
        client.camera.image_width,
        transport_format="png",
        timeout=_PATIENCE_S,
    )
    image = Image.fromarray(drawn)
    if image.mode == "RGBA":
        paper = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(paper, image).convert("RGB")
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def flight(
    scene: Reconstruction, space: PageSpace, frames: int
) -> tuple[Float[np.ndarray, "frames 4"], Float[np.ndarray, "frames 3"], float]:
    """(wxyz, position, vertical field of view in radians) of a flight along the cameras, for viser."""
    from viser.transforms import SO3

    world_from_cam = invert_rigid(smooth_path(scene.cam_from_world, frames))
    half = scene.height / 2 / scene.intrinsics[:, 1, 1]
    fov = float(2 * np.arctan(np.median(half)))
    position = space(world_from_cam[:, :, 3]).astype(np.float64)
    return SO3.from_matrix(world_from_cam[:, :, :3]).wxyz, position, fov


def fly_through(
    client: Any, scene: Reconstruction, space: PageSpace, frames: int, progress: Callable[[int, int], bool]
) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """Images of a flight along the cameras, as large as the browser's page, which shows no cameras meanwhile.

    Ends early when `progress`, called with (images done, images in all), answers False. Raises RuntimeError
    when the browser goes away, TimeoutError when it does not draw.
    """
    width, height = even_size(client.camera.image_width, client.camera.image_height)
    wxyz, position, fov = flight(scene, space, frames)
    with cameras_hidden(client):
        for done in range(frames):
            if not progress(done, frames):
                return
            yield client.get_render(
                height, width, wxyz=wxyz[done], position=position[done], fov=fov, timeout=_PATIENCE_S
            )[..., :3]


def webm(images: Iterable[UInt8[np.ndarray, "height width 3"]], fps: int) -> bytes:
    """A film (WebM, VP9) of images of one size, with even sides; empty without images.

    VP9 by libvpx, whose licence is free of conditions on programs, as that of H.264's usual encoder is not.

    Raises MissingExtraError without PyAV.
    """
    av = optional_module("av", "a film", "video")
    file = io.BytesIO()
    with av.open(file, "w", format="webm") as container:
        stream = None
        for image in images:
            if stream is None:
                stream = container.add_stream("libvpx-vp9", rate=fps, options=_QUALITY)
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(frame))
        if stream is None:
            return b""
        container.mux(stream.encode(None))
    return file.getvalue()


def even_size(width: int, height: int) -> tuple[int, int]:
    """A size of this shape for a film: even sides, the longer one at most 1920."""
    scale = min(1.0, _LONGEST_SIDE / max(width, height))
    return max(2, int(width * scale) // 2 * 2), max(2, int(height * scale) // 2 * 2)


@contextlib.contextmanager
def cameras_hidden(client: Any) -> Iterator[None]:
    """Cameras, which a flight along them runs into, are hidden in one browser only.

    viser shows a client its own node in place of the server's of that name.
    """
    own = [
        client.scene.add_frame(name, show_axes=False, visible=False) for name in ("/cameras", "/frame/camera")
    ]
    try:
        yield
    finally:
        for node in own:
            node.remove()
