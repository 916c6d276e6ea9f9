"""The datasets that `manyview evaluate` knows, with the layout in which each is downloaded."""

from __future__ import annotations

from pathlib import Path

from ..errors import UsageError
from . import (
    bonn,
    co3d,
    colmap,
    dtu,
    eth3d,
    imc,
    kitti,
    kitti_depth,
    nrgbd,
    plain,
    realestate,
    scannet,
    seven_scenes,
    sintel,
    strecha,
    tanks,
    tum,
)
from .dataset import Dataset

_CO3D_LEAST = 50


def _co3d_test(folder: Path) -> bool:
    """Sequences of the test annotations with at least 50 pictures and no camera at infinity (VGGT, 4.1)."""
    own = folder.resolve()
    path = co3d.annotation_file(own.parent)
    if path is None:
        return False
    frames = co3d.sequences(path).get(own.name)
    listed = co3d.test_sequences(own.parent)
    if frames is None or not co3d.usable(frames, _CO3D_LEAST):
        return False
    return listed is None or own.name in listed


def _imc_name(name: str) -> str:
    """ "mount_rushmore/5bag_000" for mount_rushmore/set_100/sub_set/5bag_000.txt."""
    return imc.scene_name(name.split("/")[0], Path(name))


DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            "7-scenes",
            "7-Scenes",
            seven_scenes,
            (("", "*/seq-*"), ("", "seq-*")),
            "chess/seq-03/frame-000000.color.png with .depth.png (or .depth.proj.png) and .pose.txt",
            "Microsoft Research, RGB-D Dataset 7-Scenes",
            grouped=True,
        ),
        Dataset(
            "nrgbd",
            "Neural RGB-D",
            nrgbd,
            (("", "*"), ("neural_rgbd_data", "*")),
            "whiteroom/images/img0.png with depth/depth0.png and poses.txt",
            "dazinovic/neural-rgbd-surface-reconstruction",
        ),
        Dataset(
            "scannet",
            "ScanNet",
            scannet,
            (("", "scene*"), ("scans", "scene*"), ("scans_test", "scene*")),
            "scene0000_00/color/0.jpg with pose/0.txt, depth/0.png, intrinsic/intrinsic_color.txt and "
            "scene0000_00_vh_clean_2.ply",
            "ScanNet, exported with its SensReader",
        ),
        Dataset(
            "tum",
            "TUM RGB-D",
            tum,
            (("", "rgbd_dataset_*"),),
            "rgbd_dataset_freiburg3_sitting_xyz/groundtruth.txt with rgb/, rgb.txt, depth/ and depth.txt",
            "TUM, RGB-D SLAM Dataset and Benchmark",
            drop="rgbd_dataset_",
        ),
        Dataset(
            "realestate10k",
            "RealEstate10K",
            realestate,
            (("frames/test", "*"), ("RealEstate10K/test", "*"), ("test", "*")),
            "test/SEQUENCE.txt with frames/test/SEQUENCE/TIMESTAMP.png (or test/SEQUENCE/TIMESTAMP.png)",
            "Google, RealEstate10K; frames from the videos themselves",
        ),
        Dataset(
            "co3d",
            "CO3Dv2",
            co3d,
            (("", "*/*"),),
            "apple/110_13051_23361/images/frame000001.jpg with apple/frame_annotations.jgz or "
            "annotations/apple_test.jgz",
            "facebookresearch/co3d, version 2",
            grouped=True,
            usable=_co3d_test,
        ),
        Dataset(
            "dtu",
            "DTU",
            dtu,
            (("", "scan*"),),
            "scan1/images/00000000.jpg with cams/00000000_cam.txt, depths/00000000.npy and "
            "binary_masks/00000000.png",
            "DTU MVS in MVSNet's layout",
        ),
        Dataset(
            "eth3d",
            "ETH3D",
            eth3d,
            (("", "*"), ("training", "*")),
            "courtyard/images/dslr_images_undistorted/ with dslr_calibration_undistorted/, "
            "dslr_calibration_jpg/ and ground_truth_depth/",
            "eth3d.net, high-res multi-view, undistorted pictures and depth",
        ),
        Dataset(
            "sintel",
            "MPI Sintel",
            sintel,
            (("training/final", "*"), ("final", "*")),
            "training/final/alley_2/frame_0001.png with training/camdata_left/ and training/depth/",
            "MPI Sintel, final pass with the depth and camera archives",
        ),
        Dataset(
            "kitti",
            "KITTI odometry",
            kitti,
            (("sequences", "[0-9][0-9]"), ("dataset/sequences", "[0-9][0-9]")),
            "sequences/00/image_2/000000.png (or image_0/) with poses/00.txt and sequences/00/calib.txt",
            "KITTI visual odometry",
        ),
        Dataset(
            "kitti-depth",
            "KITTI depth",
            kitti_depth,
            (
                ("val", "*_sync"),
                ("data_depth_annotated/val", "*_sync"),
                ("image_gathered", "*_sync*"),
                ("val_selection_cropped/image_gathered", "*_sync*"),
                ("depth_selection/val_selection_cropped/image_gathered", "*_sync*"),
                ("val_selection_cropped/image", "*_sync_image_*.png"),
                ("depth_selection/val_selection_cropped/image", "*_sync_image_*.png"),
            ),
            "val/2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02/0000000005.png with the raw "
            "drive's 2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000005.png",
            "KITTI depth prediction, annotated depth of the validation drives and their raw pictures",
            called=kitti_depth.scene_name,
        ),
        Dataset(
            "bonn",
            "Bonn RGB-D Dynamic",
            bonn,
            (("", "rgbd_bonn_*"), ("rgbd_bonn_dataset", "rgbd_bonn_*")),
            "rgbd_bonn_balloon2/groundtruth.txt with rgb/, rgb.txt, depth/ and depth.txt",
            "University of Bonn, RGB-D Dynamic Dataset",
            drop="rgbd_bonn_",
        ),
        Dataset(
            "tanks",
            "Tanks and Temples",
            tanks,
            (("", "*"), ("training", "*"), ("TrainingSet", "*")),
            "Barn/Barn_COLMAP_SfM.log with Barn_trans.txt, Barn.ply and images/000001.jpg",
            "tanksandtemples.org, training set: pictures, camera poses, alignment, ground truth",
        ),
        Dataset(
            "imc",
            "Image Matching Challenge",
            imc,
            (("", "*/set_100/sub_set/*.txt"), ("test", "*/set_100/sub_set/*.txt"), ("", "*/set_100")),
            "mount_rushmore/set_100/images/NAME.jpg with calibration/calibration_NAME.h5 and "
            "sub_set/5bag_000.txt",
            "Image Matching Challenge 2020 and 2021, Phototourism",
            called=_imc_name,
        ),
        Dataset(
            "strecha",
            "Strecha",
            strecha,
            (("", "*"), ("", ".")),
            "fountain-P11/images/0000.jpg with gt_dense_cameras/0000.jpg.camera",
            "openMVG/SfM_quality_evaluation",
        ),
        Dataset(
            "colmap",
            "COLMAP models",
            colmap,
            (("", "*"), ("", ".")),
            "SCENE/sparse/0/cameras.bin and images.bin (or .txt) with SCENE/images/",
            "your own reconstructions",
        ),
        Dataset(
            "plain",
            "pictures with poses.txt",
            plain,
            (("", "*"), ("", ".")),
            "SCENE/poses.txt (16 numbers a line) with color/, intrinsics.txt and depth/",
            "your own measurements",
        ),
    )
}


def dataset_named(name: str) -> Dataset:
    """UsageError for an unknown one."""
    if name not in DATASETS:
        raise UsageError(f"there is no dataset {name!r}; choose one of {', '.join(DATASETS)}")
    return DATASETS[name]
