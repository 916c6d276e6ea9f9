"""Training scenes from folders of posed RGB-D images.

Any data set with depth that `read_posed_set` reads: 7-Scenes, TUM RGB-D, ScanNet, and others.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64
from PIL import Image

from ..datasets import read_posed_set
from ..datasets.posed_set import PosedSet
from ..errors import UsageError
from ..geometry.unproject import world_points
from ..synthetic import SceneBatch
from .covisibility import covisibility, covisible_views

# Views with less measured depth than this share of their pixels make no scene.
_LEAST_DEPTH = 0.1
_TRIES = 20
_MOST_ZOOM = 10.0
# Formats whose reader gives what the dataset publishes for all of its sequences.
_NOMINAL = ("7-scenes", "tum")


@dataclasses.dataclass(frozen=True)
class PosedFolders:
    """Folders, each one sequence; a scene is a few frames of one of them.

    Neighbouring views lie `step` frames apart, a number drawn from that range (fewer where the sequence
    is short). `ordered` keeps the order in time; otherwise the views are shuffled. `intrinsics` (fx, fy, cx,
    cy; px of the stored images, pixel centres at +0.5) is used for folders without intrinsics of their own:
    also in place of the published calibration of TUM RGB-D and the nominal one of 7-Scenes. With `covisible`
    above zero views are drawn that share at least this part of what they see with another one, whatever
    `step` is. `zoom` cuts images further by a factor drawn once a scene from that range, which
    varies the focal length; `mirror` turns half of the scenes into their mirror images.
    """

    folders: tuple[str, ...]
    step: tuple[int, int] = (1, 15)
    ordered: bool = False
    intrinsics: tuple[float, float, float, float] | None = None
    covisible: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    mirror: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.covisible < 1 or not 1 <= self.zoom[0] <= self.zoom[1] <= _MOST_ZOOM:
            raise UsageError(
                f"posed data needs covisible from 0 to below 1, not {self.covisible}, and a zoom of two "
                f"factors from 1 to {_MOST_ZOOM}, smallest first, not {self.zoom}"
            )
        low, high = self.step
        if not self.folders or not 1 <= low <= high:
            raise UsageError(
                f"posed data needs folders and a step of two counts, smallest first, not {self.step}"
            )

    @classmethod
    def of_photographs(cls, folders: tuple[str, ...]) -> PosedFolders:
        """Sets of photographs: views that see the same places, mirrored at random."""
        return cls(folders, covisible=0.15, mirror=True)


def check_folders(data: PosedFolders, views: int) -> None:
    """Raise UsageError for the first folder that gives no scene of so many views."""
    for folder in data.folders:
        _check_count(folder, len(_opened(folder, data.intrinsics)), views)


def posed_scenes(data: PosedFolders, seeds: Sequence[int], views: int, height: int, width: int) -> SceneBatch:
    """A scene a seed of `views` views at `height` x `width` pixels; lengths in the dataset's unit.

    Images are cropped around their principal point to the shape and resized (antialiased); depth is that of
    the nearest measured pixel, `valid` where there is one. The draw depends on the seed alone.
    Raises UsageError for folders without depth, without intrinsics, or with fewer frames than views.
    """
    scenes = [_scene(data, random.Random(f"posed:{seed}"), views, (height, width)) for seed in seeds]
    joined = {
        field.name: torch.stack([getattr(scene, field.name) for scene in scenes])
        for field in dataclasses.fields(SceneBatch)
        if getattr(scenes[0], field.name) is not None
    }
    return SceneBatch(**joined)


def _scene(data: PosedFolders, draws: random.Random, views: int, size: tuple[int, int]) -> SceneBatch:
    """One scene without the batch dimension."""
    for _ in range(_TRIES):
        folder = draws.choice(data.folders)
        found = _opened(folder, data.intrinsics)
        frames = _frames(data, draws, len(found), views, folder)
        low, high = data.zoom
        scene = _views(found.select(frames), size, low * (high / low) ** draws.random())
        if data.mirror and draws.random() < 0.5:
            scene = _mirrored(scene)
        if float(scene.valid.flatten(1).float().mean(1).min()) >= _LEAST_DEPTH:
            return scene
    raise UsageError(
        f"{folder}: {_TRIES} draws had views with hardly any measured depth; leave the folder out"
    )


@functools.lru_cache(maxsize=256)
def _opened(folder: str, intrinsics: tuple[float, float, float, float] | None) -> PosedSet:
    """The sequence in a folder, those of its frames that have depth, with intrinsics."""
    found = read_posed_set(folder)
    paths = found.depth.paths if found.depth is not None else ()
    found = found.select([i for i, path in enumerate(paths) if path is not None])
    if not len(found):
        raise UsageError(
            f"{folder}: has no depth; training needs RGB-D sequences, or photographs that "
            "`python -m tools.training.photographs` has prepared"
        )
    matrix = None
    if intrinsics is not None and (found.intrinsics is None or found.format in _NOMINAL):
        fx, fy, cx, cy = intrinsics
        matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    elif found.intrinsics is None:
        raise UsageError(
            f"{folder}: has no intrinsics; give fx, fy, cx, cy beside it in the recipe"
            + ("" if found.format != "tum" else ", or keep freiburg1, 2 or 3 in the folder's name")
        )
    if matrix is not None:
        found = dataclasses.replace(found, intrinsics=np.repeat(matrix[None], len(found), 0))
    return found


@functools.lru_cache(maxsize=256)
def _shares(
    folder: str, intrinsics: tuple[float, float, float, float] | None
) -> Float64[np.ndarray, "views views"]:
    return covisibility(_opened(folder, intrinsics))


def _check_count(folder: str, there: int, views: int) -> None:
    if there < views:
        raise UsageError(f"{folder}: has {there} frames with depth, and the recipe asks for {views} views")


def _frames(data: PosedFolders, draws: random.Random, there: int, views: int, folder: str) -> list[int]:
    _check_count(folder, there, views)
    if data.covisible:
        frames = covisible_views(_shares(folder, data.intrinsics), views, data.covisible, draws)
        return sorted(frames) if data.ordered else frames
    most = (there - 1) // max(views - 1, 1)
    step = draws.randint(min(data.step[0], most), min(data.step[1], most))
    first = draws.randrange(there - step * (views - 1))
    frames = [first + step * i for i in range(views)]
    if not data.ordered:
        draws.shuffle(frames)
    return frames


def _views(found: PosedSet, size: tuple[int, int], zoom: float) -> SceneBatch:
    """The frames of a set at `size` (height, width), cut by `zoom`, without the batch dimension."""
    assert found.depth is not None and found.intrinsics is not None
    images, depths, intrinsics = [], [], []
    for index, path in enumerate(found.images):
        with Image.open(path) as image:
            colour = image.convert("RGB")
        box = _box(colour.size, size, found.intrinsics[index], zoom)
        resized = colour.resize((size[1], size[0]), Image.Resampling.BICUBIC, box=box)
        images.append(torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1) / 255)
        depth = found.depth.read(index)
        assert depth is not None
        depths.append(_depth_at(depth, box, colour.size, size))
        scale = np.array([size[1] / (box[2] - box[0]), size[0] / (box[3] - box[1]), 1])[:, None]
        moved = found.intrinsics[index].copy()
        moved[:2, 2] -= box[:2]
        intrinsics.append(torch.from_numpy(moved * scale).float())
    z_depth = torch.stack(depths)
    valid = z_depth.isfinite()
    z_depth = torch.where(valid, z_depth, torch.zeros_like(z_depth))
    cameras = torch.from_numpy(found.cam_from_world)
    # A world may lie far from its origin; single precision is enough around the first camera.
    centre = -(cameras[0, :, :3].T @ cameras[0, :, 3])
    cameras = torch.cat([cameras[..., :3], cameras[..., 3:] + cameras[..., :3] @ centre[:, None]], -1).float()
    matrices = torch.stack(intrinsics)
    points = world_points(z_depth, cameras, matrices)
    points = torch.where(valid[..., None], points, torch.zeros_like(points))
    return SceneBatch(torch.stack(images), z_depth, points, cameras, matrices, valid)


def _mirrored(scene: SceneBatch) -> SceneBatch:
    """The mirror image of a scene without the batch dimension: x changes its sign in images and world."""
    sign = torch.tensor([-1.0, 1.0, 1.0])
    cameras = scene.cam_from_world * sign[:, None]
    cameras = torch.cat([cameras[..., :3] * sign, cameras[..., 3:]], -1)
    intrinsics = scene.intrinsics.clone()
    intrinsics[:, 0, 2] = scene.images.shape[-1] - intrinsics[:, 0, 2]
    return SceneBatch(
        images=scene.images.flip(-1),
        z_depth=scene.z_depth.flip(-1),
        world_points=scene.world_points.flip(-2) * sign,
        cam_from_world=cameras,
        intrinsics=intrinsics,
        valid=scene.valid.flip(-1),
    )


def _box(
    image_size: tuple[int, int], size: tuple[int, int], intrinsics: Float64[np.ndarray, "3 3"], zoom: float
) -> tuple[float, float, float, float]:
    """Largest (left, top, right, bottom) of shape `size` (height, width) around the principal point.

    Its sides are divided by `zoom`. `image_size` is (width, height). A principal point outside the middle
    half counts as the middle.
    """
    half = []
    centre = []
    for length, at in zip(image_size, intrinsics[:2, 2], strict=True):
        inside = 0.25 * length <= at <= 0.75 * length
        centre.append(float(at) if inside else length / 2)
        half.append(min(centre[-1], length - centre[-1]))
    scale = min(half[0] / size[1], half[1] / size[0]) / zoom
    x, y = scale * size[1], scale * size[0]
    # Rounding may lead out of the image by less than a millionth of a pixel, which Pillow refuses.
    return (
        max(centre[0] - x, 0.0),
        max(centre[1] - y, 0.0),
        min(centre[0] + x, float(image_size[0])),
        min(centre[1] + y, float(image_size[1])),
    )


def _depth_at(
    depth: Float64[np.ndarray, "depth_height depth_width"],
    box: tuple[float, float, float, float],
    image_size: tuple[int, int],
    size: tuple[int, int],
) -> Float[torch.Tensor, "height width"]:
    """Depth of the pixels nearest to the centres of the resized image's; depth maps may be smaller."""
    index = []
    for axis, low, high, count in ((0, box[1], box[3], size[0]), (1, box[0], box[2], size[1])):
        at = low + (np.arange(count) + 0.5) * (high - low) / count
        at = at * depth.shape[axis] / image_size[1 - axis]
        index.append(np.floor(at).astype(int).clip(0, depth.shape[axis] - 1))
    return torch.from_numpy(depth[np.ix_(*index)]).float()
