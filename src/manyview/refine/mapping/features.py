"""Features of the originals and matches between them, in a database that a killed run goes on from.

In the worker only: needs pycolmap.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from .held_out import Features, split_matches
from .pairs import Pair, second_pairs

Report = Callable[[str, int, str | None], None]
"""(stage, total, table of the database whose rows are counted)."""
DATABASE, MAPPED = "database.db", "mapped.db"
FEW_VIEWS = 4
"""Up to so many views matches are searched again along epipolar lines, and tracks of two views count."""


def import_views(work: Path, request: dict[str, Any]) -> None:
    """Cameras and images into a fresh database, unless there is one of the same images and options."""
    import pycolmap

    key, database = work / "database.json", work / DATABASE
    deciding = ("digest", "names", "masks", "max_image_size", "max_features", "cameras", "seed")
    wanted = {name: request[name] for name in deciding}
    if key.is_file() and database.is_file() and json.loads(key.read_text(encoding="utf-8")) == wanted:
        return
    key.unlink(missing_ok=True)
    _remove(database)
    with pycolmap.Database.open(database) as opened:
        numbers = [opened.write_camera(_camera(camera)) for camera in request["cameras"]]
    for number, camera in zip(numbers, request["cameras"], strict=True):
        reader = pycolmap.ImageReaderOptions()
        reader.existing_camera_id = number
        reader.camera_model = camera["model"]
        names = [request["names"][view] for view in camera["views"]]
        mode = pycolmap.CameraMode.SINGLE
        pycolmap.import_images(database, work / "images", mode, image_names=names, options=reader)
    key.write_text(json.dumps(wanted), encoding="utf-8")


def find_features(work: Path, request: dict[str, Any], report: Report) -> None:
    """SIFT of every image that has none yet."""
    import pycolmap

    report("features", len(request["names"]), "keypoints")
    options = pycolmap.FeatureExtractionOptions()
    options.max_image_size = request["max_image_size"]
    options.num_threads = request["threads"]
    options.sift.max_num_features = request["max_features"]
    reader = pycolmap.ImageReaderOptions()
    if request["masks"]:
        reader.mask_path = work / "masks"
    pycolmap.extract_features(
        work / DATABASE,
        work / "images",
        image_names=request["names"],
        reader_options=reader,
        extraction_options=options,
        device=pycolmap.Device.cpu,
    )


def match_views(work: Path, request: dict[str, Any], report: Report) -> None:
    """Matches and their verification, first of the pairs asked for, then of those that these suggest."""
    import pycolmap

    first = [(i, j) for i, j in request["pairs"]]
    report("matches", len(first), "two_view_geometries")
    _match(work, request, first)
    with pycolmap.Database.open(work / DATABASE) as database:
        views = view_numbers(database)
        numbers, counts = database.read_two_view_geometry_num_inliers()
    inliers = {
        _pair(views, number): int(count) for number, count in zip(numbers, counts, strict=True) if count > 0
    }
    second = second_pairs(
        inliers, set(first), len(request["names"]), request["neighbours"], request["all_pairs"]
    )
    if second:
        report("matches", len(first) + len(second), "two_view_geometries")
        _match(work, request, second)


def _match(work: Path, request: dict[str, Any], pairs: Iterable[Pair]) -> None:
    import pycolmap

    names = request["names"]
    listed = work / "pairs.txt"
    listed.write_text("".join(f"{names[i]} {names[j]}\n" for i, j in pairs), encoding="utf-8")
    pairing = pycolmap.ImportedPairingOptions()
    pairing.match_list_path = listed
    matching = pycolmap.FeatureMatchingOptions()
    matching.num_threads = request["threads"]
    matching.guided_matching = len(names) <= FEW_VIEWS
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = request["seed"]
    pycolmap.match_image_pairs(work / DATABASE, matching, pairing, verification, device=pycolmap.Device.cpu)


def hold_out(work: Path, request: dict[str, Any]) -> tuple[Features, dict[Pair, Int64[np.ndarray, "_ 2"]]]:
    """Write the database for mapping, without the withheld matches and with one feature a place.

    Returns the features of all views and the withheld matches, as their nodes.
    """
    import pycolmap

    _remove(work / MAPPED)
    with pycolmap.Database.open(work / DATABASE) as whole, pycolmap.Database.open(work / MAPPED) as mapped:
        views = view_numbers(whole)
        image_of = {view: image for image, view in views.items()}
        keypoints = {}
        for view, image in image_of.items():
            there = whole.exists_keypoints(image) and whole.num_keypoints_for_image(image)
            keypoints[view] = whole.read_keypoints(image)[:, :2] if there else np.empty((0, 2), np.float32)
        features = Features.of([keypoints[view].astype(np.float64) for view in range(len(keypoints))])
        numbers, geometries = whole.read_two_view_geometries()
        found: dict[Pair, Any] = {}
        matches = {}
        for number, geometry in zip(numbers, geometries, strict=True):
            if len(geometry.inlier_matches):
                pair = _pair(views, number)
                found[pair] = geometry
                matches[pair] = np.asarray(geometry.inlier_matches).astype(np.int64)
        kept, withheld = split_matches(features, matches, request["seed"])
        # The geometry of a pair is that of its images' numbers in ascending order.
        _copy_views(whole, mapped, keypoints, image_of)
        with pycolmap.DatabaseTransaction(mapped):
            for pair, geometry in found.items():
                nodes = kept.get(pair, np.empty((0, 2), np.int64))
                geometry.inlier_matches = (nodes - features.start[list(pair)]).astype(np.uint32)
                mapped.write_two_view_geometry(image_of[pair[0]], image_of[pair[1]], geometry)
    return features, withheld


def _copy_views(whole: Any, mapped: Any, keypoints: dict[int, Any], image_of: dict[int, int]) -> None:
    import pycolmap

    with pycolmap.DatabaseTransaction(mapped):
        for camera in whole.read_all_cameras():
            mapped.write_camera(camera, use_camera_id=True)
        for rig in whole.read_all_rigs():
            mapped.write_rig(rig, use_rig_id=True)
        for frame in whole.read_all_frames():
            mapped.write_frame(frame, use_frame_id=True)
        for image in whole.read_all_images():
            mapped.write_image(image, use_image_id=True)
        for view, places in keypoints.items():
            mapped.write_keypoints(image_of[view], places)


def view_numbers(database: Any) -> dict[int, int]:
    """View by the number of its image; names of images are those of `original_names`."""
    return {image.image_id: view_of(image.name) for image in database.read_all_images()}


def view_of(name: str) -> int:
    """The view of an image called as in `original_names`."""
    return int(Path(name).stem)


def _remove(database: Path) -> None:
    """With SQLite's own files, which a killed run leaves and a new database must not find."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)


def _pair(views: dict[int, int], number: int) -> Pair:
    import pycolmap

    first, second = pycolmap.pair_id_to_image_pair(number)
    return views[first], views[second]


def _camera(start: dict[str, Any]) -> Any:
    import pycolmap

    camera = pycolmap.Camera(
        model=start["model"], width=start["width"], height=start["height"], params=start["params"]
    )
    camera.has_prior_focal_length = True
    return camera
