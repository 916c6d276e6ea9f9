"""Results of every quality for `tools.results.quality`: runs of the bundled models, and truth with noise."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch.nn import functional as F

from manyview.datasets import read_posed_set
from manyview.datasets.posed_set import PosedSet
from manyview.evaluate.metrics.pose import auc, pair_errors
from manyview.evaluate.protocols.procedural import Case
from manyview.evaluate.runner.pairing import ground_truth, in_network_order
from manyview.geometry.unproject_np import camera_centres, invert_rigid
from manyview.models.load import load
from manyview.reconstruction.inputs.find import find_inputs
from manyview.reconstruction.inputs.load import LoadedViews, read_views
from manyview.reconstruction.inputs.views import ViewRecord, ViewTransform
from manyview.reconstruction.result.result import Reconstruction
from manyview.reconstruction.run.engine import reconstruct
from manyview.synthetic import SceneBatch, demo_scene

PLANS = ("dense", "avggt", "httm", "flash", "frame", "random:keep=0.25")
_MODELS = {"manyview-small": PLANS, "manyview-photos": PLANS, "manyview-flash": ("flash",)}
_CASES = (
    *(("easy", 8, "sequence", number) for number in (0, 1)),
    ("easy", 16, "set", 0),
    *(("medium", 8, "set", number) for number in (0, 1)),
    ("medium", 16, "sequence", 0),
    ("hard", 12, "sequence", 0),
    ("hard", 8, "set", 1),
)
DEPTH_ONLY = "truth, spoilt depth"
"""Right cameras under wrong depth, which AUC@30 cannot see."""
# Standard deviations of noise on true results: rotation (degrees), centres (of their spread), focal, depth.
NOISE = {
    "truth": (0.0, 0.0, 0.0, 0.0),
    "truth, noise 1": (0.7, 0.01, 0.01, 0.02),
    "truth, noise 2": (2.0, 0.03, 0.02, 0.04),
    "truth, noise 3": (4.0, 0.06, 0.04, 0.06),
    "truth, noise 4": (7.0, 0.12, 0.06, 0.1),
    "truth, noise 5": (12.0, 0.25, 0.1, 0.2),
    "truth, noise 6": (25.0, 0.6, 0.2, 0.3),
    "truth, rotations": (5.0, 0.0, 0.0, 0.0),
    "truth, centres": (0.0, 0.3, 0.0, 0.0),
    DEPTH_ONLY: (0.0, 0.0, 0.0, 0.25),
}
# Strength of errors that are smooth in space, as networks' are: degrees at one spread from the middle.
BENT = {
    "truth, bent 1": 3.0,
    "truth, bent 2": 6.0,
    "truth, bent 3": 10.0,
    "truth, bent 4": 16.0,
    "truth, bent 5": 30.0,
}
_TRUTH_SIZE = 168  # pixels of the longer side
_PLANES = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A result and how good its cameras are."""

    scene_name: str
    real: bool
    how: str
    scene: Reconstruction
    auc_30: float


def all_runs(folders: Sequence[Path], views: int = 24) -> Iterator[Run]:
    """Every run of the table: of posed sets in these folders, then of procedural scenes."""
    models = {name: load(name) for name in _MODELS}
    for folder in folders:
        posed, name = read_posed_set(folder).spread(views), folder.name
        for model, plans in _MODELS.items():
            for plan in plans:
                scene = reconstruct(list(posed.images), models[model], accel=plan)
                true = posed.cam_from_world[in_network_order(posed, scene.views)]
                yield _run(name, True, f"{model}, {plan}", scene, true)
        truth = posed_truth(posed)
        if truth is not None:
            yield from _noisy(name, True, truth)
    batches = {"demo": demo_scene(12, 84, 112)}
    for level, count, order_name, number in _CASES:
        case = Case(level, count, order_name)
        batches[f"{case}, scene {number}"] = case.render(number, (84, 112))
    for name, batch in batches.items():
        truth = procedural_truth(batch)
        for model, plans in _MODELS.items():
            for plan in plans:
                scene = reconstruct(list(truth.images), models[model], accel=plan)
                yield _run(name, False, f"{model}, {plan}", scene, truth.cam_from_world)
        yield from _noisy(name, False, truth)


