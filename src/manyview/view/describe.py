"""What the panel says about a scene and a frame, and the images of a frame."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from ..export.images import confidence_image, depth_image
from ..files.naming import counted, enumerated
from ..reconstruction.result.result import Reconstruction
from .cameras import unpadded, unrefined_views


def headline(scene: Reconstruction) -> str:
    """What the page shows, and the verdict on it, in a few lines of Markdown."""
    line = f"**{counted(len(scene), 'frame')}** of {scene.width} × {scene.height} pixels"
    if scene.refinement is not None:
        line += f"\n\n{_refined(scene)}"
    if scene.quality is None or scene.quality.get("grade") is None:
        return line
    return f"{line}\n\nQuality: **{scene.quality['grade']}**\n\n{_code(str(scene.quality.get('sentence')))}"


def frame_label(scene: Reconstruction, index: int) -> str:
    """The name of a frame, and whether its camera was left as the network had it."""
    left = unrefined_views(scene)[index]
    return _code(scene.names[index]) + (" **(grey: its camera was not refined)**" if left else "")


def frame_image(scene: Reconstruction, index: int, show_as: str) -> UInt8[np.ndarray, "height width 3"]:
    """A frame without padding: its image, depth (near is bright) or confidence."""
    if show_as == "image":
        return unpadded(scene, index)
    left, top, right, bottom = scene.views[index].transform.content_box
    valid = scene.view_valid(index)
    if show_as == "depth":
        image = depth_image(scene.z_depth[index], valid, unknown=0)
    else:
        image = confidence_image(scene.depth_conf[index], valid, unknown=0)
    return image[top:bottom, left:right]


def beside_white(
    image: UInt8[np.ndarray, "height width 3"],
) -> UInt8[np.ndarray, "height padded 3"]:
    """The image with white at its sides where it is taller than 3:4, which would push the panel away."""
    missing = max(0, round(4 / 3 * image.shape[0]) - image.shape[1])
    sides = ((0, 0), (missing // 2, missing - missing // 2), (0, 0))
    return np.pad(image, sides, constant_values=255)


def _refined(scene: Reconstruction) -> str:
    assert scene.refinement is not None
    if not scene.refinement.get("accepted"):
        return "Cameras: **not refined**"
    left = np.flatnonzero(unrefined_views(scene))
    if not len(left):
        return "Cameras: **refined**"
    names = enumerated([scene.names[index] for index in left])
    return (
        f"Cameras: **refined, but for {len(left)} (grey)**, which are the network's, moved as their nearest "
        f"refined neighbours were: {_code(names)}"
    )


def _code(text: str) -> str:
    """As code: names may hold characters that Markdown would read as mark-up."""
    return f"`{text.replace('`', chr(39))}`"
