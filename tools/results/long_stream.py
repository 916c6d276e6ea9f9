"""Evidence on a long stream: is time and memory flat, and how does accuracy go over time?

`python -m tools.results.long_stream OUT` renders a procedural walk, streams it with `manyview stream` in a
process of its own, and compares with the exact truth; with `--video` and `--poses` a recorded one. What
follows `--` goes to `manyview stream`: `... OUT --frames 3000 -- --engine anchors --chunk 8`.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from jaxtyping import Float
from PIL import Image
from torch import Tensor

import manyview
from manyview.errors import InputError
from manyview.evaluate.metrics.pose import auc, pair_errors
from manyview.geometry.align import umeyama
from manyview.geometry.angles import rotation_angle_deg
from manyview.geometry.cameras import invert_rigid
from manyview.streaming.chart import draw
from manyview.synthetic import SceneOptions
from manyview.synthetic.held_out import HELD_OUT_BANK, HELD_OUT_SEED
from manyview.synthetic.render import render_in_parts

_DEPTH_STEP = 8  # every 8th pixel of the true depth is kept


@dataclasses.dataclass(frozen=True)
class LongRun:
    """Stream a long sequence; milliseconds, bytes and errors along it."""

    out: tyro.conf.Positional[Path]
    """Folder for images, the stream's result, `long_run.json`, `long_run.md` and `long_run.png`."""
    frames: int = 3000
    """Frames of the procedural walk."""
    seed: int = HELD_OUT_SEED + 14
    """Which procedural room."""
    size: int = 112
    """Side of its images in pixels."""
    video: Path | None = None
    """A video instead of a procedural walk."""
    poses: Path | None = None
    """Its cameras: a line of 16 numbers for each frame, a 4x4 camera-to-world matrix, row by row."""
    windows: int = 10
    """Parts of the sequence, a row of the table each."""


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    extra = given[given.index("--") + 1 :] if "--" in given else []
    args = tyro.cli(LongRun, args=given[: len(given) - len(extra) - bool("--" in given)])
    result = args.out / "result"
    source, truth, depth = _sequence(args)
    command = [sys.executable, "-m", "manyview.cli.main", "stream", str(source), str(result), "--to", "none"]
    status = subprocess.run([*command, "--resume", *extra], check=False).returncode
    if status:
        return status
    scene = manyview.load_reconstruction(result)
    lines = (result / "stream" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    log = [json.loads(line) for line in lines]
    numbers = [record.video_frame for record in scene.views]
    kept = torch.tensor([i if n is None else n for i, n in enumerate(numbers)])
    if len(truth) <= int(kept.max()):
        raise InputError(f"there are {len(truth)} true cameras for frame {int(kept.max())}")
    found_depth = None if depth is None else torch.from_numpy(scene.z_depth.copy())
    rows = along(
        torch.from_numpy(scene.cam_from_world.copy()), truth[kept], found_depth, depth, log, args.windows
    )
    report = {"command": [*command[3:], *extra], "settings": scene.settings, "windows": rows, "log": log}
    (args.out / "long_run.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    (args.out / "long_run.md").write_text(table(rows), encoding="utf-8")
    draw(log, args.out / "long_run.png", rows)
    sys.stdout.write(table(rows))
    return 0


def along(
    found: Float[Tensor, "frames 3 4"],
    truth: Float[Tensor, "frames 3 4"],
    found_depth: Float[Tensor, "frames height width"] | None,
    true_depth: Float[Tensor, "frames rows columns"] | None,
    log: list[dict[str, Any]],
    windows: int,
) -> list[dict[str, float]]:
    """Errors of cam_from_world cameras, and time and memory, in equal parts of the sequence.

    `rotation_deg`: median angle to the true rotation, both since frame 0, so without any alignment.
    `centre_error`: root mean square distance of the centres after one similarity for the whole sequence, as
    a share of their extent. `auc30`: relative poses within the part, in VGGT's protocol. `depth_scale`:
    median of true over found depth, over that of the first part: 1 is no drift of scale.
    """
    world, true_world = invert_rigid(found.double()), invert_rigid(truth.double())
    scale, rotation, shift = umeyama(world[..., 3], true_world[..., 3])
    centred = true_world[..., 3] - true_world[..., 3].mean(0)
    off = (scale * world[..., 3] @ rotation.T + shift - true_world[..., 3]).norm(dim=-1)
    since_0 = [x[0, :, :3].T @ x[..., :3] for x in (world, true_world)]
    angle = rotation_angle_deg(since_0[1].transpose(-1, -2) @ since_0[0])
    rows = []
    for part in torch.arange(len(found)).tensor_split(windows):
        pick = part[:: max(1, len(part) // 50)]  # pairs grow with the square
        lines = [line for line in log if part[0] <= line["first"] <= part[-1]]
        row = {
            "first": int(part[0]),
            "rotation_deg": float(angle[part].median()),
            "centre_error": float(off[part].square().mean().sqrt() / centred.square().sum(-1).mean().sqrt()),
            "auc30": auc(pair_errors(found[pick], truth[pick]).worst_deg, 30),
            "ms_per_frame": float(np.median([line["ms_per_frame"] for line in lines])),
            "memory_mib": max(line["memory_bytes"] for line in lines) / 2**20,
            "process_mib": max(line.get("resident_bytes", 0) for line in lines) / 2**20,
        }
        if found_depth is not None and true_depth is not None:
            # The kept pixels in a depth map of any size, as both cover the same image.
            y, x = (
                ((torch.arange(kept) + 0.5) * own / kept).long()
                for kept, own in zip(true_depth.shape[1:], found_depth.shape[1:], strict=True)
            )
            near = found_depth[part][:, y[:, None], x]
            there = true_depth[part] > 0
            row["depth_scale"] = float((true_depth[part][there] / near[there]).median())
        rows.append(row)
    for row in rows[::-1]:
        if "depth_scale" in row:
            row["depth_scale"] /= rows[0]["depth_scale"]
    return rows


def table(rows: list[dict[str, float]]) -> str:
    """The rows as a Markdown table."""
    names = list(rows[0])
    lines = [" | ".join(names), " | ".join("---" for _ in names)]
    lines += [" | ".join(f"{row[name]:.4g}" for name in names) for row in rows]
    return "".join(f"| {line} |\n" for line in lines)


def _sequence(args: LongRun) -> tuple[Path, Tensor, Tensor | None]:
    """Where the frames are, their true cam_from_world cameras, and some of their true depth."""
    if args.video is not None:
        if args.poses is None:
            raise InputError("give the cameras of the video too: --poses FILE")
        poses = torch.from_numpy(np.loadtxt(args.poses).reshape(-1, 4, 4))
        return args.video, invert_rigid(poses[:, :3]), None
    images, truth = args.out / "images", args.out / "truth.npz"
    if not truth.is_file():
        images.mkdir(parents=True, exist_ok=True)
        walk = SceneOptions.medium(kind="room", path="walk", motion="wide", texture_bank_seed=HELD_OUT_BANK)
        cameras: list[Tensor] = []
        depths: list[Tensor] = []
        middle = slice(_DEPTH_STEP // 2, None, _DEPTH_STEP)
        for part in render_in_parts(args.seed, args.frames, args.size, args.size, walk):
            for image, camera in zip(part.images[0], part.cam_from_world[0], strict=True):
                pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
                Image.fromarray(pixels).save(images / f"{len(cameras):06d}.png")
                cameras.append(camera)
            depths.append(torch.where(part.valid, part.z_depth, 0.0)[0, :, middle, middle])
        np.savez(truth, cam_from_world=torch.stack(cameras).numpy(), z_depth=torch.cat(depths).numpy())
    with np.load(truth) as file:
        return images, torch.from_numpy(file["cam_from_world"]), torch.from_numpy(file["z_depth"])


if __name__ == "__main__":
    sys.exit(main())
