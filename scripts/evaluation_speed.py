"""Seconds of what grows with points in an evaluation: python scripts/evaluation_speed.py [--threads 1].

Points are of a room's walls with noise, estimate and truth drawn independently; nothing is read or written.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from manyview.evaluate.metrics.nearest import draw, estimate_normals, icp
from manyview.evaluate.metrics.points import cloud_errors
from manyview.evaluate.metrics.tsdf import TsdfOptions, fuse


def room(count: int, seed: int, noise: float) -> np.ndarray:
    """Points on the six walls of a room of 5 x 4 x 3 metres and on a ball in it."""
    generator = np.random.default_rng(seed)
    size = np.array([5.0, 4.0, 3.0])
    points = generator.random((count, 3)) * size
    axis = generator.integers(0, 3, count)
    points[np.arange(count), axis] = size[axis] * generator.integers(0, 2, count)
    ball = generator.normal(size=(count // 5, 3))
    points[: len(ball)] = [2, 2, 1] + 0.7 * ball / np.linalg.norm(ball, axis=1, keepdims=True)
    return points + noise * generator.normal(size=points.shape)


def views(count: int, height: int = 392, width: int = 518) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(depth, cameras, intrinsics) that look about in the middle of that room without its ball."""
    k = torch.tensor([[450.0, 0, width / 2], [0, 450.0, height / 2], [0, 0, 1]], dtype=torch.float64)
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    rays = torch.stack([(x - k[0, 2]) / k[0, 0], (y - k[1, 2]) / k[1, 1], torch.ones_like(x)], -1).double()
    size = torch.tensor([5.0, 4.0, 3.0], dtype=torch.float64)
    depths, cameras = [], []
    for index in range(count):
        turn = torch.tensor(2 * np.pi * index / count, dtype=torch.float64)
        c, s = turn.cos(), turn.sin()
        world_from_cam = torch.tensor([[c, 0, s], [s, 0, -c], [0, -1, 0]], dtype=torch.float64)
        centre = torch.tensor([2.5 + 0.8 * c, 2 + 0.8 * s, 1.5], dtype=torch.float64)
        ray = rays @ world_from_cam.T
        far = torch.where(ray > 0, size - centre, -centre) / ray
        depths.append(far.nan_to_num(torch.inf).amin(-1))
        rotation = world_from_cam.T
        cameras.append(torch.cat([rotation, -(rotation @ centre)[:, None]], 1))
    return torch.stack(depths), torch.stack(cameras), k.expand(count, 3, 3)


def timed(what: str, call: Callable[[], object]) -> None:
    start, cpu = time.perf_counter(), time.process_time()
    call()
    wall, own = time.perf_counter() - start, time.process_time() - cpu
    print(f"| {what} | {wall:.1f} | {own:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--points", type=int, nargs="+", default=[1_000_000, 3_000_000])
    parser.add_argument("--views", type=int, default=100)
    options = parser.parse_args()
    threads = options.threads
    torch.set_num_threads(threads)
    print("| | wall s | CPU s |\n|---|---:|---:|")
    for count in options.points:
        found, truth = room(count, 0, 0.01), room(count, 1, 0.0)
        name = f"{count / 1e6:g} M points"
        timed(f"{name}: distances both ways", lambda f=found, t=truth: cloud_errors(f, t, workers=threads))
        timed(f"{name}: normals of one cloud", lambda t=truth: estimate_normals(t, workers=threads))
        moving = found[draw(count, 200_000, 0)] + [0.02, -0.01, 0.015]
        timed(
            f"{name}: ICP of 200,000 against all", lambda m=moving, t=truth: icp(m, t, 0.1, workers=threads)
        )
    data = views(options.views)
    timed(f"TSDF of {options.views} views of 518x392", lambda: fuse(*data, TsdfOptions(4 / 512, 0.04)))


if __name__ == "__main__":
    main()
