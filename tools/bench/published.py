"""What papers report and what this library aims at, as data with sources.

Seconds are end to end for VGGT's size on images of 518x392. Papers differ in cards, and in what they count.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

SPEED_MODEL = "vggt-1b"
SPEED_SIZE = [518, 392]


@dataclasses.dataclass(frozen=True)
class Target:
    """One aim at a number of `frames`, on one H200.

    `measure`: "seconds" and "gigabytes" (of peak memory) are met from below, "times dense" from above.
    `plan`: the preset it is about, None for the fastest that is no mere baseline. `published`: the best
    figures of others, with card and source.
    """

    frames: int
    measure: Literal["seconds", "gigabytes", "times dense"]
    bound: float
    published: str
    plan: str | None = None


TARGETS = (
    Target(100, "seconds", 1.2, "1.4 PaceVGGT, H100 (arXiv 2605.08371); 1.54 FlashVGGT, H800 (2512.01540)"),
    Target(300, "seconds", 2.5, "4.2 and 6.6 Speed3R on π³ and VGGT, H100 (2603.08055); 7.4 PaceVGGT, H100"),
    Target(1000, "seconds", 6.0, "16.4 Speed3R on π³, H100, 1,024 frames; 35.3 FlashVGGT, H800"),
    Target(1000, "times dense", 30.0, "28 Spark3R, H20: 38.4-41.3 s of 994-1163 s (2605.06270)"),
    Target(3000, "seconds", 20.0, "146.3 FlashVGGT in chunks, H800, 3,524 frames; nobody in one pass"),
    Target(3000, "gigabytes", 130.0, "nobody in one pass"),
    Target(800, "times dense", 8.0, "7.9: 50.0 s of 397.1 s, A100 (2512.02541); claimed 8-10", "avggt"),
    Target(1000, "times dense", 7.0, "7.0: 102.8 s of 724.6 s, A100 (2511.21317)", "httm"),
    Target(1000, "times dense", 10.7, "10.6-10.9: 35.3 s of 372.8-386 s, H800 (2512.01540)", "flash"),
)

MEMORY_TARGET_MB = 20.0
MEMORY_PUBLISHED = "62.4 VGGT, 66.6 FastVGGT, 54.6 FlashVGGT (2512.01540, H800); 195 VGGT's own aggregator"

# Plans to compare with: no paper's method, and not accurate.
BASELINES = ("dense", "frame", "random")
