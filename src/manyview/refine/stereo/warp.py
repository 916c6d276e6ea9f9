"""Where the pixels of one view lie in others, at given inverse depths."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor
from torch.nn import functional as F

from ...geometry.unproject_np import pixel_grid, undistort
from ...reconstruction.result.result import Reconstruction


@dataclasses.dataclass(frozen=True, eq=False)
class Cameras:
    """Cameras of all views, for images of any size: intrinsics are relative to width and height.

    `boxes` (left, top, right, bottom), relative too, show the image; what lies outside is padding.
    """

    cam_from_world: Float64[np.ndarray, "views 3 4"]
    intrinsics: Float64[np.ndarray, "views 3 3"]
    distortion: Float64[np.ndarray, "views 4"] | None
    boxes: Float64[np.ndarray, "views 4"]

    @classmethod
    def of(cls, scene: Reconstruction) -> Cameras:
        """Those of a result."""
        size = np.array([scene.width, scene.height, 1.0])
        boxes = np.array([view.transform.content_box for view in scene.views], dtype=np.float64)
        relative = scene.intrinsics / size[:, None]
        return cls(scene.cam_from_world, relative, scene.distortion, boxes / size[[0, 1, 0, 1]])

    def rays(self, view: int, height: int, width: int) -> Float64[np.ndarray, "height width 3"]:
        """(x / z, y / z, 1) of every pixel of a view, without distortion."""
        matrix = self.intrinsics[view]
        pixels = pixel_grid(height, width).reshape(-1, 2) / (width, height)
        rays = (pixels - matrix[:2, 2]) / matrix[[0, 1], [0, 1]]
        if self.distortion is not None:
            rays = undistort(rays, self.distortion[view])
        return np.concatenate([rays, np.ones_like(rays[:, :1])], axis=-1).reshape(height, width, 3)


@dataclasses.dataclass(frozen=True, eq=False)
class Lenses:
    """Projection of some views on a device, to places that run from -1 to 1 over their images."""

    focal: Float[Tensor, "n 2 1 1"]
    centre: Float[Tensor, "n 2 1 1"]
    distortion: Float[Tensor, "n 4 1 1"] | None
    box: Float[Tensor, "n 4 1 1"]

    @classmethod
    def of(cls, cameras: Cameras, views: Int[np.ndarray, " n"], device: torch.device) -> Lenses:
        """The lenses of these views."""
        matrix, lens = cameras.intrinsics[views], cameras.distortion
        return cls(
            column(2 * matrix[:, [0, 1], [0, 1]], device),
            column(2 * matrix[:, :2, 2] - 1, device),
            None if lens is None else column(lens[views], device),
            column(2 * cameras.boxes[views] - 1, device),
        )

    def only(self, views: slice) -> Lenses:
        """Some of them."""
        lens = self.distortion
        return Lenses(
            self.focal[views], self.centre[views], None if lens is None else lens[views], self.box[views]
        )

    def __call__(
        self, points: Float[Tensor, "n 3 height width"]
    ) -> tuple[Float[Tensor, "n height width 2"], Bool[Tensor, "n height width"]]:
        """(places x, y of points in camera axes; whether that is in front and in the image)."""
        z = points[:, 2:]
        places = points[:, :2] / z
        if self.distortion is not None:
            places = _distort(places, self.distortion)
        places = places * self.focal + self.centre
        left, top, right, bottom = self.box.unbind(1)
        x, y = places.unbind(1)
        inside = (z[:, 0] > 0) & (x > left) & (x < right) & (y > top) & (y < bottom)
        return torch.stack([x, y], dim=-1), inside


@dataclasses.dataclass(frozen=True, eq=False)
class Warp:
    """From the pixels of one view to others: a pixel of inverse depth w is the point `turned` + w `shift` in
    the camera axes of another view, scaled by w."""

    turned: Float[Tensor, "others 3 height width"]
    shift: Float[Tensor, "others 3 1 1"]
    rotation: Float[Tensor, "others 3 3"]
    lenses: Lenses

    @classmethod
    def between(
        cls,
        cameras: Cameras,
        view: int,
        others: Int[np.ndarray, " others"],
        height: int,
        width: int,
        device: torch.device,
    ) -> Warp:
        """The warp of the pixels of a view at a size; relative poses are composed in float64."""
        own, theirs = cameras.cam_from_world[view], cameras.cam_from_world[others]
        rotation = theirs[:, :, :3] @ own[:, :3].T
        shift = theirs[:, :, 3] - rotation @ own[:, 3]
        turned = np.moveaxis(
            cameras.rays(view, height, width) @ np.swapaxes(rotation, -1, -2)[:, None], -1, 1
        )
        return cls(
            tensor(turned, device),
            column(shift, device),
            tensor(rotation, device),
            Lenses.of(cameras, others, device),
        )

    def points(self, inverse_depth: Float[Tensor, " *#size"]) -> Float[Tensor, "others 3 height width"]:
        """The points, scaled by inverse depth."""
        return self.turned + self.shift * inverse_depth

    def back(self, points: Float[Tensor, "others 3 height width"]) -> Float[Tensor, "others 3 height width"]:
        """Points (not scaled) from the other cameras' axes to the view's own."""
        return torch.einsum("nji,njhw->nihw", self.rotation, points - self.shift)

    def only(self, other: int) -> Warp:
        """The warp to one of the others."""
        one = slice(other, other + 1)
        return Warp(self.turned[one], self.shift[one], self.rotation[one], self.lenses.only(one))

    def rows(self, part: slice) -> Warp:
        """The warp of some rows of pixels."""
        return dataclasses.replace(self, turned=self.turned[:, :, part])


def tensor(array: np.ndarray, device: torch.device) -> Tensor:
    """float32 on a device."""
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(device)


def column(array: np.ndarray, device: torch.device) -> Tensor:
    """`tensor` with axes for rows and columns of pixels at its end."""
    return tensor(array, device)[..., None, None]


def _distort(
    rays: Float[Tensor, "others 2 height width"], distortion: Float[Tensor, "others 4 1 1"]
) -> Float[Tensor, "others 2 height width"]:
    """`geometry.unproject_np.distort` for planes of x and y."""
    x, y = rays.unbind(1)
    k1, k2, p1, p2 = distortion.unbind(1)
    squared = x * x + y * y
    radial = 1 + squared * (k1 + squared * k2)
    moved_x = x * radial + 2 * p1 * x * y + p2 * (squared + 2 * x * x)
    moved_y = y * radial + p1 * (squared + 2 * y * y) + 2 * p2 * x * y
    return torch.stack([moved_x, moved_y], dim=1)


def sample(
    maps: Float[Tensor, "others height width"], places: Float[Tensor, "others rows columns 2"]
) -> Float[Tensor, "others rows columns"]:
    """Values of one map for each other view, bilinear."""
    found: Tensor = F.grid_sample(maps[:, None], places, padding_mode="border", align_corners=False)
    return found[:, 0]
