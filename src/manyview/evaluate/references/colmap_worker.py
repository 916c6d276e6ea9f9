"""COLMAP's incremental mapping, run by `manyview.refine.mapping.process`; imports nothing of ManyView."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Largest model of incremental mapping: "cameras" (3x4 cam_from_world) and "intrinsics" by image name."""
    import pycolmap

    pycolmap.logging.minloglevel = int(pycolmap.logging.FATAL)
    seed, threads = request["seed"], request["threads"]
    pycolmap.set_random_seed(seed)
    work = Path(request["work"])
    database, folder, models = work / "database.db", work / "images", work / "models"
    models.mkdir()
    features = pycolmap.FeatureExtractionOptions()
    features.max_image_size = request["max_image_size"]
    features.num_threads = threads
    reader = pycolmap.ImageReaderOptions()
    reader.camera_model = request["camera_model"]
    mode = pycolmap.CameraMode.SINGLE if request["one_camera"] else pycolmap.CameraMode.PER_IMAGE
    cpu = pycolmap.Device.cpu
    # Extraction on several threads numbers images as they get done, and other numbers give other digits.
    with pycolmap.Database.open(database):
        pass
    pycolmap.import_images(database, folder, mode, options=reader)
    pycolmap.extract_features(
        database,
        folder,
        camera_mode=mode,
        reader_options=reader,
        extraction_options=features,
        device=cpu,
    )
    matching = pycolmap.FeatureMatchingOptions()
    matching.num_threads = threads
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = seed
    if request["sequential"]:
        pairing = pycolmap.SequentialPairingOptions()
        pairing.overlap = request["overlap"]
        pairing.quadratic_overlap = True
        pycolmap.match_sequential(database, matching, pairing, verification, cpu)
    else:
        pycolmap.match_exhaustive(
            database, matching_options=matching, verification_options=verification, device=cpu
        )
    options = pycolmap.IncrementalPipelineOptions()
    options.extract_colors = False
    options.min_model_size = request["min_model_size"]
    # One thread: sums of several come in any order, and the same images would give other digits.
    options.num_threads = 1
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = seed
    found = pycolmap.incremental_mapping(database, folder, models, options)
    if not found:
        return {"cameras": {}, "models": 0}
    best = max(found.values(), key=lambda model: (model.num_reg_images(), model.num_points3D()))
    images = [best.images[number] for number in best.reg_image_ids()]
    return {
        "cameras": {image.name: image.cam_from_world().matrix().tolist() for image in images},
        "intrinsics": {
            image.name: best.cameras[image.camera_id].calibration_matrix().tolist() for image in images
        },
        "models": len(found),
        "points": best.num_points3D(),
        "reprojection_px": best.compute_mean_reprojection_error(),
    }
