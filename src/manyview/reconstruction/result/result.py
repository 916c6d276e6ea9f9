"""`Reconstruction`: what a run gives back. Cameras, depth, confidence, and where every view came from.

Conventions: OpenCV axes; `cam_from_world` maps world points into a camera; intrinsics are in pixels of
the network images with pixel centres at +0.5; depth is z-depth in the (arbitrary) unit of the cameras.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import posixpath
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, UInt8

from ...errors import ManyViewError
from ...geometry.unproject_np import PIXEL_CENTRES, invert_rigid, pixel_grid, unproject
from ..inputs.views import ViewRecord

if TYPE_CHECKING:
    from .points import PointCloud


@dataclasses.dataclass(frozen=True, eq=False)
class Reconstruction:
    """Cameras and depth of a set of views.

    The arrays are checked when the object is made and read-only afterwards (copy one to change it).
    Raises ValueError for a wrong shape or type, ManyViewError for a camera that is not one (not
    finite, not a rotation, no positive focal length), naming the view.

    Attributes:
        images: RGB as the network saw it.
        cam_from_world: [R | t], one per view.
        intrinsics: fx, fy, cx, cy in pixels of `images`.
        z_depth: may be non-finite or not positive where the model has no answer (see `valid`).
        depth_conf: the model's raw confidence; only its order is meaningful across models.
        views: names, sources and transforms, in the order of the arrays.
        settings: everything that decides the numbers above, as JSON types.
        timings_s: seconds by stage; "forward: encoder" is a part of "forward", all else is disjoint.
        memory_bytes: by stage; "measured peak", if there, is the peak of the whole run.
        notes: what the user should know about this run.
        pixel_centres: "half" casts depth along pixel centres; "integer" along integer pixel indices,
            half a pixel off, which is what upstream VGGT does.
        head_points, head_points_conf: world points of the point head, if it ran.
        receipt: what the plan saved and changed beside dense attention on a sample of the views, as JSON
            types (see `receipt.Receipt`), if it was asked for.
    """

    images: UInt8[np.ndarray, "views height width 3"]
    cam_from_world: Float64[np.ndarray, "views 3 4"]
    intrinsics: Float64[np.ndarray, "views 3 3"]
    z_depth: Float32[np.ndarray, "views height width"]
    depth_conf: Float32[np.ndarray, "views height width"]
    views: tuple[ViewRecord, ...]
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    timings_s: dict[str, float] = dataclasses.field(default_factory=dict)
    memory_bytes: dict[str, int] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    pixel_centres: str = "half"
    head_points: Float32[np.ndarray, "views height width 3"] | None = None
    head_points_conf: Float32[np.ndarray, "views height width"] | None = None
    receipt: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        _check_arrays(self)
        _check_views(self.views, self.height, self.width)
        _check_cameras(self.cam_from_world, self.intrinsics, self.names)
        if self.pixel_centres not in PIXEL_CENTRES:
            raise ValueError(f"pixel_centres must be 'half' or 'integer', not {self.pixel_centres!r}")
        try:
            plain = [self.settings, self.timings_s, self.memory_bytes, self.notes, self.receipt]
            json.dumps(plain, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"settings, timings, memory, notes and receipt must be plain JSON values: {error}"
            ) from error
        for name in ARRAY_FIELDS:
            array = getattr(self, name)
            if array is not None:
                view = array.view()
                view.flags.writeable = False
                object.__setattr__(self, name, view)

    def __len__(self) -> int:
        return len(self.views)

    def __repr__(self) -> str:
        return (
            f"Reconstruction({len(self)} views of {self.width}x{self.height}, settings {self.settings_hash})"
        )

    @property
    def height(self) -> int:
        """Height of the network images in pixels."""
        return int(self.images.shape[1])

    @property
    def width(self) -> int:
        """Width of the network images in pixels."""
        return int(self.images.shape[2])

    @property
    def names(self) -> tuple[str, ...]:
        """Unique name of each view, relative to the input folder."""
        return tuple(view.name for view in self.views)

    @property
    def total_time_s(self) -> float:
        """Seconds of all stages together, parts ("forward: encoder") not counted twice."""
        return sum(seconds for stage, seconds in self.timings_s.items() if ": " not in stage)

    @property
    def peak_memory_bytes(self) -> int:
        """The measured peak, or the largest stage if that is all there is; 0 if nothing was recorded."""
        return self.memory_bytes.get("measured peak", max(self.memory_bytes.values(), default=0))

    @property
    def settings_hash(self) -> str:
        """16 hex digits that change when any setting does."""
        return hash_settings(self.settings)

    @property
    def world_from_cam(self) -> Float64[np.ndarray, "views 3 4"]:
        """Inverse of `cam_from_world`; its last column holds the camera centres."""
        return invert_rigid(self.cam_from_world)

    @property
    def upright_intrinsics(self) -> Float64[np.ndarray, "views 3 3"]:
        """Intrinsics in pixels of the upright source pictures, at their original resolution."""
        pairs = zip(self.views, self.intrinsics, strict=True)
        return np.stack([view.transform.upright_intrinsics(matrix) for view, matrix in pairs])

    @property
    def valid(self) -> Bool[np.ndarray, "views height width"]:
        """True where the pixel shows the picture (not padding) and has finite, positive depth."""
        return np.stack([self.view_valid(index) for index in range(len(self))])

    def view_valid(self, index: int) -> Bool[np.ndarray, "height width"]:
        """`valid` of one view."""
        depth, conf = self.z_depth[index], self.depth_conf[index]
        usable = np.isfinite(depth) & (depth > 0) & np.isfinite(conf)
        return usable & self.views[index].transform.content_mask()

    @property
    def world_points(self) -> Float32[np.ndarray, "views height width 3"]:
        """World point of every pixel, from depth and cameras (meaningless where `valid` is False)."""
        result = np.empty((*self.z_depth.shape, 3), dtype=np.float32)
        for index in range(len(self)):
            result[index] = self.view_points(index)
        return result

    def view_points(self, index: int) -> Float32[np.ndarray, "height width 3"]:
        """`world_points` of one view."""
        with np.errstate(over="ignore", invalid="ignore"):  # depth may be infinite where it is not valid
            points = unproject(
                pixel_grid(self.height, self.width).reshape(-1, 2),
                self.z_depth[index].reshape(-1),
                self.cam_from_world[index],
                self.intrinsics[index],
                self.pixel_centres,
            )
            return points.reshape(self.height, self.width, 3).astype(np.float32)

    def confidence_threshold(self, percentile: float) -> float:
        """The confidence that `percentile` percent of all valid pixels stay below (inf if none is valid)."""
        from .points import confidence_threshold

        return confidence_threshold(self, percentile)

    def point_cloud(
        self,
        min_conf_percentile: float = 50.0,
        max_points: int | None = None,
        *,
        source: str = "depth",
        drop_edges: float | None = None,
        seed: int = 0,
    ) -> PointCloud:
        """The confident pixels of all views as coloured world points; see `pointcloud.point_cloud`."""
        from .points import point_cloud

        return point_cloud(
            self, min_conf_percentile, max_points, source=source, drop_edges=drop_edges, seed=seed
        )

    @property
    def picture_names(self) -> tuple[str, ...]:
        """File names under which `write_pictures` writes the source pictures."""
        from ..inputs.source_images import picture_names

        return picture_names(self.views)

    def pictures_size(self) -> int:
        """About how many bytes `write_pictures` writes."""
        from ..inputs.source_images import pictures_size

        return pictures_size(self.views)

    def write_pictures(self, folder: Path, progress: Callable[[int, int], None] | None = None) -> None:
        """Write the upright source pictures at full resolution; see `pictures.write_pictures`."""
        from ..inputs.source_images import write_pictures

        write_pictures(self.views, self.picture_names, folder, progress)

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write this result to a folder; see `result_io.save`."""
        from .io import save

        return save(self, folder, overwrite)

    def export(
        self, out_dir: str | Path, format: str, options: Any = None, *, overwrite: bool = False
    ) -> list[Path]:
        """Write files other tools read ("colmap", "ply", "glb", ...); see `manyview.export.export`."""
        from ...export import export

        return export(self, out_dir, format, options, overwrite=overwrite)


