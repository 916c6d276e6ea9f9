"""Images from anywhere (a camera, a simulator, a data loader) as arrays, and what comes back as arrays.

python examples/arrays.py
"""

from __future__ import annotations

import numpy as np

import manyview
from manyview.synthetic import demo_scene


def main() -> None:
    truth = demo_scene(views=6)
    images = truth.images[0]  # [views, 3, height, width]; arrays, Pillow images and paths work too
    model = manyview.load("manyview-small")
    scene = manyview.reconstruct(images, model, image_size=112)  # small for the sake of speed

    print("camera poses (cam_from_world)", scene.cam_from_world.shape)
    print("intrinsics", scene.intrinsics.shape)
    print("z-depth", scene.z_depth.shape)
    cloud = scene.point_cloud()
    print(f"{len(cloud)} points, first camera at {np.round(scene.cam_from_world[0, :, 3], 3)}")


if __name__ == "__main__":
    main()
