"""CPU seconds that the host spends around a pass: `python -m tools.results.host --views 1000`.

Images in memory become the network's, are hashed, and predictions become a result. The pass itself is left
out: predictions are there at once. CPU time is hardly changed by other programs; on a card with more cores
reading is shared by several threads, and the hash is made while the card computes.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import sys
import time
from typing import Any

import numpy as np
import torch

from manyview.models.network import Network, Predictions
from manyview.models.part_configs import EncoderConfig
from manyview.models.vggt.config import VGGT_1B
from manyview.reconstruction.run.options import ReconstructOptions
from manyview.reconstruction.run.prepare import prepare
from manyview.reconstruction.run.settings import images_sha256
from manyview.reconstruction.run.whole import run_whole
from tools.command import run_command


@dataclasses.dataclass(frozen=True)
class HostTime:
    """Time what `reconstruct` does around a pass."""

    views: int = 1000
    """Images, uint8 arrays of the network's size."""
    size: tuple[int, int] = (518, 392)
    """WIDTH HEIGHT in pixels."""


class _Instant(Network):
    """Predictions that took no time: a wall, seen by a row of cameras."""

    def __init__(self, views: int, width: int, height: int) -> None:
        small = EncoderConfig(depth=1, num_heads=1)
        taps = (0, 1, 2, 3)
        config = dataclasses.replace(VGGT_1B, dim=64, num_heads=1, depth=4, taps=taps, encoder=small)
        super().__init__(dataclasses.replace(config, image_size=max(width, height)))
        self.maps = torch.ones(2, 1, views, height, width)

    def forward(self, images: torch.Tensor, *rest: Any, **named: Any) -> Predictions:
        count, _, height, width = images.shape
        result = Predictions(height, width, self.config.layout(count, height, width))
        result.z_depth, result.depth_conf = self.maps[:, :, :count]
        cameras = torch.eye(3, 4).repeat(1, count, 1, 1)
        cameras[0, :, 0, 3] = torch.linspace(0, 1, count)
        focal = [[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]]
        result.cameras = cameras, torch.tensor(focal).repeat(1, count, 1, 1)
        return result


def host_seconds(options: HostTime) -> dict[str, float]:
    """CPU seconds by step, and the peak of the process in MiB."""
    width, height = options.size
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    images = [np.roll(noise, index, axis=1) for index in range(options.views)]
    model = _Instant(options.views, *options.size)
    wanted = ReconstructOptions(accel="dense", precision="fp32", device="cpu")
    few = prepare(images[:2], model, wanted)  # what is loaded on first use
    run_whole(few, model)
    started = time.process_time()
    ready = prepare(images, model, wanted)
    prepared = time.process_time()
    images_sha256(ready.views)
    hashed = time.process_time()
    scene = run_whole(ready, model)
    done = time.process_time()
    scene.with_quality()
    quality = time.process_time() - done
    return {
        "views": options.views,
        "read": round(max(0.0, 2 * prepared - started - hashed), 2),
        "hash": round(hashed - prepared, 2),
        "result": round(max(0.0, done - hashed - quality), 2),
        "quality": round(quality, 2),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def _print(options: HostTime) -> None:
    sys.stdout.write(json.dumps(host_seconds(options)) + "\n")


def main() -> int:
    return run_command(HostTime, _print, "tools.results.host")


if __name__ == "__main__":
    raise SystemExit(main())
