"""`Reconstruction`: the result of a run. Cameras, depth, confidence, and where every view came from.

Conventions: OpenCV axes; `cam_from_world` maps world points into a camera; intrinsics are in pixels of
the network images with pixel centres at +0.5; depth is z-depth in the unit of the cameras, which is arbitrary
unless `metric` says that it is the metre.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, UInt8

from ..._deprecation import RenamedAttribute, accepts_renamed
from ...files.naming import printable
from ...geometry.unproject_np import PIXEL_CENTRES, invert_rigid, pixel_grid, unproject
from ..inputs import source_images
from ..inputs.view_masks import Masks
from ..inputs.views import ViewRecord
from ..quality.verdict import assess_quality
from .arrays import ARRAY_FIELDS, hash_settings
from .checks import check_arrays, check_cameras, check_views
from .masks import with_masks
from .points import PointCloud, confidence_threshold, point_cloud
from .save import save
from .tracks import Tracks


@accepts_renamed
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
        z_depth: may be non-finite or not positive where the model predicts none (see `valid`).
        depth_conf: the model's raw confidence; only its order is meaningful across models.
        views: names, sources and transforms, in the order of the arrays.
        settings: everything that decides the numbers above, as JSON types.
        timings_s: seconds by stage; "forward: encoder" is a part of "forward", all else is disjoint.
        memory_bytes: by stage; "measured peak", if there, is the peak of the whole run.
        notes: what the user should know about this run.
        pixel_centres: "half" casts depth along pixel centres; "integer" along integer pixel indices,
            half a pixel off, which is what upstream VGGT does.
        head_points, head_points_conf: world points of the point head, if it ran.
        sky: True where a pixel shows the sky, which is never `valid`; None where nothing told.
        masked: True where a mask (or sky that counts as masked) hides a pixel, which is never `valid`; None
            without masks.
        confirmed: True where several views confirm the depth of a pixel (`--refine depth`); None where
            nothing measured that.
        distortion: (k1, k2, p1, p2) of each view in OpenCV's model, of refined cameras; None for pinholes.
            Depth and pixels are those of the image, distortion included.
        tracks: points with measured observations that refined cameras rest on; None without refinement.
        refinement: what `refine` did, as JSON types (see `manyview.refine`): `accepted`, `sentence`, and by
            view its status; None where nothing was refined.
        comparison: what the plan saved and changed beside dense attention on a sample of the views, as JSON
            types (see `run.comparison.PlanComparison`), if it was asked for.
        quality: how far this result can be trusted, as JSON types: `grade` ("good", "doubtful", "bad" or
            None), `sentence`, `figures`, `weak_views` (see `with_quality`). Runs end with it; None where
            nothing computed it. `dataclasses.replace` does not compute it anew.
        metric: where lengths are in metres, by which "model" and "factor" they became so, as JSON types; None
            where the unit of length is arbitrary, or that of known cameras.
        warnings: what is to be said above all else, such as that the weights never saw such images.
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
    sky: Bool[np.ndarray, "views height width"] | None = None
    masked: Bool[np.ndarray, "views height width"] | None = None
    confirmed: Bool[np.ndarray, "views height width"] | None = None
    distortion: Float64[np.ndarray, "views 4"] | None = None
    tracks: Tracks | None = None
    refinement: dict[str, Any] | None = None
    comparison: dict[str, Any] | None = None
    metric: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    quality: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        check_arrays(self)
        check_views(self.views, self.height, self.width)
        check_cameras(self.cam_from_world, self.intrinsics, self.names)
        if self.pixel_centres not in PIXEL_CENTRES:
            raise ValueError(f"pixel_centres must be 'half' or 'integer', not {self.pixel_centres!r}")
        try:
            plain: list[Any] = [self.settings, self.timings_s, self.memory_bytes, self.notes, self.comparison]
            plain += [self.metric, self.warnings, self.quality, self.refinement]
            json.dumps(plain, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "settings, timings, memory, notes, comparison, metric, warnings, quality and refinement must "
                f"be plain JSON values: {error}"
            ) from error
        # They name files, and go to terminals and pages.
        for name in ("notes", "warnings"):
            object.__setattr__(self, name, tuple(map(printable, getattr(self, name))))
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
        """Intrinsics in pixels of the upright source images, at their original resolution."""
        pairs = zip(self.views, self.intrinsics, strict=True)
        return np.stack([view.transform.upright_intrinsics(matrix) for view, matrix in pairs])

    @property
    def valid(self) -> Bool[np.ndarray, "views height width"]:
        """True where the pixel shows the image (no padding, sky or mask) and has finite, positive depth."""
        return np.stack([self.view_valid(index) for index in range(len(self))])

    def view_valid(self, index: int) -> Bool[np.ndarray, "height width"]:
        """`valid` of one view."""
        depth, conf = self.z_depth[index], self.depth_conf[index]
        usable = np.isfinite(depth) & (depth > 0) & np.isfinite(conf)
        usable &= self.views[index].transform.content_mask()
        for hidden in (self.sky, self.masked):
            if hidden is not None:
                usable &= ~hidden[index]
        return usable

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
                pixel_centres=self.pixel_centres,
                **self.cameras(index),
            )
            return points.reshape(self.height, self.width, 3).astype(np.float32)

    def cameras(self, views: int | Int[np.ndarray, "*chosen"]) -> dict[str, Any]:
        """Cameras of one view or several, as `project` and `unproject` of `unproject_np` take them."""
        lens = None if self.distortion is None else self.distortion[views]
        return {
            "cam_from_world": self.cam_from_world[views],
            "intrinsics": self.intrinsics[views],
            "distortion": lens,
        }

    def confidence_threshold(self, percentile: float) -> float:
        """The confidence that `percentile` percent of all valid pixels stay below (inf if none is valid)."""
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
        """The confident pixels of all views as coloured world points; see `points.point_cloud`."""
        return point_cloud(
            self, min_conf_percentile, max_points, source=source, drop_edges=drop_edges, seed=seed
        )

    def with_masks(self, masks: Masks, strict: bool = False) -> Reconstruction:
        """This result with masks, in place of those it may have; its cameras and depth stay as they are.

        Args:
            masks: a folder of masks called like the views, or one mask a view; see docs/masks.md.
            strict: raise where a view has no mask, or one that cannot be read.

        Raises:
            InputError: no mask belongs to any view, or one has another aspect ratio than its view.
            UsageError: another number of masks than of views, or an array that is no mask.
        """
        return with_masks(self, masks, strict)

    def with_quality(self) -> Reconstruction:
        """This result with its `quality` computed anew, in seconds, and the time it took in `timings_s`.

        From cameras, depth and images of a bounded sample of the views; what the grades mean and where they
        fail: docs/quality.md. For results that were stored before runs ended with it, or made in Python.
        """
        start = time.perf_counter()
        quality = assess_quality(self)
        timings = {**self.timings_s, "quality": time.perf_counter() - start}
        return dataclasses.replace(self, quality=quality, timings_s=timings)

    @property
    def source_image_names(self) -> tuple[str, ...]:
        """File names under which `write_source_images` writes the source images."""
        return source_images.source_image_names(self.views)

    def source_images_size(self, downscale: Sequence[int] = ()) -> int:
        """About how many bytes `write_source_images` writes."""
        return source_images.source_images_size(self.views, downscale)

    def write_source_images(
        self,
        folder: Path,
        progress: Callable[[int, int], None] | None = None,
        downscale: Sequence[int] = (),
    ) -> None:
        """Write the upright source images at full resolution.

        Args:
            folder: where to; the files are called `source_image_names`.
            progress: called with (done, total).
            downscale: also write the images reduced by these factors, beside `folder`: to `images_2` for
                `images`. Blocks of pixels are averaged: their intrinsics are `upright_intrinsics / factor`.

        Raises:
            InputError: if a source is gone or is no longer the image that was reconstructed.
            UsageError: if an image is too small for a factor.
        """
        source_images.write_source_images(
            self.views, self.source_image_names, folder, progress, tuple(self.images), downscale
        )

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write this result to a folder that `manyview.load_reconstruction` reads, and return the folder.

        Args:
            folder: missing, empty, or with `overwrite` that of an earlier result.
            overwrite: replace an earlier header and arrays of ManyView; other files are never touched.

        Raises:
            OutputError: when the folder holds something else or the disk is full.
        """
        return save(self, folder, overwrite)

    if TYPE_CHECKING:  # attached by `manyview.export` and `manyview.refine`, which lie above this package

        def export(
            self,
            out_dir: str | Path,
            format: str,
            options: Any = None,
            *,
            overwrite: bool = False,
            progress: Callable[[int, int], None] | None = None,
        ) -> list[Path]:
            """Write files for other tools ("colmap", "ply", "glb", ...); see `manyview.export.export`."""
            ...

        def refine(
            self,
            images: Any = None,
            options: Any = None,
            *,
            known: Any = None,
            work: str | Path | None = None,
            progress: Callable[[str, int, int], None] | None = None,
            stereo: Any = None,
            device: str | None = None,
        ) -> Reconstruction:
            """Exact cameras where the original images allow it; see `manyview.refine`."""
            ...

    receipt = RenamedAttribute("comparison")
    picture_names = RenamedAttribute("source_image_names")
    pictures_size = RenamedAttribute("source_images_size")
    write_pictures = RenamedAttribute("write_source_images")
