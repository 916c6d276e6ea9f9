"""7-Scenes (Shotton et al., CVPR 2013): `frame-000000.color.png`, `.depth.png` and `.pose.txt`.

A pose is a 4x4 world_from_cam matrix of the depth camera in metres; depth is 16-bit millimetres, 0 and
65535 for no measurement. Colour and depth are not registered: as the field does, depth is read as if
it were the colour camera's, which costs some pixels at edges. Nominal intrinsics f = 585, c = (320, 240).
Where `.depth.proj.png` files lie beside (depth moved into the colour camera, as visual localisation and pi3
use it), they are read instead and f is the colour camera's nominal 525.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from .posed_set import DepthFiles, PosedSet, cameras_from_world_from_cam
from .text_files import number_table, pictures_in

FORMAT = "7-scenes"
LOOKS_FOR = "frame-*.color.png with frame-*.pose.txt (one sequence folder of 7-Scenes)"


def fits(folder: Path) -> bool:
    """Whether the folder looks like this format."""
    return any(folder.glob("*.pose.txt"))


def read(folder: Path) -> PosedSet:
    """The sequence in the folder. Raises InputError for a pose that cannot be or none with a picture."""
    colour = {p.name.removesuffix(f".color{p.suffix}"): p for p in pictures_in(folder) if ".color." in p.name}
    stems = [stem for stem in colour if (folder / f"{stem}.pose.txt").is_file()]
    if not stems:
        raise InputError(f"{folder}: there are poses but no picture with one; expected {LOOKS_FOR}")
    tables = []
    for stem in stems:
        path = folder / f"{stem}.pose.txt"
        table = number_table(path, 4)
        if table.shape != (4, 4):
            raise InputError(f"{path}: expected a 4x4 matrix, found {len(table)} lines")
        tables.append(table)
    tracked = [np.isfinite(table).all() for table in tables]
    notes = []
    if len(stems) < len(colour):
        notes.append(f"{len(colour) - len(stems)} pictures without a pose left out")
    if not all(tracked):
        notes.append(f"{len(tracked) - sum(tracked)} frames without a finite pose left out")
    stems = [stem for stem, good in zip(stems, tracked) if good]
    if not stems:
        raise InputError(f"{folder}: not one pose is finite")
    world_from_cam = np.stack([table[:3] for table, good in zip(tables, tracked) if good])
    projected = any(folder.glob("*.depth.proj.png"))
    suffix, focal = ("depth.proj.png", 525.0) if projected else ("depth.png", 585.0)
    depth = tuple(path if (path := folder / f"{stem}.{suffix}").is_file() else None for stem in stems)
    intrinsics = np.array([[focal, 0, 320.0], [0, focal, 240.0], [0, 0, 1]])
    return PosedSet(
        name="-".join(folder.resolve().parts[-2:]).lstrip("/-"),
        format=FORMAT,
        images=tuple(colour[stem] for stem in stems),
        cam_from_world=cameras_from_world_from_cam(world_from_cam, f"{folder}/*.pose.txt"),
        intrinsics=np.repeat(intrinsics[None], len(stems), 0),
        depth=DepthFiles(depth, 1000.0, invalid=(65535,)) if any(depth) else None,
        notes=tuple(notes),
    )
