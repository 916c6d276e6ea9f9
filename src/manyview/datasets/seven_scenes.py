"""7-Scenes (Shotton et al., CVPR 2013): `frame-000000.color.png`, `.depth.png` and `.pose.txt`.

A pose is a 4x4 world_from_cam matrix of the depth camera in metres; depth is 16-bit millimetres, 0 and
65535 for no measurement. Colour and depth are not registered: as the field does, depth is read as if
it were the colour camera's, which costs some pixels at edges. Depth beyond 10 m, which the sensor cannot
measure, is none, as in pi3's, CUT3R's and FastVGGT's evaluations. Nominal intrinsics f = 585, c = (320, 240).
Where `.depth.proj.png` files lie beside (depth moved into the colour camera, as visual localisation and pi3
use it), they are read instead and f is the colour camera's nominal 525. Meshes of whole scenes, as Depth
Anything 3's benchmark brings them, are `meshes/chess.ply` beside the scenes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from .dataset import Dataset
from .depth_files import DepthFiles
from .image_files import images_in
from .posed_set import PosedSet, posed_set
from .text_files import square_matrix

_LAYOUT = "chess/seq-03/frame-000000.color.png with .depth.png (or .depth.proj.png) and .pose.txt"


def fits(folder: Path) -> bool:
    return any(folder.glob("*.pose.txt"))


def read(folder: Path) -> PosedSet:
    colour = [image for image in images_in(folder) if ".color." in image.name]
    poses = [folder / f"{_stem(image)}.pose.txt" for image in colour]
    if not any(path.is_file() for path in poses):
        raise InputError(f"{folder}: there are poses but no image with one; expected {_LAYOUT}")
    none, scene = np.full((4, 4), np.nan), folder.resolve().parent
    world_from_cam = np.stack([square_matrix(path, 4) if path.is_file() else none for path in poses])[:, :3]
    projected = any(folder.glob("*.depth.proj.png"))
    suffix, focal = ("depth.proj.png", 525.0) if projected else ("depth.png", 585.0)
    depth = (folder / f"{_stem(image)}.{suffix}" for image in colour)
    return posed_set(
        folder,
        colour,
        world_from_cam,
        f"{folder}/*.pose.txt",
        np.array([[focal, 0, 320.0], [0, focal, 240.0], [0, 0, 1]]),
        DepthFiles.existing(depth, 1000.0, invalid=(65535,), farthest=10.0),
        name="-".join(folder.resolve().parts[-2:]).lstrip("/-"),
        lost=~np.isfinite(world_from_cam).all((1, 2)),
        cloud=scene.parent / "meshes" / f"{scene.name}.ply",
    )


def _stem(image: Path) -> str:
    return image.name.removesuffix(f".color{image.suffix}")


DATASET = Dataset(
    fits,
    read,
    _LAYOUT,
    places=(("", "*/seq-*"), ("", "seq-*")),
    source="Microsoft Research, RGB-D Dataset 7-Scenes",
    splits={
        "test": "chess/seq-03 chess/seq-05 fire/seq-03 fire/seq-04 heads/seq-01 office/seq-02 office/seq-06 "
        "office/seq-07 office/seq-09 pumpkin/seq-01 pumpkin/seq-07 redkitchen/seq-03 redkitchen/seq-04 "
        "redkitchen/seq-06 redkitchen/seq-12 redkitchen/seq-14 stairs/seq-01 stairs/seq-04",
        "da3": "chess/seq-01 fire/seq-01 heads/seq-01 office/seq-01 pumpkin/seq-01 redkitchen/seq-01 "
        "stairs/seq-02",
    },
    grouped=True,
)
