"""Depth maps as 16-bit PNG, one per view, with one scale for the whole scene in a JSON beside them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, UInt16
from PIL import Image

from .._option_checks import check_options
from ..errors import UsageError
from ..files.paths import file_names
from ..reconstruction.result.masks import kept_pixels
from .export_format import ExportFormat, ExportTarget
from .image_files import tell_names

if TYPE_CHECKING:
    from ..files.staging import StagedFiles
    from ..reconstruction.inputs.views import ViewTransform
    from ..reconstruction.result.result import Reconstruction

_LARGEST = 65535


@dataclasses.dataclass(frozen=True)
class DepthOptions:
    """`depth/NAME.png` and `depth/depth.json`; z-depth = value / counts_per_unit, 0 means no depth.

    Maps and the intrinsics in `depth.json` are in pixels of the network images unless `original_resolution`.
    """

    counts_per_unit: float | None = None
    """PNG values per unit of depth; None chooses the largest for which the deepest pixel still fits."""
    original_resolution: bool = False
    """Write maps in the size of the upright source images (nearest pixel) instead of the network's."""
    min_conf_percentile: float = 0.0
    """Write 0 for pixels below this percentile of confidence."""

    def __post_init__(self) -> None:
        check_options(self, above={"counts_per_unit": 0})


def _write(scene: Reconstruction, options: DepthOptions, target: ExportTarget) -> None:
    maps = DepthMaps(scene, options)
    intrinsics = scene.upright_intrinsics if options.original_resolution else scene.intrinsics
    with target.staged(maps.needed_bytes()) as stage:
        entries = []
        sizes = maps.write(stage, "depth")
        for index, (width, height) in enumerate(sizes):
            entry: dict[str, Any] = {"name": scene.names[index], "image": scene.source_image_names[index]}
            entry |= {"file": maps.names[index], "width": width, "height": height}
            entry["intrinsics"] = intrinsics[index].tolist()
            if scene.distortion is not None:
                entry["distortion"] = scene.distortion[index].tolist()
            entries.append(entry)
        header = {
            "meaning": "z_depth = value / counts_per_unit, in the unit of the cameras; 0 means no depth; "
            "distortion: (k1, k2, p1, p2) of OpenCV's model, which the maps show as the images do",
            "counts_per_unit": maps.counts,
            "settings_hash": scene.settings_hash,
            "views": entries,
        }
        stage.file("depth/depth.json").write_text(json.dumps(header, indent=1), encoding="utf-8")
    tell_names(scene, target)


class DepthMaps:
    """The depth of every view as 16-bit PNG: `counts` values per unit of depth, file names `names`."""

    def __init__(self, scene: Reconstruction, options: DepthOptions) -> None:
        self.scene, self.options = scene, options
        self.names = depth_names(scene.source_image_names)
        self._threshold = scene.confidence_threshold(options.min_conf_percentile)
        deepest = max(float(_kept_depth(scene, index, self._threshold).max()) for index in range(len(scene)))
        self.counts = options.counts_per_unit or _LARGEST / max(deepest, 1e-30)
        if round(deepest * self.counts) > _LARGEST:
            raise UsageError(
                f"depth reaches {deepest:.4g} units, which at {self.counts:g} counts per unit does not fit "
                f"16 bits; choose counts_per_unit of at most {_LARGEST / deepest:.4g}, or leave it out"
            )

    def needed_bytes(self) -> int:
        """About how many bytes `write` writes."""
        upright = sum(v.transform.upright_width * v.transform.upright_height for v in self.scene.views)
        pixels = upright if self.options.original_resolution else self.scene.z_depth.size
        return 2 * pixels + 1000 * len(self.scene)

    def write(self, stage: StagedFiles, folder: str, downscale: Sequence[int] = ()) -> list[tuple[int, int]]:
        """Write all maps to `folder`, smaller ones to `folder_2`, ...; returns (width, height) of each."""
        sizes = []
        for index, name in enumerate(self.names):
            depth = _kept_depth(self.scene, index, self._threshold)
            if self.options.original_resolution:
                depth = to_upright(depth, self.scene.views[index].transform)
                shown = kept_pixels(self.scene, index)
                depth = depth if shown is None else np.where(shown, depth, np.float32(0.0))
            values = _quantise(depth, self.counts)
            height, width = values.shape
            Image.fromarray(values).save(stage.file(f"{folder}/{name}"))
            for factor in downscale:
                centre = slice(factor // 2, None, factor)
                smaller = values[centre, centre][: height // factor, : width // factor]
                Image.fromarray(smaller).save(stage.file(f"{folder}_{factor}/{name}"))
            sizes.append((width, height))
        return sizes


def depth_names(names: Sequence[str]) -> list[str]:
    """ "left/1.jpg" -> "left/1.png", or "left/1.jpg.png" where two views would share a name; `file_names`."""
    short = [name.rpartition(".")[0] if "." in name.rpartition("/")[2][1:] else name for name in names]
    return file_names(
        [f"{stem if short.count(stem) == 1 else name}.png" for name, stem in zip(names, short, strict=True)]
    )


def to_upright(
    depth: Float32[np.ndarray, "height width"], transform: ViewTransform
) -> Float32[np.ndarray, "upright_height upright_width"]:
    """The map at source resolution: the depth of the nearest network pixel, 0 where the crop cut it off.

    Nearest, because averaging across a depth edge would invent a surface between the two.
    """
    x = np.floor(transform.scale_x * (np.arange(transform.upright_width) + 0.5) + transform.offset_x)
    y = np.floor(transform.scale_y * (np.arange(transform.upright_height) + 0.5) + transform.offset_y)
    left, top, right, bottom = transform.content_box
    inside = ((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))[None]
    columns = np.clip(x, left, right - 1).astype(np.int64)
    rows = np.clip(y, top, bottom - 1).astype(np.int64)
    return np.where(inside, depth[rows[:, None], columns[None]], np.float32(0.0))


def _kept_depth(scene: Reconstruction, index: int, threshold: float) -> Float32[np.ndarray, "height width"]:
    kept = scene.view_valid(index) & (scene.depth_conf[index] >= threshold)
    return np.where(kept, scene.z_depth[index], np.float32(0.0))


def _quantise(depth: Float32[np.ndarray, "h w"], counts: float) -> UInt16[np.ndarray, "h w"]:
    values = np.rint(depth.astype(np.float64) * counts)
    # A pixel with depth must not turn into "no depth" by rounding.
    return np.where(depth > 0, np.clip(values, 1, _LARGEST), 0).astype(np.uint16)


FORMAT = ExportFormat("depth", "16-bit depth PNG per view, in network pixels", DepthOptions, _write)
