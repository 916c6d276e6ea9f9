"""`refine`: exact cameras for a result, from its original images, where they agree better than before."""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from .._option_checks import check_instance, check_options
from ..errors import MissingExtraError, UsageError, memory_errors
from ..geometry.unproject_np import invert_rigid
from ..reconstruction.inputs.views import ViewRecord
from ..reconstruction.result.result import Reconstruction
from .apply import apply_solution, nothing_to_refine
from .options import RefineOptions
from .sources import SourceImages, with_sources

if TYPE_CHECKING:  # results are read without PyTorch
    from ..reconstruction.known.arrays import KnownViews
    from ..reconstruction.known.files import KnownFiles
    from .mapping import KnownViewCameras
    from .stereo import StereoOptions

Known = Union["KnownFiles", "KnownViews"]
ProgressCallback = Callable[[str, int, int], None]


def require_pycolmap() -> None:
    """MissingExtraError without pycolmap; it is not imported."""
    if util.find_spec("pycolmap") is None:
        raise MissingExtraError("a refinement of cameras", "colmap")


@memory_errors()
def refine(
    scene: Reconstruction,
    images: SourceImages | None = None,
    options: RefineOptions | None = None,
    *,
    known: Known | None = None,
    work: str | Path | None = None,
    progress: ProgressCallback | None = None,
    stereo: StereoOptions | None = None,
    device: str | None = None,
) -> Reconstruction:
    """Exact cameras after the forward pass: structure from motion on the original images, where it is better.

    What the network predicted decides which views are matched and where focal lengths start. The cameras
    found are accepted only where matches that were held out agree better with them than with the network's
    (docs/refinement.md); otherwise these stay, and `refinement["sentence"]` says which test failed.

    Args:
        scene: A result; it is not modified.
        images: Where its original images are: None for the sources that its views name, a folder (or the
            video) that holds them now, or one path, Pillow image, array or tensor a view.
        options: How (None: the defaults).
        known: Known cameras: intrinsics are kept, poses pull or are not moved (`known_poses`), and the result
            is in their world. Known depth has no use here.
        work: Folder for features and matches, kept; a run that was killed goes on from what is there. None
            for a temporary one.
        progress: Called with (stage, done, total).
        stereo: Also measure depth from the cameras, like this, if they fit the images (see
            `refine.stereo.confirm_depth`); None: depth stays the network's.
        device: Of that ("cpu", "cuda"); None for a card if there is one.

    Returns:
        The result with `refinement` and, if that was accepted, refined cameras in the same world,
        `distortion`, measured `tracks`, and each view's depth scaled to the points that it observes.

    Raises:
        InputError: An original image is gone; the message names it.
        MissingExtraError: pycolmap is not installed.
    """
    check_instance("scene", scene, Reconstruction)
    options = RefineOptions() if options is None else options
    check_instance("options", options, RefineOptions)
    check_options(options)
    require_pycolmap()
    scene = with_sources(scene, images)
    cameras = known_cameras(scene.views, known)
    began = time.perf_counter()
    if len(scene) < 2:
        sentence = "not refined: there is one view alone, and no other to compare it with"
        refined = dataclasses.replace(scene, refinement=nothing_to_refine(sentence))
    elif work is None:
        with tempfile.TemporaryDirectory(prefix="manyview-refine-", ignore_cleanup_errors=True) as folder:
            refined = _refined(scene, options, cameras, Path(folder), progress)
    else:
        refined = _refined(scene, options, cameras, Path(work), progress)
    settings = {**scene.settings, "refine": refine_settings(options, cameras)}
    stages = (refined.refinement or {}).get("timings_s", {})
    timings = {**refined.timings_s, "refine": time.perf_counter() - began}
    timings |= {f"refine: {stage}": seconds for stage, seconds in stages.items()}
    refined = dataclasses.replace(refined, settings=settings, timings_s=timings)
    if stereo is None:
        return refined.with_quality()
    return with_measured_depth(refined, stereo, device, progress)


def with_measured_depth(
    scene: Reconstruction,
    stereo: StereoOptions,
    device: str | None = None,
    progress: ProgressCallback | None = None,
) -> Reconstruction:
    """A result after `refine` with depth that its cameras confirm, if these fit the images."""
    from .stereo import confirm_depth

    refinement = dict(scene.refinement or {})
    if refinement.get("accepted") or refinement.get("cameras_fit"):
        scene = confirm_depth(scene, None, stereo, device, progress)
        assert scene.confirmed is not None
        share = float(scene.confirmed.mean())
        sentence = f"other views confirm the depth of {share:.0%} of the pixels"
        refinement["stereo"] = {"measured": True, "confirmed_share": round(share, 4), "sentence": sentence}
    else:
        sentence = "depth stays the network's, because it takes cameras that fit the images to measure it"
        refinement["stereo"] = {"measured": False, "sentence": sentence}
    settings = {**scene.settings, "refine": {**scene.settings["refine"], "depth": dataclasses.asdict(stereo)}}
    return dataclasses.replace(scene, refinement=refinement, settings=settings).with_quality()


def known_cameras(views: Sequence[ViewRecord], known: Known | None) -> KnownViewCameras | None:
    """Known cameras of the views, their intrinsics at upright pixels; None where nothing is known."""
    if known is None or not known:
        return None
    from ..reconstruction.known.known import at_upright_pixels
    from .mapping import KnownViewCameras

    read = known.read(views).cameras
    if not any(read):
        raise UsageError("known depth alone does not refine cameras: give known cameras, or none")
    poses, matrices = np.full((len(views), 3, 4), np.nan), np.full((len(views), 3, 3), np.nan)
    for view, camera in enumerate(at_upright_pixels(read, views)):
        if camera is not None and camera.world_from_cam is not None:
            poses[view] = invert_rigid(camera.world_from_cam)
        if camera is not None and camera.intrinsics is not None:
            matrices[view] = camera.intrinsics
    return KnownViewCameras(poses, matrices)


def refine_settings(
    options: RefineOptions,
    known: KnownViewCameras | None = None,
    stereo: StereoOptions | None = None,
) -> dict[str, Any]:
    """What decides a refinement of a given result, as JSON types, for its settings."""
    settings = dataclasses.asdict(options) | {"depth": None if stereo is None else dataclasses.asdict(stereo)}
    if known is not None:
        arrays = known.cam_from_world, known.intrinsics
        settings["known_sha256"] = hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()
    return settings


def _refined(
    scene: Reconstruction,
    options: RefineOptions,
    known: KnownViewCameras | None,
    work: Path,
    progress: ProgressCallback | None,
) -> Reconstruction:
    from .mapping import solve

    return apply_solution(scene, solve(scene, options, work, known, progress))


Reconstruction.refine = refine  # type: ignore[method-assign, assignment]
