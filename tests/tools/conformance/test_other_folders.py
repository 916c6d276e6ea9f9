"""The runner on folders of other shapes, seeds, batch sizes and settings than the published ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tools.conformance.__main__ import main
from tools.conformance.folder import read_cases
from tools.conformance.runner import results
from tools.conformance.seeded import seeded_state_dict

from manyview.attention.plan import Plan
from manyview.models.blocks import Block
from manyview.models.dense_head import DenseHead
from manyview.models.encoder import DinoEncoder
from manyview.models.part_configs import DenseHeadConfig, EncoderConfig
from manyview.models.run_options import RunOptions
from manyview.models.vggt.camera_head import CameraHead
from manyview.models.vggt.config import CameraHeadConfig, TrackHeadConfig, VGGTConfig
from manyview.models.vggt.model import VGGT
from manyview.models.vggt.track_head import TrackHead
from manyview.models.vggt.trunk import Trunk

from .golden import Folder, random_input, seeded

TRACK = TrackHeadConfig(
    features=16, out_channels=(8, 8, 16, 16), hidden_size=16, corr_levels=3, iterations=2, virtual_tracks=64
)
CONFIG = VGGTConfig(
    dim=32,
    depth=5,
    num_heads=2,
    patch_size=7,
    registers=3,
    image_size=28,
    taps=(0, 2, 3, 4),
    encoder=EncoderConfig(depth=2, num_heads=4, registers=3, native_grid=4),
    camera_head=CameraHeadConfig(depth=1, num_heads=4, iterations=3),
    depth_head=DenseHeadConfig(16, (8, 8, 16, 16)),
    point_head=DenseHeadConfig(16, (8, 8, 16, 16)),
    track_head=TRACK,
)
SMALL = "tokens * 0.003 (epsilon check)"


def positions(batch: int) -> torch.Tensor:
    grid = torch.tensor([(0, 0), (0, 0), (1, 1), (1, 2), (2, 1), (2, 2)])
    return torch.stack([grid + i for i in range(batch)])  # each element elsewhere


def add_modules(folder: Folder) -> None:
    for rope in (True, False):
        config = {"dim": 48, "num_heads": 3, "mlp_ratio": 2, "qk_norm": rope, "rope": rope, "rope_base": 30}
        folder.add(
            f"vggt/block_{rope}",
            config | {"norm_eps": 1e-6},
            {"x": seeded("block", 3, 6, 48, salt="q"), "positions": positions(3)},
            {"attn": "", "y": "", "y_small": "block output for x_small"},
            lambda rope=rope: Block(48, 3, 2, qk_norm=rope, eps=1e-6),
            salt="second",
        )
    folder.add(
        "vggt/some_encoder",
        {"embed_dim": 32, "depth": 2, "num_heads": 4, "registers": 2, "patch": 7, "native_img_size": 28},
        {"images": random_input("images", 3, 3, 21, 35)},
        {"cls_token": "", "reg_tokens": "", "patch_tokens": "", "pos_embed": "", "patch_tokens_small": SMALL},
        lambda: DinoEncoder(32, 7, EncoderConfig(2, 4, 2, 4)),
    )
    folder.add(
        "vggt/some_trunk",
        {"embed_dim": 32, "depth": 5, "num_heads": 2, "vit_heads": 4, "registers": 3, "patch": 7},
        {"images": seeded("trunk", 2, 3, 3, 14, 21, low=0.0, high=1.0)},
        {f"tokens{i}": "" for i in range(5)},
        lambda: Trunk(CONFIG),
        salt="trunk",
    )
    folder.add(
        "vggt/cameras",
        {"dim_in": 64, "trunk_depth": 1, "num_heads": 4, "iterations": 2},
        {"tokens": random_input("tokens", 2, 4, 3, 64)},
        {"pose_enc0": "", "pose_enc1": "", "pose_enc_small": "last pose for tokens * 1e-4"},
        lambda: CameraHead(64, CameraHeadConfig(1, 4)),
    )
    dense = {
        "dim_in": 64,
        "features": 16,
        "out_channels": [8, 8, 16, 16],
        "patch_start_idx": 4,
        "image_hw": [21, 35],
        "frames_chunk_size": 2,
    }
    tokens = {f"tokens{i}": random_input(f"tap{i}", 2, 3, 4 + 15, 64) for i in range(4)}
    folder.add(
        "vggt/points",
        dense
        | {"output_dim": 4, "activation": "inv_log", "conf_activation": "expp0", "feature_only": False}
        | {"pos_embed": True},
        tokens,
        {"pred": "", "conf": "", "conf_small": SMALL},
        lambda: DenseHead(64, DenseHeadConfig(16, (8, 8, 16, 16)), 4),
    )
    folder.add(
        "vggt/features",
        dense
        | {"output_dim": 4, "activation": "inv_log", "conf_activation": "expp1", "feature_only": True}
        | {"pos_embed": False, "down_ratio": 2},
        tokens,
        {"features": ""},
        lambda: DenseHead(64, DenseHeadConfig(16, (8, 8, 16, 16)), None, down_ratio=2),
    )
    folder.add(
        "vggt/tracker",
        {
            "dim_in": 64,
            "features": 16,
            "hidden_size": 16,
            "out_channels": [8, 8, 16, 16],
            "corr_levels": 3,
            "corr_radius": 2,
            "stride": 2,
            "down_ratio": 2,
            "iters": 2,
            "update_depth": 2,
            "max_scale": 100,
            "image_hw": [21, 35],
            "patch_start_idx": 4,
        },
        tokens | {"query_points": seeded("queries", 2, 5, 2, low=0.0, high=20.0)},
        {"coords0": "", "coords1": "", "coords_iters1": "", "vis": "", "conf": ""},
        lambda: TrackHead(
            64,
            TrackHeadConfig(
                16, (8, 8, 16, 16), 16, corr_levels=3, corr_radius=2, time_depth=2, space_depth=2
            ),
        ),
        salt="t",
    )


def add_models(folder: Folder) -> None:
    outputs = ["depth", "depth_conf", "world_points", "world_points_conf", "pose_enc", "pose_enc_iter1"]
    config = {
        "embed_dim": 32,
        "depth": 5,
        "num_heads": 2,
        "vit_depth": 2,
        "vit_heads": 4,
        "registers": 3,
        "img_size": 28,
        "patch": 7,
        "camera": {"trunk_depth": 1, "num_heads": 4, "iterations": 3},
        "dpt": {"intermediate_layer_idx": [0, 2, 3, 4]},
        "track": {"iters": 2},
    }
    layers = {
        "layer2.special": "[B, S, 4, C/16] special tokens, every 16th channel",
        "layer2.mean": "[B, S, C/8] mean over patch tokens, every 8th channel",
        "layer4.patches": "patch tokens 0, 2, 4, ..., channels 5, 21, ...",
        "patch_embed": "ViT patch tokens: patches 1, 4, ..., channels 3, 5, ...",
    }
    folder.add(
        "vggt/small",
        config,
        {
            "images": seeded("small", 2, 3, 3, 28, 42, low=0.0, high=1.0),
            "query_points": random_input("queries", 2, 4, 2, low=2.0, high=26.0),
        },
        dict.fromkeys([*outputs, "track", "vis", "conf"], "") | layers,
        lambda: VGGT(CONFIG),
        salt="m",
    )
    few = VGGTConfig.from_json(CONFIG.to_json() | {"track_head": None, "point_head": None})
    folder.add(
        "full/vggt_fewer_heads",
        config,
        {"images": random_input("few", 1, 1, 3, 21, 28, low=0.0, high=1.0)},
        {"depth": "", "pose_enc": "", "pose_enc_iter2": ""},
        lambda: VGGT(few),
    )


def add_operations(folder: Folder) -> None:
    folder.add(
        "vggt_ops/turn",
        {"base": 50},
        {"tokens": random_input("t", 2, 3, 6, 8), "positions": positions(2)},
        {"rotated": ""},
    )
    folder.add(
        "vggt_ops/plane",
        {"cases": [{"w": 4, "h": 6, "aspect": 0.7, "channels": 8}], "omega_0": 10},
        {},
        {"uv0": "", "embed0": ""},
    )
    folder.add(
        "vggt_ops/nine",
        {"image_size_hw": [33, 57]},
        {"pose_enc": random_input("pose", 3, 2, 9, low=0.3, high=1.0)},
        {"extrinsics": "", "intrinsics": "", "pose_enc_back": "", "quat": "", "rot": ""},
    )
    folder.add(
        "vggt_ops/acts",
        {},
        {
            "pose": random_input("pose", 1, 5, 9),
            "x2": random_input("x2", 3, 2, 3, 4),
            "x4": random_input("x4", 1, 4, 2, 5),
        },
        {
            "pose_activated": "",
            "depth.pred": "",
            "depth.conf": "",
            "relu.sigmoid.pred": "",
            "norm.expp0.conf": "",
        },
    )
    camera = torch.eye(3, 4).expand(2, 3, 4) + random_input("cam", 2, 3, 4, low=-0.01, high=0.01)
    focal = torch.tensor([[9.0, 0, 4], [0, 8, 3], [0, 0, 1]]).expand(2, 3, 3)
    folder.add(
        "vggt_ops/rays",
        {"image_size_hw": [6, 8]},
        {
            "depth": random_input("depth", 2, 6, 8, 1, low=-0.2, high=2.0),
            "extrinsics": camera.contiguous(),
            "intrinsics": focal.contiguous(),
        },
        {"world_points": "", "cam_points1": "", "inverse": "", "valid1": ""},
    )
    folder.add(
        "vggt_ops/track",
        {"corr_levels": 2, "radius": 3},
        {
            "fmaps": random_input("maps", 2, 2, 4, 10, 12),
            "coords": random_input("at", 2, 3, 2, low=-1.0, high=12.0),
            "track_feats": random_input("feats", 2, 2, 3, 4),
        },
        {"corr": "", "sampled": ""},
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = Folder(tmp_path_factory.mktemp("golden"))
    add_modules(folder)
    add_models(folder)
    add_operations(folder)
    return folder.root


def test_all_cases_pass(root, capsys):
    assert main([str(root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"{len(lines) - 1} passed, 0 failed, 0 skipped"
    assert all(" PASS  worst error " in line for line in lines[:-1])


def test_cases_pass_in_double_precision(root):
    """The stored numbers are rounded once to float32, and so are tables of angles and positions."""
    for result in results(read_cases(root, torch.float64)):
        assert result.status == "PASS", result.line()
        assert result.worst is not None and result.worst.ratio < 0.5, result.line()


def test_every_output_is_compared(root):
    for result, case in zip(results(read_cases(root)), read_cases(root), strict=True):
        assert {field.name for field in result.fields} == case.outputs.keys()


def test_the_reference_is_not_the_handler_itself(root):
    """Handlers build from the case's settings what these sizes were written for."""
    stored = {case.id: case for case in read_cases(root)}
    case = stored["vggt/small"]
    model = VGGT(CONFIG).double()
    model.load_state_dict(seeded_state_dict(case.inventory, "m"))
    queries = case.inputs["query_points"].double()
    options = RunOptions(heads=("camera", "depth", "points", "track"))
    with torch.no_grad():
        answer = model.eval()(case.inputs["images"].double(), options=options, query_points=queries)
    assert len(answer.pose_encoding_list) == 3 and len(answer.track_list) == 2
    torch.testing.assert_close(answer.z_depth.float()[..., None], case.expected["depth"])
    torch.testing.assert_close(answer.pose_encoding.float(), case.expected["pose_enc"])
    torch.testing.assert_close(answer.tracks.float(), case.expected["track"])
    case = stored["vggt/some_trunk"]
    trunk = Trunk(CONFIG).double()
    trunk.load_state_dict(seeded_state_dict(case.inventory, "trunk"))
    found = {}

    def keep(layer, frame, across, compute):
        found[f"tokens{layer}"] = torch.cat([frame, across], dim=-1).float()

    with torch.no_grad():
        trunk(case.inputs["images"].double(), Plan.dense(5), RunOptions(), keep)
    for name, value in case.expected.items():
        torch.testing.assert_close(found[name], value)
