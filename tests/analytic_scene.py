"""A room seen from inside with a box in it: exact depth, exact cameras, colours that depend on the place.

The walls form a convex room, so every wall point is seen by every camera that looks at it unless the box
hides it: depth is exactly consistent between views, and occlusion occurs.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from manyview.geometry.unproject_np import invert_rigid, pixel_grid, unproject
from manyview.reconstruction.inputs.views import ViewRecord, ViewTransform
from manyview.reconstruction.result.result import Reconstruction

ROOM = (np.array([-3.0, -2.0, -3.0]), np.array([3.0, 1.5, 4.0]))
WAVES = np.random.default_rng(1).normal(0, 40, (3, 8))
BOX = (np.array([-0.6, 0.3, 1.0]), np.array([0.7, 1.5, 2.2]))


def look_at(position: np.ndarray, target: np.ndarray) -> np.ndarray:
    """cam_from_world of a camera at `position` that looks at `target`, world y pointing down."""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(np.array([0.0, 1.0, 0.0]), forward)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return np.concatenate([rotation, -(rotation @ position)[:, None]], axis=1)


def cast(
    cam_from_world: np.ndarray, intrinsics: np.ndarray, pixels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """z-depth and RGB (uint8) along the rays through `pixels` [n, 2] (centres at +0.5)."""
    world_from_cam = invert_rigid(cam_from_world)
    rays = np.column_stack([(pixels - intrinsics[:2, 2]) / intrinsics[[0, 1], [0, 1]], np.ones(len(pixels))])
    direction, origin = rays @ world_from_cam[:, :3].T, world_from_cam[:, 3]
    with np.errstate(divide="ignore"):
        _, z = _slabs(origin, direction, ROOM)
        enter, leave = _slabs(origin, direction, BOX)
    hit = (enter < leave) & (enter > 0)
    z = np.where(hit, enter, z)
    points = origin + direction * z[:, None]
    # Smooth, so that sampling one ray per pixel does not alias.
    waves = np.sin(points @ WAVES + np.arange(WAVES.shape[1])).sum(-1, keepdims=True)
    colour = 120 + 40 * np.sin(points * 1.7) + 18 * waves - 35 * hit[:, None]
    return z, np.clip(colour, 0, 255).astype(np.uint8)


def _slabs(origin: np.ndarray, direction: np.ndarray, box: tuple[np.ndarray, np.ndarray]) -> tuple:
    first, second = ((side - origin) / direction for side in box)
    return np.minimum(first, second).max(-1), np.maximum(first, second).min(-1)


def fit_transform(upright: tuple[int, int], network: tuple[int, int], orientation: int = 1) -> ViewTransform:
    """The whole picture on the whole network image; sizes are (width, height)."""
    (uw, uh), (nw, nh) = upright, network
    return _transform(upright, network, orientation, nw / uw, nh / uh, 0.0, 0.0, (0, 0, nw, nh))


def crop_transform(upright: tuple[int, int], network: tuple[int, int], orientation: int = 1) -> ViewTransform:
    """Widths agree, the height is cut at the top and at the bottom."""
    (uw, uh), (nw, nh) = upright, network
    resized = round(uh * nw / uw) + 1
    return _transform(
        upright, network, orientation, nw / uw, resized / uh, 0.0, -float((resized - nh) // 2), (0, 0, nw, nh)
    )


def pad_transform(upright: tuple[int, int], network: tuple[int, int], orientation: int = 1) -> ViewTransform:
    """Heights agree, the sides are filled up or cut."""
    (uw, uh), (nw, nh) = upright, network
    resized = round(uw * nh / uh)
    left = (nw - resized) // 2
    box = (max(0, left), 0, min(left + resized, nw), nh)
    return _transform(upright, network, orientation, resized / uw, nh / uh, float(left), 0.0, box)


def _transform(upright, network, orientation, sx, sy, ox, oy, box) -> ViewTransform:  # type: ignore[no-untyped-def]
    stored = upright if orientation <= 4 else upright[::-1]
    return ViewTransform(*stored, orientation, *upright, *network, sx, sy, ox, oy, box)


@dataclasses.dataclass(frozen=True)
class Truth:
    """The exact scene behind a `Reconstruction`, at source resolution."""

    upright_intrinsics: np.ndarray
    cam_from_world: np.ndarray
    transforms: list[ViewTransform]

    def upright_image(self, index: int) -> np.ndarray:
        """The source picture of a view, upright, RGB."""
        transform = self.transforms[index]
        pixels = pixel_grid(transform.upright_height, transform.upright_width)
        picture = cast(self.cam_from_world[index], self.upright_intrinsics[index], pixels.reshape(-1, 2))[1]
        return picture.reshape(*pixels.shape[:2], 3)

    def surface(self, index: int, upright_pixels: np.ndarray) -> np.ndarray:
        """The true world points seen at pixels [n, 2] of the upright source picture."""
        camera, matrix = self.cam_from_world[index], self.upright_intrinsics[index]
        z, _ = cast(camera, matrix, upright_pixels)
        return unproject(upright_pixels, z, camera, matrix)


def room_scene(
    transforms: list[ViewTransform] | None = None,
    names: list[str] | None = None,
    views: int = 6,
    pixel_centres: str = "half",
    noise: float = 0.0,
) -> tuple[Reconstruction, Truth]:
    """Views of the room through the given transforms (default: whole 320x240 pictures on 56x42 pixels)."""
    transforms = transforms or [fit_transform((320, 240), (56, 42))] * views
    names = names or [f"view_{index}.png" for index in range(len(transforms))]
    rng = np.random.default_rng(7)
    cameras, intrinsics, upright, images, depths = [], [], [], [], []
    for index, transform in enumerate(transforms):
        angle = 0.35 * (index - len(transforms) / 2)
        position = np.array([1.8 * np.sin(angle), -0.4 + 0.1 * index, -2.0 + 0.4 * np.cos(angle)])
        cameras.append(look_at(position, np.array([0.1, 0.4, 2.0])))
        focal = 0.9 * max(transform.upright_width, transform.upright_height)
        upright.append(
            np.array(
                [
                    [focal, 0, transform.upright_width / 2],
                    [0, focal * 1.02, transform.upright_height / 2],
                    [0, 0, 1.0],
                ]
            )
        )
        intrinsics.append(transform.network_from_upright @ upright[-1])
        height, width = transform.network_height, transform.network_width
        z, colour = cast(cameras[-1], intrinsics[-1], pixel_grid(height, width).reshape(-1, 2))
        z = z * np.exp(noise * rng.standard_normal(len(z)))
        outside = ~transform.content_mask()
        images.append(np.where(outside[..., None], 255, colour.reshape(height, width, 3)).astype(np.uint8))
        depths.append(z.reshape(height, width))  # on padding, too: only the mask says that it is none
    z_depth = np.stack(depths).astype(np.float32)
    scene = Reconstruction(
        images=np.stack(images),
        cam_from_world=np.stack(cameras),
        intrinsics=np.stack(intrinsics),
        z_depth=z_depth,
        depth_conf=(1 + 10 * rng.random(z_depth.shape)).astype(np.float32),
        views=tuple(ViewRecord(n, f"/nowhere/{n}", t) for n, t in zip(names, transforms)),
        settings={"model": "analytic", "size": {"width": transforms[0].network_width}},
        timings_s={"load": 0.5, "preprocess": 0.25, "forward": 2.0},
        memory_bytes={"weights": 12_000_000, "forward": 96_000_000},
        notes=("a note",),
        pixel_centres=pixel_centres,
    )
    return scene, Truth(np.stack(upright), np.stack(cameras), list(transforms))


def array_hashes(scene: Reconstruction) -> dict[str, str]:
    """Hash of the bytes of every array, and of everything else."""
    result: dict[str, str] = {"rest": repr((scene.views, scene.settings, scene.timings_s, scene.notes))}
    for name in ("images", "cam_from_world", "intrinsics", "z_depth", "depth_conf"):
        result[name] = hashlib.sha256(getattr(scene, name).tobytes()).hexdigest()
    return result


_STORED_FROM_UPRIGHT = {
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}


def write_sources(scene: Reconstruction, truth: Truth, folder: Path) -> Reconstruction:
    """Write the pictures the views came from, turned and tagged as their orientation says."""
    records = []
    for index, view in enumerate(scene.views):
        path = folder / view.name
        path.parent.mkdir(parents=True, exist_ok=True)
        orientation = view.transform.orientation
        picture = Image.fromarray(truth.upright_image(index))
        exif = Image.Exif()
        if orientation != 1:
            picture = picture.transpose(_STORED_FROM_UPRIGHT[orientation])
            exif[0x0112] = orientation
        picture.save(path, exif=exif, quality=95)
        records.append(dataclasses.replace(view, source=str(path)))
    return dataclasses.replace(scene, views=tuple(records))
