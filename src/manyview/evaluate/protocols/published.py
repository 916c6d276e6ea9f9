"""The default protocol, and adapters that reproduce what single papers measure, quirks included.

Numbers of different protocols must not be compared; docs/evaluation.md says which published ones disagree.
"""

from __future__ import annotations

from ...errors import UsageError
from .frames import Frames
from .measures import (
    CloudChamfer,
    ConfidenceRanking,
    Depth,
    FusedSurface,
    PointMaps,
    RelativePose,
    Trajectory,
)
from .protocol import ANY, Protocol

_POSES = ("auc_3", "auc_5", "auc_15", "auc_30")
_POINTS = ("accuracy", "accuracy_median", "completeness", "completeness_median", "nc", "nc_median")
_EVO = ("ate", "rpe_translation", "rpe_rotation_deg")
_SCRIPTS = RelativePose((5, 15, 30), undefined="wrong")


def _every(stride: int, most: int | None = None) -> Frames:
    return Frames("every", stride, most)


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "default",
            "ManyView",
            "at most 100 evenly spread frames; camera centres, Sim(3); points fitted on corresponding pixels",
            (RelativePose(), Trajectory(), Depth(), PointMaps(thresholds=(0.05,))),
            (*_POSES, *_EVO, "abs_rel", "delta_125", "accuracy", "completeness", "nc", "f_score_0.05"),
            ((ANY, Frames("spread", most=100)),),
        ),
        Protocol(
            "vggt-pose",
            "VGGT (arXiv 2503.11651), 4.1",
            "10 random frames; AUC averaged over the categories of CO3D, over scenes elsewhere",
            (_SCRIPTS,),
            ("auc_30", "auc_15", "auc_5", "rra_5", "rta_5"),
            (("co3d", Frames("random", most=10)), ("realestate10k", Frames("random", most=10))),
            (("co3d", "seen41"),),
            average="groups",
            size_policy="crop",
        ),
        Protocol(
            "pi3-pose",
            "pi3 (arXiv 2507.13347), camera pose",
            "10 random frames; all pairs of all sequences pooled, relative poses as E_j E_i^-1",
            (RelativePose((5, 15, 30), relative="pi3", undefined="wrong"),),
            ("auc_30", "rra_30", "rta_30"),
            (
                ("co3d", Frames("random", most=10, seed=42)),
                ("realestate10k", Frames("random", most=10, seed=42)),
            ),
            (("co3d", "all51"),),
            average="pooled",
        ),
        Protocol(
            "pi3-trajectory",
            "MonST3R, CUT3R and pi3: Sintel, TUM-dynamics, ScanNet",
            "ATE and RPE of camera centres after Sim(3) as evo has them, at most 90 frames",
            (Trajectory(),),
            _EVO,
            (("sintel", _every(1)), ("tum", _every(3, 90)), ("scannet", _every(3, 90))),
            (("sintel", "fourteen"), ("tum", "dynamics")),
        ),
        Protocol(
            "long-trajectory",
            "TTT3R, Spark3R (arXiv 2605.06270): TUM-dynamics, ScanNet",
            "as pi3-trajectory on the first 1000 frames",
            (Trajectory(),),
            _EVO,
            (("tum", _every(1, 1000)), ("scannet", _every(1, 1000)), ("kitti", _every(1, 1000))),
            (("tum", "dynamics"),),
        ),
        Protocol(
            "dense-pose-3",
            "AVGGT (arXiv 2512.02541), TurboVGGT (arXiv 2605.14315): 7-Scenes and NRGBD at stride 3",
            "AUC of all pairs of every third frame, a scene, then the mean over scenes",
            (RelativePose((5, 30), undefined="wrong"),),
            ("auc_5", "auc_30", "rra_30", "rta_30"),
            (("7-scenes", _every(3)), ("nrgbd", _every(3))),
            (("7-scenes", "test"), ("nrgbd", "nine")),
        ),
        Protocol(
            "dense-pose-800",
            "AVGGT (arXiv 2512.02541): 7-Scenes and NRGBD, 800 frames",
            "AUC of all pairs of the first 800 frames, a scene, then the mean over scenes",
            (RelativePose((5, 30), undefined="wrong"),),
            ("auc_5", "auc_30", "rra_30", "rta_30"),
            (("7-scenes", _every(1, 800)), ("nrgbd", _every(1, 800))),
            (("7-scenes", "test"), ("nrgbd", "nine")),
        ),
        Protocol(
            "pi3-points-sparse",
            "pi3 (arXiv 2507.13347), point maps, sparse views",
            "Umeyama on corresponding pixels, ICP at 0.1, at the truth's pixels; keyframes every 200 / 500",
            (PointMaps(),),
            _POINTS,
            (("7-scenes", _every(200)), ("nrgbd", _every(500))),
            (("7-scenes", "test"), ("nrgbd", "nine")),
            grid="truth",
        ),
        Protocol(
            "pi3-points-dense",
            "pi3 (arXiv 2507.13347), point maps, dense views",
            "as pi3-points-sparse; keyframes every 40 / 100, every 5th of DTU and ETH3D",
            (PointMaps(),),
            _POINTS,
            (("7-scenes", _every(40)), ("nrgbd", _every(100)), ("dtu", _every(5)), ("eth3d", _every(5))),
            (("7-scenes", "test"), ("nrgbd", "nine"), ("dtu", "test22"), ("eth3d", "training")),
            grid="truth",
        ),
        *(
            Protocol(
                f"fastvggt-points-{stride}",
                f"FastVGGT (arXiv 2509.02560), HTTM, LiteVGGT and others: stride {stride}",
                "point head, centre 224x224, median centre and scale made equal, estimate and truth drawn "
                "independently above 999,999 points, ICP at 0.1",
                (PointMaps("head", "median", crop=224, most=999_999, independent=True),),
                _POINTS,
                (
                    ("7-scenes", Frames("half-every", stride)),
                    ("nrgbd", Frames("half-every", stride)),
                ),
                (("7-scenes", "test"), ("nrgbd", "nine")),
                size_policy="crop",
                point_head=True,
            )
            for stride in (3, 10)
        ),
        *(
            Protocol(
                f"httm-points-{stride}",
                f"HTTM (arXiv 2511.21317): as FastVGGT with depth and cameras, stride {stride}",
                f"as fastvggt-points-{stride} with points from depth and cameras",
                (PointMaps("depth", "median", crop=224, most=999_999, independent=True),),
                _POINTS,
                (("7-scenes", Frames("half-every", stride)), ("nrgbd", Frames("half-every", stride))),
                (("7-scenes", "test"), ("nrgbd", "nine")),
                size_policy="crop",
            )
            for stride in (3, 10)
        ),
        Protocol(
            "spark3r-points-1000",
            "Spark3R (arXiv 2605.06270), TTT3R: 7-Scenes and NRGBD, up to 1000 frames",
            "as httm-points-3 on the first 1000 frames",
            (PointMaps("depth", "median", crop=224, most=999_999, independent=True),),
            _POINTS,
            (("7-scenes", _every(1, 1000)), ("nrgbd", _every(1, 1000))),
            (("7-scenes", "test"), ("nrgbd", "nine")),
            size_policy="crop",
        ),
        *(
            Protocol(
                f"fastvggt-scannet50-{views}",
                "FastVGGT (arXiv 2509.02560), ScanNet-50; LiteVGGT, S-VGGT, SAF3R, RegimeVGGT",
                "Chamfer distance as the sum of clipped means; w2c_ate is of world-to-camera translations "
                "and no error of camera centres, which ate is",
                (CloudChamfer(), Trajectory(of="w2c", origin=True, prefix="w2c_"), Trajectory()),
                ("cd", "w2c_ate", "w2c_rpe_translation", "w2c_rpe_rotation_deg", *_EVO),
                (("scannet", Frames("first-then-every", most=views)),),
                size_policy="crop",
                most_scenes=50,
            )
            for views in (100, 300, 500, 1000)
        ),
        Protocol(
            "flashvggt",
            "FlashVGGT (arXiv 2512.01540)",
            "medians over points and pixels, points scaled and not turned, trajectory of world-to-camera "
            "translations after a scale alone",
            (
                RelativePose((3, 5, 10), undefined="wrong"),
                Trajectory("scale", of="w2c", prefix="w2c_"),
                Depth(),
                PointMaps(fit="scale", icp=None),
            ),
            (
                "auc_3",
                "auc_5",
                "auc_10",
                "w2c_ate",
                "abs_rel_median",
                "accuracy_median",
                "completeness_median",
            ),
            tuple((name, Frames("spread", most=500)) for name in ("7-scenes", "nrgbd", "scannet")),
            (("7-scenes", "test"), ("nrgbd", "nine")),
        ),
        Protocol(
            "da3-pose",
            "Depth Anything 3, camera pose benchmark; SAF3R",
            "at most 100 random frames; AUC a scene, then the mean over scenes",
            (RelativePose((3, 30), undefined="wrong"),),
            ("auc_3", "auc_30"),
            tuple((name, Frames("random", most=100, seed=42)) for name in ("7-scenes", "eth3d", "dtu")),
            (("7-scenes", "da3"), ("eth3d", "training")),
        ),
        *(
            Protocol(
                f"da3-surface-{name}",
                "Depth Anything 3, reconstruction benchmark; SAF3R",
                "at most 100 random frames; depth and cameras fused by TSDF after a similarity of the camera "
                "centres, F-score of the surface's points",
                (FusedSurface(4 / 512 * size, 0.04 * size, (0.05 * size,)),),
                (
                    f"surface_f_{0.05 * size:g}",
                    f"surface_precision_{0.05 * size:g}",
                    f"surface_recall_{0.05 * size:g}",
                    "surface_overall",
                ),
                ((name, Frames("random", most=100, seed=42)),),
                ((name, split),),
            )
            for name, size, split in (("7-scenes", 1, "da3"), ("eth3d", 5, "training"))
        ),
        Protocol(
            "pi3-video-depth",
            "MonST3R, CUT3R and pi3: video depth on Sintel and Bonn",
            "one scale a sequence by least absolute errors, and with a shift; truth up to 70 m, sequences "
            "weighted by their pixels; all frames of Sintel, frames 30 to 139 of Bonn",
            (
                Depth("scale", farthest=70.0),
                Depth("scale-shift", farthest=70.0, prefix="shift_"),
            ),
            ("abs_rel", "delta_125", "shift_abs_rel", "shift_delta_125"),
            (("sintel", _every(1)), ("bonn", Frames("every", most=110, first=30))),
            (("sintel", "fourteen"), ("bonn", "five")),
            average="pixels",
            grid="truth",
        ),
        Protocol(
            "pi3-video-depth-kitti",
            "MonST3R, CUT3R and pi3: video depth on KITTI",
            "as pi3-video-depth on the first 110 frames with laser depth, all of it",
            (Depth("scale"), Depth("scale-shift", prefix="shift_")),
            ("abs_rel", "delta_125", "shift_abs_rel", "shift_delta_125"),
            (("kitti-depth", _every(1, 110)),),
            (("kitti-depth", "val13"),),
            average="pixels",
            grid="truth",
        ),
        Protocol(
            "imc-pose",
            "FlashVGGT (arXiv 2512.01540): Image Matching Challenge, bags of 5, 10 and 25 pictures",
            "AUC of all pairs of each bag, then the mean over bags",
            (RelativePose((3, 5, 10), undefined="wrong"),),
            ("auc_3", "auc_5", "auc_10"),
            (("imc", _every(1)),),
            (("imc", "test8"),),
        ),
        Protocol(
            "tanks-pose",
            "Tanks and Temples, training scenes, as papers on faster attention report it",
            "AUC of all pairs of all frames, a scene, then the mean over scenes",
            (_SCRIPTS,),
            ("auc_30", "rra_5", "rta_5"),
            (("tanks", _every(1)),),
            (("tanks", "training"),),
        ),
        Protocol(
            "tanks-pose-200",
            "block-sparse attention for VGGT and pi3: Tanks and Temples, 200 frames",
            "RRA and RTA at 5 degrees of 200 evenly spread frames",
            (_SCRIPTS,),
            ("rra_5", "rta_5", "auc_30"),
            (("tanks", Frames("spread", most=200)),),
            (("tanks", "training"),),
        ),
    )
}


POSED = Protocol(
    "posed-v1",
    "ManyView",
    "folders of images with known cameras, run as `reconstruct` runs them",
    (RelativePose(), Trajectory(), Depth(), ConfidenceRanking()),
    (*_POSES, "ate", "ate_share", "abs_rel", "delta_125"),
    ((ANY, Frames("spread", most=24)),),
)
"""Of `evaluate_posed`; its options decide how images are sized."""


def protocol_named(name: str) -> Protocol:
    """UsageError for an unknown one."""
    if name not in PROTOCOLS:
        raise UsageError(f"there is no protocol {name!r}; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
