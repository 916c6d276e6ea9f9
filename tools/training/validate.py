"""`python -m tools.training.validate MODEL --photos SET... --textures FOLDER`: choose between weights.

MODEL is a run's folder, a file or a name. Each SET is a folder of photographs with cameras (a COLMAP model):
once all views (at most 24, evenly spread), and groups of 8 views near each other; without depth. FOLDER has
pictures for the surfaces of rendered scenes. Sets and pictures must be none of those that weights were
trained on, nor those of the final tables.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from manyview.datasets import read_posed_set
from manyview.datasets.posed_set import PosedSet
from manyview.evaluate.metrics.pose import PairErrors, auc, pair_errors
from manyview.evaluate.runner.synthetic import evaluate_synthetic
from manyview.geometry.cameras import pose_encoding_to_cameras
from manyview.models.vggt.model import VGGT
from manyview.synthetic import SceneOptions
from manyview.train.grow import load_trainable
from manyview.train.state import has_state
from manyview.train.weights import trained_model

_GROUPS, _VIEWS, _WINDOW = 4, 8, 16


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.training.validate", description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--photos", nargs="*", type=Path, default=[])
    parser.add_argument("--textures", type=Path)
    parser.add_argument("--size", type=int, help="longer side of the images (default: the model's)")
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    run = Path(options.model)
    model = trained_model(run) if has_state(run) else load_trainable(options.model)
    size = options.size or model.config.image_size
    table: dict[str, dict[str, float]] = {}
    for folder in options.photos:
        table[folder.name] = on_photographs(model, read_posed_set(folder), size)
    if table:
        table["mean of photographs"] = {k: float(np.mean([row[k] for row in table.values()])) for k in
                                        next(iter(table.values()))}  # fmt: skip
    for name, scenes in rendered_scenes(options.textures).items():
        found = evaluate_synthetic(model, ("dense",), options.scenes, _VIEWS, options=scenes, baselines=False)
        row = found.rows["dense"]
        names = {"auc_5": "auc_5", "auc_30": "auc_30", "rotation": "rotation_median_deg",
                 "direction": "translation_median_deg", "abs_rel": "abs_rel"}  # fmt: skip
        table[name] = {ours: _number(row[theirs]) for ours, theirs in names.items()}
    columns = ["auc_5", "auc_30", "auc_30_groups", "rotation", "direction", "focal_%", "abs_rel"]
    print(f"| {options.model} | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1))
    for name, row in table.items():
        cells = (f"{row[column]:.3g}" if column in row else "" for column in columns)
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(table, indent=1), "utf-8")
    return 0


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def rendered_scenes(pictures: Path | None) -> dict[str, SceneOptions]:
    """The presets, and scenes of pictures if there are any."""
    found = {"easy": SceneOptions.easy(), "medium": SceneOptions.medium(), "hard": SceneOptions.hard()}
    if pictures is not None:
        both: dict[str, Any] = {
            "pictures": str(pictures), "picture_share": 0.9, "shadows": 0.8, "gloss": 0.2, "clouds": 0.8,
            "motion": "mixed", "saturation": (0.0, 0.5), "fov_degrees": (35.0, 78.0), "haze_free_share": 1.0,
        }  # fmt: skip
        found["facade"] = SceneOptions.medium(**{**both, "kind": "outdoor", "arrangement": "facade"})
        found["table"] = SceneOptions.medium(**{**both, "kind": "room", "arrangement": "table"})
        street = {"kind": "outdoor", "arrangement": "street", "motion": "forward"}
        found["street"] = SceneOptions.medium(**{**both, **street})
    return found


def on_photographs(model: VGGT, found: PosedSet, size: int) -> dict[str, float]:
    """Figures of one set: of all views, and the mean over groups of neighbours."""
    views = found.spread(24)
    errors, focal = _errors(model, views, size)
    draws = random.Random(found.name)
    groups = []
    for _ in range(_GROUPS):
        start = draws.randrange(max(1, len(found) - _WINDOW + 1))
        there = range(start, min(start + _WINDOW, len(found)))
        chosen = sorted(draws.sample(there, min(_VIEWS, len(there))))
        groups.append(_errors(model, found.select(chosen), size)[0])
    return {
        "auc_5": auc(errors.worst_deg, 5),
        "auc_30": auc(errors.worst_deg, 30),
        "auc_30_groups": float(np.mean([auc(group.worst_deg, 30) for group in groups])),
        "rotation": float(errors.rotation_deg.median()),
        "direction": float(errors.translation_deg.median()),
        "focal_%": 100 * focal,
    }


@torch.no_grad()
def _errors(model: VGGT, found: PosedSet, size: int) -> tuple[PairErrors, float]:
    """(errors of all pairs, median error of focal lengths as a share)."""
    assert found.intrinsics is not None
    patch = model.config.patch_size
    pictures = [Image.open(path).convert("RGB") for path in found.images]
    width, height = pictures[0].size
    scale = size / max(width, height)
    grid = [max(patch, round(side * scale / patch) * patch) for side in (width, height)]
    arrays = [np.asarray(picture.resize(grid, Image.Resampling.BICUBIC)) for picture in pictures]
    images = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)[None].float() / 255
    encoding = model(images).pose_encoding.float()
    cameras, intrinsics = pose_encoding_to_cameras(encoding, grid[1], grid[0])
    truth = torch.from_numpy(found.cam_from_world).float()
    focal = np.array([m[0, 0] / p.width for m, p in zip(found.intrinsics, pictures)])
    own = intrinsics[0, :, 0, 0].numpy() / grid[0]
    return pair_errors(cameras[0], truth), float(np.median(np.abs(own / focal - 1)))


if __name__ == "__main__":
    sys.exit(main())
