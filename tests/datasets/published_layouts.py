"""The same five cameras in the layouts that papers' scripts prepare or benchmarks bring."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from .fixture_files import (
    VIEWS,
    cam_from_world,
    colmap_text,
    depth_values,
    square,
    text,
    world_from_cam,
    write_depth,
    write_image,
)


def write_scannet_90(folder: Path) -> None:
    """MonST3R's preparation of a scan, with the intrinsics of the export beside it."""
    k = np.array([[30, 0, 15.5, 0], [0, 31, 11.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    text(folder / "intrinsic" / "intrinsic_color.txt", k)
    text(folder / "pose_90.txt", square(world_from_cam()).reshape(VIEWS, 16))
    for i in range(VIEWS):
        write_image(folder / "color_90" / f"frame_{i:04}.jpg", i)
        write_depth(folder / "depth_90" / f"frame_{i:04}.png", depth_values(i))


def write_tum_90(folder: Path) -> None:
    """MonST3R's preparation: names stay times, lines are those of the images."""
    cameras = world_from_cam()
    quat_xyzw = Rotation.from_matrix(cameras[:, :, :3]).as_quat()
    time = 1341847980.79 + np.arange(VIEWS)[:, None] * 0.1
    text(folder / "groundtruth_90.txt", np.concatenate([time, cameras[:, :, 3], quat_xyzw], axis=1))
    for i in range(VIEWS):
        write_image(folder / "rgb_90" / f"{time[i, 0] + 0.004:.6f}.png", i)


def write_re10k_pi3(folder: Path) -> None:
    """Pi3's preparation: paths from the root, intrinsics in pixels, 4x4 cam_from_world."""
    frames = []
    for i, matrix in enumerate(square(cam_from_world())):
        write_image(folder / "images" / f"{i:04}.png", i)
        frames.append(
            {
                "idx": i,
                "filepath": f"{folder.name}/images/{i:04}.png",
                "intrinsics": [[30.0, 0.0, 16.0], [0.0, 31.0, 12.0], [0.0, 0.0, 1.0]],
                "extrinsics": matrix.tolist(),
            }
        )
    (folder / "annotations.json").write_text(json.dumps(frames))


def write_scannetpp_iphone(folder: Path) -> None:
    """The official folders: a camera of OPENCV's model, the sensor's depth smaller than the images."""
    names = [f"frame_{10 * i:06}.jpg" for i in range(VIEWS)]
    colmap_text(folder / "iphone" / "colmap", "1 OPENCV 32 24 30 31 16 12 0 0 0 0", names)
    for i, name in enumerate(names):
        write_image(folder / "iphone" / "rgb" / name, i)
        write_depth(folder / "iphone" / "depth" / f"{Path(name).stem}.png", depth_values(i)[::2, ::2])


def write_scannetpp_da3(folder: Path) -> None:
    """DA3-BENCH's: the model also has images of the DSLR, which are not read."""
    part = folder / "merge_dslr_iphone"
    names = [f"iphone/frame_{i:06}.jpg" for i in range(VIEWS)]
    place = part / "colmap" / "sparse_render_rgb"
    colmap_text(place, "1 OPENCV 32 24 30 31 16 12 0 0 0 0", names)
    line = next(line for line in (place / "images.txt").read_text().splitlines() if line.endswith(names[0]))
    more = line.replace("1 ", "9 ", 1).replace(names[0], "dslr/DSC00001.JPG")
    (place / "images.txt").write_text(f"{more}\n\n" + (place / "images.txt").read_text())
    write_image(part / "images" / "dslr" / "DSC00001.JPG", 9)
    for i, name in enumerate(names):
        write_image(part / "images" / name, i)
        write_depth(part / "render_depth" / f"{Path(name).stem}.png", depth_values(i))


def write_hiroom(folder: Path) -> None:
    """cam_from_world as arrays; 16 bit for 100 m; the right half is left out."""
    for name in ("pose", "aliasing_mask"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    np.save(folder / "cam_K.npy", np.array([[30.0, 0, 15.5], [0, 31, 11.5], [0, 0, 1]]))
    mask = np.zeros((24, 32), dtype=np.uint8)
    mask[:, 16:] = 1
    for i, matrix in enumerate(square(cam_from_world())):
        write_image(folder / "image" / f"{i:04}.jpg", i)
        np.save(folder / "pose" / f"{i:04}.npy", matrix)
        write_depth(folder / "depth" / f"{i:04}.png", np.full((24, 32), round(655.35 * (i + 1))))
        Image.fromarray(mask).save(folder / "aliasing_mask" / f"{i:04}.png")


def write_dtu64(folder: Path) -> None:
    """Cameras beside the scan, for all scans."""
    place = folder.parent / "Cameras"
    place.mkdir(parents=True, exist_ok=True)
    for i, matrix in enumerate(square(cam_from_world())):
        write_image(folder / "image" / f"{i:08}.png", i)
        rows = "\n".join(" ".join(f"{v:.17g}" for v in row) for row in matrix)
        k = "30 0 15.5\n0 31 11.5\n0 0 1"
        (place / f"{i:08}_cam.txt").write_text(f"extrinsic\n{rows}\n\nintrinsic\n{k}\n")


def exr_bytes(values: np.ndarray, packed: bool = True) -> bytes:
    """An OpenEXR file of one channel by the format's description, in ZIP blocks of 16 lines or raw lines."""
    height, width = values.shape
    box = struct.pack("<4i", 0, 0, width - 1, height - 1)
    attributes = (
        (b"channels", b"chlist", b"Y\0" + struct.pack("<iIii", 2, 0, 1, 1) + b"\0"),
        (b"compression", b"compression", bytes([3 if packed else 0])),
        (b"dataWindow", b"box2i", box),
        (b"displayWindow", b"box2i", box),
        (b"lineOrder", b"lineOrder", b"\0"),
    )
    header = b"v/1\x01" + struct.pack("<I", 2)
    for name, kind, data in attributes:
        header += name + b"\0" + kind + b"\0" + struct.pack("<i", len(data)) + data
    header += b"\0"
    blocks = []
    for y in range(0, height, 16 if packed else 1):
        data = values[y : y + (16 if packed else 1)].astype("<f4").tobytes()
        if packed:
            halves = np.frombuffer(data[::2] + data[1::2], np.uint8)
            steps = np.diff(halves, prepend=halves[:1]) + np.uint8(128)
            steps[0] = halves[0]
            smaller = zlib.compress(steps.tobytes())
            data = smaller if len(smaller) < len(data) else data
        blocks.append(struct.pack("<ii", y, len(data)) + data)
    starts = len(header) + 8 * len(blocks) + np.cumsum([0, *map(len, blocks[:-1])])
    return header + struct.pack(f"<{len(blocks)}Q", *starts.tolist()) + b"".join(blocks)


def write_waymo(folder: Path) -> None:
    """Two cameras of a segment, the second elsewhere."""
    for camera in (1, 2):
        for i, matrix in enumerate(square(world_from_cam())):
            stem = folder / f"{i:05}_{camera}"
            write_image(stem.with_suffix(".jpg"), i)
            matrix[:3, 3] += camera - 1
            k = np.array([[30, 0, 15.5], [0, 31, 11.5], [0, 0, 1]], dtype=np.float32)
            np.savez(stem.with_suffix(".npz"), intrinsics=k, cam2world=matrix, distortion=np.zeros(5))
            values = np.zeros((24, 32))
            values[::2] = i + camera
            stem.with_suffix(".exr").write_bytes(exr_bytes(values))


def write_nyu(image: Path) -> None:
    """One of the images that MonST3R's preparation writes, at `val/nyu_images/NAME.png`."""
    write_image(image, 0)
    depth = image.parent.parent / "nyu_depths" / f"{image.stem}.npy"
    depth.parent.mkdir(parents=True, exist_ok=True)
    values = np.full((24, 32), 2.5)
    values[0] = 0
    np.save(depth, values)


LAYOUTS = {
    "scannet 90": write_scannet_90,
    "tum 90": write_tum_90,
    "realestate10k pi3": write_re10k_pi3,
    "scannet++": write_scannetpp_iphone,
    "scannet++ da3": write_scannetpp_da3,
    "hiroom": write_hiroom,
    "dtu-64": write_dtu64,
    "waymo": write_waymo,
}
