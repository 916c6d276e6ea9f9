"""Frames as they come: cameras and depth of each chunk at once, with bounded memory.

python examples/live_stream.py walk.mp4
"""

from __future__ import annotations

import argparse

import manyview


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("frames", help="a video, or a folder of frames in order")
    parser.add_argument("--chunk", type=int, default=4, help="frames that pass the network together")
    args = parser.parse_args()

    model = manyview.load("manyview-flash-stream")
    for update in manyview.stream(args.frames, model, chunk=args.chunk):
        centres = -update.cam_from_world[:, :, :3].transpose(1, 2) @ update.cam_from_world[:, :, 3:]
        last = update.first + len(update) - 1
        print(f"frames {update.first} to {last}: last camera at {centres[-1, :, 0].tolist()}")


if __name__ == "__main__":
    main()