# Field name -> (type, shape). "v h w" are the number of views, and height and width of the images.
ARRAY_FIELDS: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "images": ("uint8", ("v", "h", "w", 3)),
    "cam_from_world": ("float64", ("v", 3, 4)),
    "intrinsics": ("float64", ("v", 3, 3)),
    "z_depth": ("float32", ("v", "h", "w")),
    "depth_conf": ("float32", ("v", "h", "w")),
    "head_points": ("float32", ("v", "h", "w", 3)),
    "head_points_conf": ("float32", ("v", "h", "w")),
}
OPTIONAL_ARRAYS = frozenset({"head_points", "head_points_conf"})


def hash_settings(settings: dict[str, Any]) -> str:
    """16 hex digits of the SHA-256 of the settings as canonical JSON (key order does not matter)."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check_arrays(scene: Reconstruction) -> None:
    images = scene.images
    if not isinstance(images, np.ndarray) or images.ndim != 4:
        raise ValueError("images must be a uint8 array [views, height, width, 3]")
    sizes = dict(zip("vhw", images.shape))
    if sizes["v"] == 0 or len(scene.views) != sizes["v"]:
        raise ValueError(
            f"there are {sizes['v']} images and {len(scene.views)} view records; both must be equal, >= 1"
        )
    for name, (dtype, shape) in ARRAY_FIELDS.items():
        array = getattr(scene, name)
        if array is None and name in OPTIONAL_ARRAYS:
            continue
        wanted = tuple(sizes[size] if isinstance(size, str) else size for size in shape)
        found = (getattr(array, "dtype", type(array).__name__), getattr(array, "shape", None))
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != wanted:
            raise ValueError(f"{name} must be {dtype} {list(wanted)}, got {found[0]} {found[1]}")
    if (scene.head_points is None) != (scene.head_points_conf is None):
        raise ValueError("head_points and head_points_conf come together or not at all")


def _check_views(views: Sequence[ViewRecord], height: int, width: int) -> None:
    seen: set[str] = set()
    for view in views:
        name, transform = view.name, view.transform
        # Names become paths below an export folder, so they must stay below it.
        plain = name and "\\" not in name and "\0" not in name and posixpath.normpath(name) == name
        if not plain or name.startswith(("/", "../")) or name == ".." or name == "." or name[1:2] == ":":
            raise ValueError(f"view name {name!r} must be a relative path with forward slashes and no '..'")
        if name in seen:
            raise ValueError(f"view name {name!r} occurs twice; names must be unique")
        seen.add(name)
        if (transform.network_height, transform.network_width) != (height, width):
            raise ValueError(
                f"view {name!r}: its transform leads to {transform.network_width}x{transform.network_height} "
                f"pixels, the images have {width}x{height}"
            )


def _check_cameras(
    cam_from_world: Float[np.ndarray, "views 3 4"],
    intrinsics: Float[np.ndarray, "views 3 3"],
    names: Sequence[str],
) -> None:
    finite = np.isfinite(cam_from_world).all((1, 2)) & np.isfinite(intrinsics).all((1, 2))
    _refuse_view(~finite, names, "has a camera that is not finite")
    rotation = cam_from_world[:, :, :3]
    skewness = np.abs(rotation @ np.swapaxes(rotation, 1, 2) - np.eye(3)).max((1, 2))
    _refuse_view(
        (skewness > 1e-3) | (np.linalg.det(rotation) < 0), names, "has a rotation matrix that is not one"
    )
    focal = np.stack([intrinsics[:, 0, 0], intrinsics[:, 1, 1]], axis=-1)
    _refuse_view(focal.min(1) <= 0, names, "has a focal length that is not positive")
    pinhole = np.zeros_like(intrinsics)
    pinhole[:, [0, 1, 0, 1], [0, 1, 2, 2]] = intrinsics[:, [0, 1, 0, 1], [0, 1, 2, 2]]
    pinhole[:, 2, 2] = 1.0
    other = np.abs(intrinsics - pinhole).max((1, 2)) > 0
    _refuse_view(other, names, "has intrinsics that are not [fx 0 cx; 0 fy cy; 0 0 1]")


def _refuse_view(wrong: np.ndarray, names: Sequence[str], what: str) -> None:
    if np.any(wrong):
        first = int(np.argmax(wrong))
        more = f" (and {int(wrong.sum()) - 1} more)" if wrong.sum() > 1 else ""
        raise ManyViewError(
            f"view {first + 1} of {len(names)}, {names[first]!r},{more} {what}; "
            "check the weights and the picture, or run in float32"
        )
