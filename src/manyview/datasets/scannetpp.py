"""ScanNet++ (Yeshwanth et al., ICCV 2023): images of an iPhone or a DSLR with COLMAP models in metres.

Of a scene the first is read that is there: DA3-BENCH's `merge_dslr_iphone/` (the iPhone's images, in the
order of their names; `render_depth/NAME.png`), the official `iphone/` (`rgb/` of the images in `colmap/`,
`depth/` of its sensor) or `dslr/` (`resized_images/`, fisheye; depth where the toolkit has rendered
`render_depth/`). Depth is 16-bit millimetres in the pixels of the raw images, of any size. Images are raw:
intrinsics are the lens's without its distortion. `scans/mesh_aligned_0.05.ply` is the mesh.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from .colmap import model_set
from .colmap_model import model_folder, read_views, views_with_images
from .dataset import Dataset
from .depth_files import DepthFiles
from .posed_set import PosedSet

_LAYOUT = (
    "data/09c1414f1b/iphone/{rgb,depth,colmap}/ (or merge_dslr_iphone/{images,render_depth,"
    "colmap/sparse_render_rgb}/, or dslr/{resized_images,colmap}/) and scans/mesh_aligned_0.05.ply"
)
# COLMAP model, images, depth, and what the names of images must contain.
_PARTS = (
    ("merge_dslr_iphone/colmap/sparse_render_rgb", "merge_dslr_iphone/images", "render_depth", "iphone"),
    ("iphone/colmap", "iphone/rgb", "depth", ""),
    ("dslr/colmap", "dslr/resized_images", "render_depth", ""),
)


def fits(folder: Path) -> bool:
    return any(model_folder(folder, (model,)) is not None for model, _, _, _ in _PARTS)


def read(folder: Path) -> PosedSet:
    for model, images, depth, word in _PARTS:
        place = model_folder(folder, (model,))
        if place is None:
            continue
        views = [view for view in read_views(place) if word in view[0].name]
        there = sorted(views_with_images(views, folder / images, place), key=lambda view: view[1].name)
        if not there:
            raise InputError(f"{folder / images}: none of the {len(views)} images of {place} is there")
        maps = (folder / images).parent / depth
        depths = DepthFiles.existing((maps / f"{path.stem}.png" for path, _, _ in there), 1000.0)
        cloud = folder / "scans" / "mesh_aligned_0.05.ply"
        return model_set(folder, place, len(views), there, depth=depths, cloud=cloud)
    raise InputError(f"{folder}: holds no COLMAP model; expected {_LAYOUT}")


DATASET = Dataset(
    fits,
    read,
    _LAYOUT,
    places=(("data", "*"), ("", "*")),
    source="ScanNet++, or DA3-BENCH's part of it",
    splits={
        "da3": "09c1414f1b 1ada7a0617 40aec5fffa 3e8bba0176 acd95847c5 578511c8a9 5f99900f09 c4c04e6d6c "
        "f3d64c30f8 7bc286c1b6 c5439f4607 286b55a2bf fb5a96b1a2 7831862f02 38d58a7a31 bde1e479ad 9071e139d9 "
        "21d970d8de bcd2436daf cc5237fd77"
    },
)
