"""Depth maps of another camera at the same place than the images': of their lens, or of a depth sensor."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float64

from ..errors import InputError
from ..geometry.unproject_np import pixel_grid
from .colmap_model import ColmapCamera
from .depth_files import DepthFiles


@dataclasses.dataclass(frozen=True)
class LensDepth(DepthFiles):
    """Each pixel of an image reads the depth at the place where the depth's camera sees its ray.

    `cameras`: (the image's, without distortion; the depth's), a pair a view.
    """

    cameras: tuple[tuple[ColmapCamera, ColmapCamera], ...] = ()
    most_width: int = 1024
    """Depth is read on a grid of the image's shape at most this wide."""
    _per_view = ("paths", "cameras")

    def read(self, index: int) -> Float64[np.ndarray, "height width"] | None:
        depth, (flat, lens) = super().read(index), self.cameras[index]
        if depth is None:
            return None
        shrink = max(1.0, flat.width / self.most_width)
        width, height = round(flat.width / shrink), round(flat.height / shrink)
        pixels = pixel_grid(height, width) * [flat.width / width, flat.height / height]
        k = flat.intrinsics
        rays = (pixels - k[:2, 2]) / [k[0, 0], k[1, 1]]
        rows, columns = depth.shape
        place = np.floor(distorted_pixels(rays, lens) * [columns / lens.width, rows / lens.height])
        inside = (place >= 0).all(-1) & (place[..., 0] < columns) & (place[..., 1] < rows)
        x, y = (np.where(inside, place[..., axis], 0).astype(int) for axis in (0, 1))
        return np.where(inside, depth[y, x], np.nan)


def distorted_pixels(
    rays: Float64[np.ndarray, "*grid 2"], lens: ColmapCamera
) -> Float64[np.ndarray, "*grid 2"]:
    """Where a pinhole or thin-prism fisheye lens (COLMAP's model) sees the rays (x/z, y/z)."""
    k = lens.intrinsics
    if lens.model == "THIN_PRISM_FISHEYE":
        k1, k2, p1, p2, k3, k4, sx1, sy1 = lens.distortion
        radius = np.linalg.norm(rays, axis=-1, keepdims=True)
        safe = np.maximum(radius, 1e-12)
        bent = np.where(radius > 1e-12, np.arctan(radius) / safe, 1.0) * rays
        u, v = bent[..., 0], bent[..., 1]
        r2 = u * u + v * v
        radial = k1 * r2 + k2 * r2**2 + k3 * r2**3 + k4 * r2**4
        du = u * radial + 2 * p1 * u * v + p2 * (r2 + 2 * u * u) + sx1 * r2
        dv = v * radial + 2 * p2 * u * v + p1 * (r2 + 2 * v * v) + sy1 * r2
        rays = np.stack([u + du, v + dv], -1)
    elif any(lens.distortion):
        raise InputError(f"a lens of the model {lens.model} is not known; expected THIN_PRISM_FISHEYE")
    return rays * [k[0, 0], k[1, 1]] + k[:2, 2]
