"""Image Matching Challenge, Phototourism (Jin et al., IJCV 2021): `set_100/images/` with `calibration/`.

`calibration_NAME.h5` holds K, R and T of the image NAME: cam_from_world of a COLMAP model of many more
images, in its own scale, pixel centres at +0.5. A scene is a bag, `sub_set/5bag_000.txt` (10bag, 25bag),
whose lines name its images, or the folder `set_100` for all of them. HDF5 files need h5py, which ManyView
does not install.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from ..errors import InputError, UsageError
from ..geometry.unproject_np import invert_rigid
from .dataset import Dataset
from .image_files import images_in
from .posed_set import PosedSet, posed_set
from .text_files import lines_of

_LAYOUT = (
    "mount_rushmore/set_100/images/NAME.jpg with calibration/calibration_NAME.h5 and sub_set/5bag_000.txt"
)


def fits(place: Path) -> bool:
    """Whether `place` is `set_100` or one of its bags."""
    folder = _set_folder(place)
    return (folder / "images").is_dir() and any((folder / "calibration").glob("calibration_*.h5"))


def read(place: Path) -> PosedSet:
    """The images of a bag or of the whole set. Raises UsageError without h5py."""
    folder = _set_folder(place)
    images = {image.stem: image for image in images_in(folder / "images")}
    names = list(images)
    if place.is_file():
        names = [Path(words[0]).stem for _, words in lines_of(place)]
    absent = [name for name in names if name not in images]
    if absent or not names:
        what = f"lacks the image {absent[0]} of {place.name}" if absent else "holds no images"
        raise InputError(f"{folder / 'images'}: {what}; expected {_LAYOUT}")
    calibration = folder / "calibration"
    intrinsics, poses = zip(*(_calibration(calibration / f"calibration_{name}.h5") for name in names))
    return posed_set(
        folder,
        (images[name] for name in names),
        invert_rigid(np.stack(poses)),
        calibration,
        np.stack(intrinsics),
        unit="units",
        name=_scene_name(folder.resolve().parent.name, place),
    )


def _scene_name(scene: str, place: Path) -> str:
    """ "mount_rushmore/5bag_000", or the scene alone for a whole set."""
    return f"{scene}/{place.stem}" if place.suffix == ".txt" else scene


def _set_folder(place: Path) -> Path:
    return place.parent.parent if place.suffix == ".txt" else place


def _calibration(path: Path) -> tuple[Float64[np.ndarray, "3 3"], Float64[np.ndarray, "3 4"]]:
    """(K, cam_from_world)."""
    try:
        import h5py
    except ImportError as error:
        raise UsageError(
            f"{path.name}: cameras of the Image Matching Challenge are HDF5 files; pip install h5py"
        ) from error
    if not path.is_file():
        raise InputError(f"{path}: is missing; expected {_LAYOUT}")
    try:
        with h5py.File(path, "r") as file:
            k, r, t = (np.asarray(file[name], dtype=np.float64) for name in "KRT")
        return k.reshape(3, 3), np.concatenate([r.reshape(3, 3), t.reshape(3, 1)], axis=1)
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: does not hold K, R and T ({error}); download it again") from error


DATASET = Dataset(
    fits,
    read,
    _LAYOUT,
    places=(("", "*/set_100/sub_set/*.txt"), ("test", "*/set_100/sub_set/*.txt"), ("", "*/set_100")),
    source="Image Matching Challenge 2020 and 2021, Phototourism",
    splits={
        "test8": "british_museum/* florence_cathedral_side/* lincoln_memorial_statue/* milan_cathedral/* "
        "mount_rushmore/* piazza_san_marco/* sagrada_familia/* st_pauls_cathedral/*"
    },
    # mount_rushmore/set_100/sub_set/5bag_000.txt is the scene "mount_rushmore/5bag_000".
    scene_name=lambda path: _scene_name(path.split("/")[0], Path(path)),
)
