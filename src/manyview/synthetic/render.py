"""From seeds to rendered scenes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import UsageError
from .batch import SceneBatch
from .draws import Draws
from .options import SceneOptions
from .raycast import camera_rays, cast
from .scenes import Scenes, draw_scenes, is_outdoor
from .shading import shade
from .textures import texture_bank

# Rays worked on at once: on a CPU what stays in its caches, on a GPU what fits its memory with ease.
_RAYS_AT_ONCE = {"cpu": 100_000, "other": 8_000_000}


@torch.no_grad()
def render_scenes(
    seeds: Sequence[int] | int,
    views: int,
    height: int,
    width: int,
    options: SceneOptions | None = None,
    device: torch.device | str = "cpu",
) -> SceneBatch:
    """Draw and render one scene for each seed (an int is one seed), all with the same number of views.

    A scene depends on its own seed, the options, the number of views and the image size alone: not on
    the rest of the batch, nor on earlier calls. What is drawn is the same on every device; colours and
    depths agree to float32 rounding. Raises UsageError for a bad seed or size.
    """
    options = SceneOptions() if options is None else options
    for name, value in (("views", views), ("height", height), ("width", width)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise UsageError(f"Scenes need whole {name} of at least 1, but {name} is {value!r}.")
    seeds = [seeds] if isinstance(seeds, (int, np.integer)) else list(seeds)
    if not seeds:
        raise UsageError("Rendering scenes needs at least one seed.")
    draws = Draws(seeds)
    outdoor = is_outdoor(draws, options)
    parts: list[SceneBatch] = []
    places: list[np.ndarray] = []
    for kind in (False, True):
        chosen = np.flatnonzero(outdoor == kind)
        if len(chosen):
            chosen_draws = Draws([seeds[i] for i in chosen])
            scenes = draw_scenes(chosen_draws, kind, views, height, width, options, str(device))
            parts.append(_render(scenes, height, width, options))
            places.append(chosen)
    if len(parts) == 1:
        return parts[0]
    order = torch.from_numpy(np.argsort(np.concatenate(places))).to(device)
    return _joined(parts)[order]


@torch.no_grad()
def render_in_parts(
    seed: int, views: int, height: int, width: int, options: SceneOptions, views_at_once: int = 64
) -> Iterator[SceneBatch]:
    """The scene that `render_scenes` gives for one seed, on the CPU, a few views at a time and in order."""
    draws = Draws([seed])
    outdoor = bool(is_outdoor(draws, options)[0])
    scenes = draw_scenes(draws, outdoor, views, height, width, options, "cpu")
    for view in range(0, views, views_at_once):
        part = scenes.part(slice(0, 1), slice(view, view + views_at_once))
        yield _render(part, height, width, options)


def _render(scenes: Scenes, height: int, width: int, options: SceneOptions) -> SceneBatch:
    """All views of scenes of one kind, in pieces of a bounded number of rays."""
    count, views = scenes.eye.shape[:2]
    samples = options.samples_per_side
    device = scenes.eye.device
    pictures = options.pictures if options.picture_share > 0 else None
    bank = texture_bank(options.texture_bank_seed, str(device), pictures)
    most = _RAYS_AT_ONCE["cpu" if device.type == "cpu" else "other"]
    views_at_once = max(1, min(views, most // (height * width * samples**2)))
    scenes_at_once = max(1, most // (views_at_once * height * width * samples**2))
    rows = []
    for scene in range(0, count, scenes_at_once):
        columns = []
        for view in range(0, views, views_at_once):
            part = scenes.part(slice(scene, scene + scenes_at_once), slice(view, view + views_at_once))
            columns.append(_render_part(part, height, width, samples, bank))
        rows.append(columns[0] if len(columns) == 1 else _joined(columns, dim=1))
    return rows[0] if len(rows) == 1 else _joined(rows)


def _render_part(scenes: Scenes, height: int, width: int, samples: int, bank) -> SceneBatch:
    rays = camera_rays(scenes, height, width, samples)
    hits = cast(scenes, rays)
    colours, normals = shade(scenes, rays, hits, bank)
    count, views = scenes.eye.shape[:2]
    fine = (count, views, height, samples, width, samples)
    middle = samples // 2

    def central(value: Tensor) -> Tensor:
        return value.view(*fine, *value.shape[3:])[:, :, :, middle, :, middle]

    z_depth = central(hits.z_depth)
    valid = torch.isfinite(z_depth)
    z_depth = torch.where(valid, z_depth, 0.0)
    directions = torch.stack([central(ray) for ray in rays], -1)
    points = scenes.eye[:, :, None, None] + z_depth[..., None] * directions
    images = colours.view(*fine, 3)
    images = images.mean((3, 5)) if samples > 1 else images[:, :, :, 0, :, 0]
    return SceneBatch(
        images=images.movedim(-1, 2).contiguous(),
        z_depth=z_depth,
        world_points=points * valid[..., None],
        cam_from_world=scenes.cam_from_world,
        intrinsics=scenes.intrinsics,
        valid=valid,
        normals=central(normals),
    )


def _joined(parts: Sequence[SceneBatch], dim: int = 0) -> SceneBatch:
    return SceneBatch(
        **{name: torch.cat([getattr(part, name) for part in parts], dim) for name in vars(parts[0])}
    )
