"""The same five cameras written by hand in the formats of `manyview.datasets`, with images and depth."""

from __future__ import annotations

import gzip
import json
import struct
import sys
import types
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
from .published_layouts import LAYOUTS


def write_plain(folder: Path) -> None:
    text(folder / "poses.txt", square(world_from_cam()).reshape(VIEWS, 16))
    text(folder / "intrinsics.txt", np.array([[30, 0, 15.5], [0, 31, 11.5], [0, 0, 1]]))
    for i in range(VIEWS):
        write_image(folder / "color" / f"{i}.png", i)
        write_depth(folder / "depth" / f"{i}.png", depth_values(i))


def write_seven_scenes(folder: Path) -> None:
    for i, matrix in enumerate(square(world_from_cam())):
        write_image(folder / f"frame-{i:06}.color.png", i)
        text(folder / f"frame-{i:06}.pose.txt", matrix)
        write_depth(folder / f"frame-{i:06}.depth.png", depth_values(i))


def write_kitti(folder: Path) -> None:
    """The official layout: `folder` is a sequence, its poses are two levels up."""
    text(folder.parent.parent / "poses" / f"{folder.name}.txt", world_from_cam().reshape(VIEWS, 12))
    calib = "P0: 30 0 15.5 0 0 31 11.5 0 0 0 1 0\nP2: 30 0 15.5 6 0 31 11.5 3.1 0 0 1 0\nTr: 1 0\n"
    for i in range(VIEWS):
        write_image(folder / "image_0" / f"{i:06}.png", i)
    (folder / "calib.txt").write_text(calib)


def write_tum(folder: Path) -> None:
    cameras = world_from_cam()
    quat_xyzw = Rotation.from_matrix(cameras[:, :, :3]).as_quat()
    time = 1341847980.79 + np.arange(VIEWS)[:, None] * 0.5
    # Between each camera and the next a line that no image is near to.
    rows = np.concatenate([time, cameras[:, :, 3], quat_xyzw], axis=1)
    far = np.concatenate([time + 0.25, np.tile([9.0, 9, 9, 0, 0, 0, 1], (VIEWS, 1))], axis=1)
    text(folder / "groundtruth.txt", np.concatenate([far, rows]))
    for i in range(VIEWS):
        write_image(folder / "rgb" / f"{time[i, 0] + 0.004:.6f}.png", i)
        write_depth(folder / "depth" / f"{time[i, 0] - 0.006:.6f}.png", 5 * depth_values(i))


def write_strecha(folder: Path) -> None:
    for i, matrix in enumerate(world_from_cam()):
        write_image(folder / "images" / f"{i:04}.jpg", i)
        # For images of twice the size that lie in the folder.
        rows = [[60, 0, 31.5], [0, 62, 23.5], [0, 0, 1], [0, 0, 0], *matrix[:, :3], matrix[:, 3], [64, 48]]
        path = folder / "gt_dense_cameras" / f"{i:04}.jpg.camera"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(" ".join(f"{v:.17g}" for v in row) + " " for row in rows) + "\n")


def write_nrgbd(folder: Path) -> None:
    """OpenGL axes: camera x right, y up, z backwards."""
    matrices = square(world_from_cam() * np.array([1.0, -1, -1, 1]))
    text(folder / "poses.txt", matrices.reshape(-1, 4))
    for i in range(VIEWS):
        write_image(folder / "images" / f"img{i}.png", i)
        values = depth_values(i)  # row 1 is 65.5 m, beyond what counts
        write_depth(folder / "depth" / f"depth{i}.png", values)