def _run(name: str, real: bool, how: str, scene: Reconstruction, true_cameras: np.ndarray) -> Run:
    found, true = (torch.from_numpy(np.array(c)) for c in (scene.cam_from_world, true_cameras))
    return Run(name, real, how, scene, auc(pair_errors(found, true).worst_deg, 30))


def _noisy(name: str, real: bool, truth: Reconstruction) -> Iterator[Run]:
    for number, (how, levels) in enumerate(NOISE.items()):
        yield _run(name, real, how, perturbed(truth, *levels, seed=number), truth.cam_from_world)
    for number, (how, strength) in enumerate(BENT.items()):
        yield _run(name, real, how, bent(truth, strength, seed=number), truth.cam_from_world)


def perturbed(
    scene: Reconstruction, rotation_deg: float, centres: float, focal: float, depth: float, seed: int
) -> Reconstruction:
    """A result with noise on each view's rotation, centre, focal length and (smooth) depth."""
    rng = np.random.default_rng(seed)
    count, (height, width) = len(scene), scene.z_depth.shape[1:]
    places = camera_centres(scene.cam_from_world)
    places = places + centres * places.std(0).max() * rng.standard_normal(places.shape)
    axes = rng.standard_normal((count, 3))
    turns = np.stack([_rotation(axis * math.radians(rotation_deg) / 3**0.5) for axis in axes])
    rotations = turns @ scene.cam_from_world[:, :, :3]
    intrinsics = scene.intrinsics.copy()
    intrinsics[:, [0, 1], [0, 1]] *= np.exp(focal * rng.standard_normal((count, 1)))
    coarse = torch.from_numpy(rng.standard_normal((count, 1, 3, 4)) + rng.standard_normal((count, 1, 1, 1)))
    smooth = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)[:, 0].numpy()
    return dataclasses.replace(
        scene,
        cam_from_world=np.concatenate([rotations, -rotations @ places[..., None]], axis=-1),
        intrinsics=intrinsics,
        z_depth=(scene.z_depth * np.exp(depth * smooth)).astype(np.float32),
    )


def bent(scene: Reconstruction, degrees: float, seed: int) -> Reconstruction:
    """A result whose cameras have errors that depend smoothly on their place."""
    rng = np.random.default_rng(seed)
    strength = math.radians(degrees)
    centres = camera_centres(scene.cam_from_world)
    middle, spread = centres.mean(0), centres.std(0).max()
    at = (centres - middle) / spread
    turning = strength / 3**0.5 * rng.standard_normal((3, 3))
    turns = np.stack([_rotation(turning @ one) for one in at])
    bend = rng.standard_normal((3, 3, 3)) / 3
    places = centres + spread * strength * np.einsum("ijk,nj,nk->ni", bend, at, at)
    rotations = scene.cam_from_world[:, :, :3] @ turns
    intrinsics = scene.intrinsics.copy()
    intrinsics[:, [0, 1], [0, 1]] *= math.exp(0.5 * strength * rng.standard_normal())
    return dataclasses.replace(
        scene,
        cam_from_world=np.concatenate([rotations, -rotations @ places[..., None]], axis=-1),
        intrinsics=intrinsics,
    )


def _rotation(vector: np.ndarray) -> np.ndarray:
    """The rotation of a rotation vector in radians (Rodrigues)."""
    x, y, z = vector
    return torch.linalg.matrix_exp(torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]])).numpy()


