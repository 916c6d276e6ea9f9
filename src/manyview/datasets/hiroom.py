"""HiRoom, rendered rooms of DA3-BENCH (Depth Anything 3): `data/SCENE/{image,depth,pose,aliasing_mask}/`.

A scene is three folders deep. `pose/FRAME.npy` is a 4x4 cam_from_world matrix in metres (OpenCV axes),
`cam_K.npy` the intrinsics of all frames (taken for pixel centres at whole numbers), `depth/FRAME.png` 16 bit
for 0 to 100 m, which does not count where `aliasing_mask/FRAME.png` is above zero. Frames are in the order of
their names, as text. `fused_pcd/NAME.ply` beside `data/` are the points of the room, NAME the three folders
joined by "-"; where `selected_scene_list_val.txt` lies there, its scenes are the test set. Of the layout the
benchmark's reader is known, not a download.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from ..errors import InputError
from ..geometry.unproject_np import invert_rigid
from .dataset import Dataset
from .depth_files import MaskedDepth
from .image_files import some_images_in
from .posed_set import PosedSet, posed_set
from .text_files import half_pixel_centres, lines_of

_LAYOUT = (
    "data/A/B/C/image/FRAME.jpg with depth/FRAME.png, pose/FRAME.npy, aliasing_mask/FRAME.png and cam_K.npy, "
    "and fused_pcd/A-B-C.ply"
)
_PER_METRE = 65535 / 100


def fits(folder: Path) -> bool:
    return (folder / "image").is_dir() and any((folder / "pose").glob("*.npy"))


def read(folder: Path) -> PosedSet:
    images = sorted(some_images_in(folder, ("image",), _LAYOUT), key=lambda image: image.name)
    poses = [folder / "pose" / f"{image.stem}.npy" for image in images]
    known = np.array([path.is_file() for path in poses])
    cam_from_world = np.stack([_matrix(p, (4, 4))[:3] if p.is_file() else np.eye(3, 4) for p in poses])
    masks = (folder / "aliasing_mask" / f"{image.stem}.png" for image in images)
    name = "-".join(folder.resolve().parts[-3:])
    return posed_set(
        folder,
        images,
        invert_rigid(cam_from_world),
        folder / "pose",
        half_pixel_centres(_matrix(folder / "cam_K.npy", (3, 3))),
        MaskedDepth.existing(
            (folder / "depth" / f"{image.stem}.png" for image in images),
            _PER_METRE,
            masks=tuple(mask if mask.is_file() else None for mask in masks),
            excluded=True,
        ),
        cloud=_root(folder) / "fused_pcd" / f"{name}.ply",
        name=name,
        lost=~known,
    )


def _root(folder: Path) -> Path:
    """What `data/` lies in."""
    parents = folder.resolve().parents
    return parents[min(3, len(parents) - 1)]


def _matrix(path: Path, shape: tuple[int, int]) -> Float64[np.ndarray, "rows columns"]:
    if not path.is_file():
        raise InputError(f"{path}: is missing; expected {_LAYOUT}")
    try:
        matrix = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as an array ({error}); copy it again") from error
    if matrix.shape != shape or matrix.dtype.kind not in "iuf":
        raise InputError(f"{path}: expected a {shape[0]}x{shape[1]} matrix of numbers; copy it again")
    return matrix.astype(np.float64)


def _in_test_set(folder: Path) -> bool:
    path = _root(folder) / "selected_scene_list_val.txt"
    if not path.is_file():
        return True
    return "/".join(folder.resolve().parts[-3:]) in {words[0].strip("/") for _, words in lines_of(path)}


DATASET = Dataset(
    fits,
    read,
    _LAYOUT,
    places=(("data", "*/*/*"), ("hiroom/data", "*/*/*")),
    source="DA3-BENCH, HiRoom",
    in_test_set=_in_test_set,
)