def write_scannet(folder: Path) -> None:
    k = np.array([[30, 0, 15.5, 0], [0, 31, 11.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    text(folder / "intrinsic" / "intrinsic_color.txt", k)
    for i, matrix in enumerate(square(world_from_cam())):
        write_image(folder / "color" / f"{i}.jpg", i)
        text(folder / "pose" / f"{i}.txt", matrix)
        write_depth(folder / "depth" / f"{i}.png", depth_values(i))


def write_realestate(folder: Path) -> None:
    """Pictures in frames/test/SEQ/, cameras in test/SEQ.txt, as users of the dataset mostly have it."""
    lines = ["https://www.youtube.com/watch?v=x"]
    for i, matrix in enumerate(cam_from_world()):
        time = (i + 7) * 1_000_000
        write_image(folder / f"{time}.png", i)
        numbers = [30 / 32, 31 / 24, 0.5, 0.5, 0, 0, *matrix.ravel()]
        lines.append(f"{time} " + " ".join(f"{v:.17g}" for v in numbers))
    (folder.parent / f"{folder.name}.txt").write_text("\n".join(lines) + "\n")


def write_sintel(folder: Path) -> None:
    root, name = folder.parent.parent, folder.name
    for i, matrix in enumerate(cam_from_world()):
        stem = f"frame_{i + 1:04}"
        write_image(folder / f"{stem}.png", i)
        k = np.array([[30, 0, 15.5], [0, 31, 11.5], [0, 0, 1]])
        camera = root / "camdata_left" / name / f"{stem}.cam"
        camera.parent.mkdir(parents=True, exist_ok=True)
        tag = struct.pack("<f", 202021.25)
        camera.write_bytes(tag + np.concatenate([k.ravel(), matrix.ravel()]).astype("<f8").tobytes())
        depth = root / "depth" / name / f"{stem}.dpt"
        depth.parent.mkdir(parents=True, exist_ok=True)
        values = depth_values(i).astype("<f4") / 1000
        depth.write_bytes(tag + struct.pack("<ii", 32, 24) + values.tobytes())


def write_dtu(folder: Path) -> None:
    """Depth of odd views as PFM; masks leave out the right half."""
    for directory in ("cams", "depths", "binary_masks"):
        (folder / directory).mkdir(parents=True, exist_ok=True)
    for i, matrix in enumerate(square(cam_from_world())):
        stem = f"{i:08}"
        write_image(folder / "images" / f"{stem}.jpg", i)
        rows = "\n".join(" ".join(f"{v:.17g}" for v in row) for row in matrix)
        k = "30 0 15.5\n0 31 11.5\n0 0 1"
        (folder / "cams" / f"{stem}_cam.txt").write_text(f"extrinsic\n{rows}\n\nintrinsic\n{k}\n\n425 2.5\n")
        values = depth_values(i).astype("<f4") / 1000
        if i % 2:
            (folder / "depths" / f"{stem}.pfm").write_bytes(b"Pf\n32 24\n-1.0\n" + values[::-1].tobytes())
        else:
            np.save(folder / "depths" / f"{stem}.npy", values)
        mask = np.full((24, 32), 255, dtype=np.uint8)
        mask[:, 20:] = 0
        Image.fromarray(mask).save(folder / "binary_masks" / f"{stem}.png")


def write_colmap(folder: Path) -> None:
    """A model for images of twice the size that lie in the folder."""
    for i in range(VIEWS):
        write_image(folder / "images" / f"{i}.jpg", i)
    colmap_text(folder / "sparse" / "0", "1 PINHOLE 64 48 60 62 32 24", [f"{i}.jpg" for i in range(VIEWS)])


def write_colmap_binary(folder: Path) -> None:
    write_colmap(folder)
    place = folder / "sparse" / "0"
    for name in ("cameras.txt", "images.txt"):
        (place / name).unlink()
    (place / "cameras.bin").write_bytes(struct.pack("<QiiQQ4d", 1, 1, 1, 64, 48, 60, 62, 32, 24))
    quats = Rotation.from_matrix(cam_from_world()[:, :, :3]).as_quat()
    data = struct.pack("<Q", VIEWS)
    for i, (q, matrix) in enumerate(zip(quats, cam_from_world())):
        data += struct.pack("<i7di", i + 1, q[3], q[0], q[1], q[2], *matrix[:, 3], 1)
        data += f"{i}.jpg".encode() + b"\0" + struct.pack("<Q", i) + struct.pack("<ddq", 1.0, 2.0, -1) * i
    (place / "images.bin").write_bytes(data)


def write_eth3d(folder: Path) -> None:
    """A lens without distortion, so that the depth of the original is that of the undistorted image."""
    names = [f"dslr_images_undistorted/DSC_{i:04}.JPG" for i in range(VIEWS)]
    for i, name in enumerate(names):
        write_image(folder / "images" / name, i)
    colmap_text(folder / "dslr_calibration_undistorted", "1 PINHOLE 32 24 30 31 16 12", names)
    lens = "1 THIN_PRISM_FISHEYE 64 48 60 62 32 24 0 0 0 0 0 0 0 0"
    colmap_text(folder / "dslr_calibration_jpg", lens, [n.replace("_undistorted", "") for n in names])
    truth = folder / "ground_truth_depth" / "dslr_images"
    truth.mkdir(parents=True)
    for i, name in enumerate(names):
        values = np.full((48, 64), i + 1, dtype="<f4")
        values[:8] = np.inf
        values.tofile(truth / Path(name).name)


def write_co3d(folder: Path) -> None:
    """PyTorch3D cameras: x to the left, y up, row vectors; NDC of the shorter side."""
    frames = []
    for i, matrix in enumerate(cam_from_world()):
        write_image(folder / "images" / f"frame{i + 1:06}.jpg", i)
        flip = np.array([-1.0, -1, 1])
        viewpoint = {
            "R": (matrix[:, :3].T * flip).tolist(),
            "T": (matrix[:, 3] * flip).tolist(),
            "focal_length": [30 / 12, 31 / 12],
            "principal_point": [0.0, 0.0],
            "intrinsics_format": "ndc_isotropic",
        }
        path = f"{folder.parent.name}/{folder.name}/images/frame{i + 1:06}.jpg"
        frames.append({"sequence_name": folder.name, "image": {"path": path}, "viewpoint": viewpoint})
    with gzip.open(folder.parent / "frame_annotations.jgz", "wt") as file:
        json.dump(frames, file)


WRITERS = {
    "plain": write_plain,
    "7-scenes": write_seven_scenes,
    "kitti": write_kitti,
    "tum": write_tum,
    "strecha": write_strecha,
    "nrgbd": write_nrgbd,
    "scannet": write_scannet,
    "realestate10k": write_realestate,
    "sintel": write_sintel,
    "dtu": write_dtu,
    "colmap": write_colmap,
    "colmap binary": write_colmap_binary,
    "eth3d": write_eth3d,
    "co3d": write_co3d,
}


def write_tanks(folder: Path) -> None:
    """The log's world is half as large, turned and moved; the similarity leads back."""
    turn = Rotation.from_rotvec([0.4, -1.0, 0.3]).as_matrix()
    similarity = np.eye(4)
    similarity[:3, :3], similarity[:3, 3] = 2 * turn, [3, -1, 5]
    back = np.linalg.inv(similarity)
    lines = []
    for i, matrix in enumerate(square(world_from_cam())):
        write_image(folder / "images" / f"{i + 1:06}.jpg", i)
        own = matrix.copy()
        own[:3, :3] = turn.T @ matrix[:3, :3]
        own[:3, 3] = back[:3, :3] @ matrix[:3, 3] + back[:3, 3]
        lines += [f"{i} {i} 0", *(" ".join(f"{v:.17g}" for v in row) for row in own)]
    (folder / f"{folder.name}_COLMAP_SfM.log").write_text("\n".join(lines) + "\n")
    text(folder / f"{folder.name}_trans.txt", similarity)


# The sensor on the body of the motion capture, as the dataset's page has it.
_BONN_SENSOR = np.array(
    [
        [1.0157, 0.1828, -0.2389, 0.0113],
        [0.0009, -0.8431, -0.6413, -0.0098],
        [-0.3009, 0.6147, -0.8085, 0.0111],
    ]
)


def write_bonn(folder: Path) -> None:
    """TUM's files; the track is such that T_ros T T_ros T_m are the cameras."""
    write_tum(folder)
    axes = np.eye(4)
    axes[:3, :3] = [[-1, 0, 0], [0, 0, 1], [0, 1, 0]]
    sensor = np.eye(4)
    sensor[:3] = _BONN_SENSOR
    u, _, vh = np.linalg.svd(sensor[:3, :3])
    sensor[:3, :3] = u @ vh
    bodies = axes @ square(world_from_cam()) @ np.linalg.inv(sensor) @ axes
    quat_xyzw = Rotation.from_matrix(bodies[:, :3, :3]).as_quat()
    table = np.loadtxt(folder / "groundtruth.txt")
    table[VIEWS:, 1:4], table[VIEWS:, 4:] = bodies[:, :3, 3], quat_xyzw
    text(folder / "groundtruth.txt", table)


def write_imc(folder: Path) -> None:
    """`folder` is set_100; calibration files are NumPy's, which `fake_h5py` reads as if they were HDF5."""
    for i, matrix in enumerate(cam_from_world()):
        write_image(folder / "images" / f"{i}_x.jpg", i)
        path = folder / "calibration" / f"calibration_{i}_x.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        k = np.array([[30.0, 0, 16], [0, 31, 12], [0, 0, 1]])
        with path.open("wb") as file:
            np.savez(file, K=k, R=matrix[:, :3], T=matrix[:, 3])
    bag = folder / "sub_set" / "3bag_000.txt"
    bag.parent.mkdir()
    bag.write_text("".join(f"{folder.parent.name}/set_100/images/{i}_x.jpg\n" for i in (4, 0, 2)))


def fake_h5py(monkeypatch) -> None:
    """h5py is no dependency; a stand-in that reads what `write_imc` wrote."""

    class File:
        def __init__(self, path: Path, mode: str) -> None:
            try:
                self.data = np.load(path)
            except ValueError as error:
                raise OSError("no HDF5 file") from error

        def __enter__(self):
            return self.data

        def __exit__(self, *error) -> None:
            self.data.close()

    monkeypatch.setitem(sys.modules, "h5py", types.SimpleNamespace(File=File))


def write_kitti_depth(folder: Path) -> None:
    """A drive below val/ with its images in the raw drive; the first two images have no depth."""
    raw = folder.parent.parent / folder.name[:10] / folder.name / "image_02" / "data"
    for i in range(VIEWS + 2):
        write_image(raw / f"{i:010}.png", i)
        if i >= 2:
            values = 256 * (i - 1) * np.ones((24, 32))
            values[::2] = 0
            write_depth(folder / "proj_depth" / "groundtruth" / "image_02" / f"{i:010}.png", values)


WRITERS["tanks"] = write_tanks
WRITERS |= LAYOUTS
DATASET_WRITERS = {**WRITERS, "bonn": write_bonn, "kitti-depth": write_kitti_depth, "imc": write_imc}
