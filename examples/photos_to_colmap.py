"""A folder of photos to a COLMAP model with tracks, at the photos' own resolution.

python examples/photos_to_colmap.py photos/ out/
"""

from __future__ import annotations

import argparse
from pathlib import Path

import manyview


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="auto", help="da3-base, facebook/VGGT-1B, a weights file, ...")
    parser.add_argument("--accel", default="auto", help="dense, auto, avggt, httm, flash, ...")
    args = parser.parse_args()

    model = manyview.load(args.model)
    scene = manyview.reconstruct(args.photos, model, accel=args.accel)
    scene.save(args.out / "result", overwrite=True)
    for path in scene.export(args.out / "colmap", "colmap", overwrite=True):
        print(path)
    seconds = scene.timings_s["forward"]
    print(f"{len(scene.views)} views, {scene.settings['accel']} attention, {seconds:.2f} s")


if __name__ == "__main__":
    main()
