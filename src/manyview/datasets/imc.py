"""Image Matching Challenge, Phototourism (Jin et al., IJCV 2021): `set_100/images/` with `calibration/`.

`calibration_NAME.h5` holds K, R and T of the picture NAME: cam_from_world of a COLMAP model of many more
pictures, in its own scale, pixel centres at +0.5. A scene is a bag, `sub_set/5bag_000.txt` (10bag, 25bag),
whose lines name its pictures, or the folder `set_100` for all of them. HDF5 files need h5py, which ManyView
does not install.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from ..errors import InputError, UsageError
from ..geometry.unproject_np import invert_rigid
from .posed_set import PosedSet, cameras_from_world_from_cam
from .text_files import lines_of, pictures_in

FORMAT = "imc"
LOOKS_FOR = "SCENE/set_100/images/NAME.jpg with calibration/calibration_NAME.h5 (and sub_set/5bag_000.txt)"


def fits(place: Path) -> bool:
    """Whether this is `set_100` or one of its bags."""
    folder = _set_folder(place)
    return (folder / "images").is_dir() and any((folder / "calibration").glob("calibration_*.h5"))


def read(place: Path) -> PosedSet:
    """The pictures of a bag or of the whole set. InputError for one that is not there or has no calibration;
    UsageError without h5py."""
    folder = _set_folder(place)
    pictures = {picture.stem: picture for picture in pictures_in(folder / "images")}
    names = list(pictures)
    if place.is_file():
        names = [Path(words[0]).stem for _, words in lines_of(place)]
    absent = [name for name in names if name not in pictures]
    if absent or not names:
        what = f"lacks the picture {absent[0]} of {place.name}" if absent else "holds no pictures"
        raise InputError(f"{folder / 'images'}: {what}; expected {LOOKS_FOR}")
    cameras = [_calibration(folder / "calibration" / f"calibration_{name}.h5") for name in names]
    world_from_cam = invert_rigid(np.stack([pose for _, pose in cameras]))
    return PosedSet(
        name=scene_name(folder.resolve().parent.name, place),
        format=FORMAT,
        images=tuple(pictures[name] for name in names),
        cam_from_world=cameras_from_world_from_cam(world_from_cam, str(folder / "calibration")),
        intrinsics=np.stack([intrinsics for intrinsics, _ in cameras]),
        unit="units",
    )


def scene_name(scene: str, place: Path) -> str:
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
        raise InputError(f"{path}: is missing; expected {LOOKS_FOR}")
    try:
        with h5py.File(path, "r") as file:
            k, r, t = (np.asarray(file[name], dtype=np.float64) for name in "KRT")
        return k.reshape(3, 3), np.concatenate([r.reshape(3, 3), t.reshape(3, 1)], axis=1)
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: does not hold K, R and T ({error}); download it again") from error