def procedural_truth(batch: SceneBatch) -> Reconstruction:
    """A rendered scene as a result."""
    images = (batch.images[0].permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    count, height, width, _ = images.shape
    transform = ViewTransform(
        width, height, 1, width, height, width, height, 1.0, 1.0, 0.0, 0.0, (0, 0, width, height)
    )
    depth = torch.where(batch.valid[0], batch.z_depth[0], torch.nan).float().contiguous().numpy()
    return Reconstruction(
        images=np.ascontiguousarray(images),
        cam_from_world=batch.cam_from_world[0].double().numpy(),
        intrinsics=batch.intrinsics[0].double().numpy(),
        z_depth=depth,
        depth_conf=np.ones_like(depth),
        views=tuple(ViewRecord(f"view-{index:04d}.png", "", transform) for index in range(count)),
    )


def posed_truth(posed: PosedSet) -> Reconstruction | None:
    """A posed set as a result: its cameras and depth, or depth by a plane sweep. None without intrinsics."""
    if posed.intrinsics is None:
        return None
    views: LoadedViews = read_views(find_inputs(list(posed.images)), "fit", _TRUTH_SIZE, 14, strict=True)
    order = in_network_order(posed, views.records)
    images = views.images.permute(0, 2, 3, 1).contiguous().numpy()
    cameras = posed.cam_from_world[order].astype(np.float64)
    intrinsics = np.stack(
        [v.transform.network_from_upright @ posed.intrinsics[at] for v, at in zip(views.records, order)]
    )
    intrinsics[:, 0, 1] = 0
    if posed.depth is None:
        depth = plane_sweep(images, cameras, intrinsics)
    else:
        depth = ground_truth(posed, views.records, images.shape[:3])["true_depth"]
    return Reconstruction(images, cameras, intrinsics, depth, np.ones_like(depth), views.records)


def plane_sweep(
    images: np.ndarray, cameras: Float[np.ndarray, "v 3 4"], intrinsics: Float[np.ndarray, "v 3 3"]
) -> Float32[np.ndarray, "v h w"]:
    """Depth by correlation with the four nearest cameras over planes (Collins, 1996); NaN: none fits."""
    grey = torch.from_numpy(images).float().mean(-1)
    count, height, width = grey.shape
    centres = camera_centres(cameras)
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    step = float(np.median(np.sort(apart, 1)[:, 1]))
    inverse = torch.linspace(1 / 60, 1 / 1.5, _PLANES) / step
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], -1).reshape(-1, 3).double()
    result = torch.empty(count, height, width)
    for view in range(count):
        rays = pixels @ torch.from_numpy(np.linalg.inv(intrinsics[view])).T
        cost = torch.zeros(_PLANES, height, width)
        seen = torch.zeros_like(cost)
        world = torch.from_numpy(invert_rigid(cameras[view]))
        facing = cameras[:, 2, :3] @ cameras[view, 2, :3]
        near = [i for i in np.argsort(apart[view]) if i != view and facing[i] > 0.7][:4]
        for other in near:
            points = rays[None] / inverse[:, None, None]
            camera = torch.tensor(cameras[other])
            points = (points @ world[:, :3].T + world[:, 3]) @ camera[:, :3].T + camera[:, 3]
            there = points @ torch.tensor(intrinsics[other]).T
            there = there[..., :2] / there[..., 2:].clamp(min=1e-9)
            grid = 2 * there / torch.tensor([width, height]) - 1
            grid = grid.reshape(_PLANES, height, width, 2).float()
            inside = ((grid.abs() < 1).all(-1) & (points[..., 2].reshape(_PLANES, height, width) > 0)).float()
            warped = F.grid_sample(
                grey[other][None, None].expand(_PLANES, 1, -1, -1),
                grid,
                padding_mode="border",
                align_corners=False,
            )[:, 0]
            score = _correlation(grey[view].expand_as(warped), warped)
            cost += torch.where(score > 0, score, 0.0) * inside
            seen += inside
        score = F.avg_pool2d((cost / seen.clamp(min=1))[:, None], 3, 1, 1)[:, 0]
        best, plane = score.max(0)
        result[view] = torch.where(best > 0.4, 1 / inverse[plane].float(), torch.nan)
    return result.numpy().astype(np.float32)


def _correlation(a: torch.Tensor, b: torch.Tensor, side: int = 7) -> torch.Tensor:
    """Normalised correlation of patches around every pixel of two stacks of images."""

    def mean(values: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(values[:, None], side, 1, side // 2, count_include_pad=False)[:, 0]

    ma, mb = mean(a), mean(b)
    va, vb = mean(a * a) - ma * ma, mean(b * b) - mb * mb
    return (mean(a * b) - ma * mb) / ((va + 4) * (vb + 4)).sqrt()
