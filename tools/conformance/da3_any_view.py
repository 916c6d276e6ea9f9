"""Handlers of Depth Anything 3's any-view networks: functions, backbone, cameras, whole networks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from manyview.attention.layout import TokenLayout
from manyview.attention.plan import Plan
from manyview.geometry.align import umeyama
from manyview.geometry.cameras import cameras_to_pose_encoding, invert_rigid
from manyview.models.blocks import Block
from manyview.models.checkpoints.assign import assign_weights
from manyview.models.checkpoints.read import Checkpoint
from manyview.models.da3.backbone import AlternatingTransformer, CameraTokens, VisionTransformer
from manyview.models.da3.camera_decoder import CameraDecoder, decoded_cameras
from manyview.models.da3.camera_encoder import CameraEncoder
from manyview.models.da3.checkpoint import used_tensors
from manyview.models.da3.config import CameraEncoderConfig, DA3Config, TransformerConfig
from manyview.models.da3.known import KnownCameras, camera_unit
from manyview.models.da3.model import DA3
from manyview.models.da3.reference_view import RestoredOrder, reference_first, reference_view
from manyview.models.da3.spec import SPEC
from manyview.models.encoder import resized_positions
from manyview.models.layers import LayerNorm, Mlp, SwiGlu
from manyview.models.part_configs import DenseHeadConfig
from manyview.models.precision import PLAIN, Compute
from manyview.models.predictions import Predictions
from manyview.models.rotary import rotation_for
from manyview.models.run_options import REFERENCE_VIEWS, RunOptions
from tools.conformance.folder import Case
from tools.conformance.settings import seeded_module

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def rope(case: Case) -> dict[str, Tensor]:
    """Rotation of tokens by positions of views, and of global blocks."""
    head_dim, base = case.config["head_dim"], float(case.config["base"])
    return {
        name: rotation_for(case.inputs[f"pos_{name}"][0], head_dim, base).apply(case.inputs["tokens"])
        for name in ("local", "global")
    }


def position_tables(case: Case) -> dict[str, Tensor]:
    """The position table at every size."""
    native, offset = case.config["native_grid"], case.config["offset"]
    return {
        f"pos_{rows}x{columns}": resized_positions(case.inputs["pos_embed"], native, (rows, columns), offset)
        for rows, columns in case.config["grids_hw"]
    }


def reference_views(case: Case) -> dict[str, Tensor]:
    """Choice and order by every rule, and the choice for one view."""
    tokens = case.inputs["tokens"][:, :, 0]
    results: dict[str, Tensor] = {}
    for rule in REFERENCE_VIEWS:
        order = reference_first(tokens, rule).views
        plain = torch.arange(tokens.shape[1]).expand(len(tokens), -1)
        results |= {
            f"index_{rule}": reference_view(tokens, rule),
            f"order_{rule}": plain if order is None else order,
            f"index1_{rule}": reference_view(tokens[:, :1], rule),
        }
    return results


def block(case: Case) -> dict[str, Tensor]:
    """A block without positions, by those of views and by those of global blocks."""
    c = case.config
    mlp = SwiGlu if c["ffn"] == "swiglu" else Mlp
    module = seeded_module(
        case,
        lambda: Block(c["dim"], c["num_heads"], c["mlp_ratio"], c["qk_norm"], c["norm_eps"], mlp=mlp),
    )
    x, head_dim = case.inputs["x"], c["dim"] // c["num_heads"]
    if not c["rope"]:
        return {"y": module(x), "y_small": module(case.inputs["x_small"])}
    local, across = (rotation_for(case.inputs[f"pos_{name}"][0], head_dim) for name in ("local", "global"))
    return {
        "attn_local": module.attn(module.norm1(x), local),
        "y_local": module(x, local),
        "y_global": module(x, across),
        "y_nopos": module(x),
        "y_small": module(case.inputs["x_small"], local),
    }


def final_norm(case: Case) -> dict[str, Tensor]:
    """What the heads read of two states."""
    dim = case.config["embed_dim"]
    norm = seeded_module(case, lambda: torch.nn.ModuleDict({"norm": LayerNorm(dim)}))["norm"]
    results = {}
    for suffix in ("", "_small"):
        tokens = case.inputs[f"tokens{suffix}"]
        results[f"camera{suffix}"] = tokens[:, :, 0]
        local, current = tokens[:, :, 1:].split(dim, -1)
        results[f"features{suffix}"] = torch.cat([local, norm(current)], -1)
    return results


def any_view_config(settings: dict[str, Any]) -> DA3Config:
    """The sizes of a reduced network."""
    head = settings.get("head", {})
    return DA3Config(
        dim=settings["embed_dim"],
        layers=settings["depth"],
        num_heads=settings["num_heads"],
        swiglu=settings["ffn"] != "mlp",
        patch_size=settings["patch"],
        native_grid=settings["native_img_size"] // settings["patch"],
        taps=tuple(settings["out_layers"]),
        alternating_from=settings["alt_start"],
        head=DenseHeadConfig(head["features"], tuple(head["out_channels"])) if head else DenseHeadConfig(),
    )


def unnormalised(images: Tensor) -> Tensor:
    """Images in [0, 1], in double precision, of images that were normalised."""
    mean, std = (torch.tensor(x, dtype=torch.float64).view(3, 1, 1) for x in (_MEAN, _STD))
    return images.double() * std.to(images.device) + mean.to(images.device)


class Tapped:
    """Keeps both states of every pair."""

    def __init__(self) -> None:
        self.states: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, layer: int, frame: Tensor, across: Tensor, compute: Compute = PLAIN) -> None:
        self.states[layer] = frame.clone(), across.clone()

    def joined(self, model: AlternatingTransformer, tokens: CameraTokens, tap: int) -> Tensor:
        """Both states at a tapped block, raw, in the order of the input."""
        config = model.config
        frame, across = self.states[config.tap_pairs[config.taps.index(tap)]]
        current = frame if (config.layers - 1 - tap) % 2 else across
        assert tokens.order is not None
        return tokens.order.restore(torch.cat([frame, current], -1))


def read(model: AlternatingTransformer, both: Tensor) -> tuple[Tensor, Tensor]:
    """Camera token and what the head reads."""
    local, current = both[:, :, 1:].split(model.config.dim, -1)
    return both[:, :, 0], torch.cat([local, model.norm(current)], -1)


def backbone(case: Case) -> dict[str, Tensor]:
    """Taps of a backbone by every rule of the reference view; or of one that acts within views."""
    c = case.config
    if c["alt_start"] < 0:
        return _within_views(case)
    config = any_view_config(c)
    model = seeded_module(case, lambda: AlternatingTransformer(config))
    images = unnormalised(case.inputs["images"])
    results: dict[str, Tensor] = {}
    for rule in c["strategies"] or ["saddle_balanced"]:
        prefix = "" if rule == "saddle_balanced" else f"{rule}."
        tokens, taps = CameraTokens(model.camera_token, case.inputs.get("cam_token"), rule), Tapped()
        model.run_layers(images, Plan.dense(config.depth), RunOptions(dtype=case.dtype), taps, known=tokens)
        for index, tap in enumerate(config.taps):
            camera, features = read(model, taps.joined(model, tokens, tap))
            results |= {f"{prefix}camera{index}": camera, f"{prefix}features{index}": features}
        assert tokens.order is not None
        views = tokens.order.views
        first = torch.zeros(len(images), dtype=torch.int64) if views is None else views[:, 0]
        results[f"{prefix}ref_index"] = first
        if not prefix:
            layers = _normed(model, case.inputs["images"], taps, tokens.order, c["aux_layers"])
            results |= {f"aux{number}": x for number, x in layers.items()}
    return {name: value for name, value in results.items() if name in case.outputs}


def _normed(
    model: AlternatingTransformer, images: Tensor, taps: Tapped, order: RestoredOrder, numbers: list[int]
) -> dict[int, Tensor]:
    """Normed patches after single blocks; reordered from the block before alternation on."""
    found, stop, unpaired = {}, model.config.alternating_from, model.config.unpaired
    for number in numbers:
        if number >= stop:
            x = taps.states[(number - stop + unpaired) // 2][number % 2]
        else:
            grid = model.config.layout(1, images.shape[-2], images.shape[-1]).grid
            positions = model.position_embedding(grid)
            x = model.within_views(images.flatten(0, 1), positions, number + 1).unflatten(0, images.shape[:2])
            x = order.apply(x) if number == stop - 1 else x
        found[number] = model.norm(x[:, :, 1:])
    return found


def _within_views(case: Case) -> dict[str, Tensor]:
    c = case.config
    config = TransformerConfig(
        dim=c["embed_dim"], layers=c["depth"], num_heads=c["num_heads"], taps=tuple(c["out_layers"])
    )
    model = seeded_module(case, lambda: VisionTransformer(config))
    images = case.inputs["images"]
    results: dict[str, Tensor] = {}
    positions = model.position_embedding((images.shape[-2] // 14, images.shape[-1] // 14))
    for index, tap in enumerate(config.taps):
        x = model.within_views(images.flatten(0, 1), positions, tap + 1).unflatten(0, images.shape[:2])
        results |= {f"camera{index}": x[:, :, 0], f"features{index}": model.norm(x[:, :, 1:])}
    return results


def pose_encoding(case: Case) -> dict[str, Tensor]:
    """Cameras as numbers, and back, at the limits of a field of view too."""
    height, width = case.config["image_size_hw"]
    inputs = case.inputs
    world_from_cam, intrinsics = decoded_cameras(inputs["pose_enc"], height, width)
    _, extreme = decoded_cameras(inputs["pose_enc_degenerate"], height, width)
    given = invert_rigid(inputs["w2c"][..., :3, :])
    return {
        "c2w": world_from_cam,
        "w2c": invert_rigid(world_from_cam),
        "intrinsics": intrinsics,
        "encoded": cameras_to_pose_encoding(given, inputs["intrinsics"], height, width),
        "intrinsics_degenerate_fx_fy": extreme[[0, -1]].diagonal(dim1=1, dim2=2)[:, :2].log(),
    }


def camera_encoder(case: Case) -> dict[str, Tensor]:
    """Tokens of known cameras."""
    c = case.config
    sizes = CameraEncoderConfig(c["trunk_depth"], c["num_heads"], c["mlp_ratio"])
    module = seeded_module(case, lambda: CameraEncoder(c["dim_out"], sizes))
    height, width = c["image_size_hw"]
    return {"tokens": module(case.inputs["w2c"][..., :3, :], case.inputs["intrinsics"], (height, width))}


def camera_decoder(case: Case) -> dict[str, Tensor]:
    """Cameras of tokens."""
    module = seeded_module(case, lambda: CameraDecoder(case.config["dim_in"]))
    encoding = module(case.inputs["tokens"])
    world_from_cam, intrinsics = decoded_cameras(encoding, *case.config["image_size_hw"])
    return {"pose_enc": encoding, "extrinsics": invert_rigid(world_from_cam), "intrinsics": intrinsics}


def normalised_cameras(case: Case) -> dict[str, Tensor]:
    """Known cameras as the network is given them."""
    results = {}
    for name in ("w2c", "w2c_near", "w2c_one"):
        cameras = case.inputs[name]
        known = KnownCameras(cameras[..., :3, :], cameras[..., :3, :3], camera_unit(cameras[..., :3, :]))
        results[f"{name}_normalised"] = torch.cat([known.normalised(), cameras[..., 3:, :]], -2)
    return results


def aligned_to_known(case: Case) -> dict[str, Tensor]:
    """Depth in the unit of known cameras; and the other way round, known cameras moved to the predicted."""
    given, predicted, depth = (case.inputs[name] for name in ("w2c", "pred_w2c", "depth"))
    known = KnownCameras(given[None, :, :3], case.inputs["intrinsics"][None], given.new_ones(1))
    layout = TokenLayout(len(given), 1, (1, 1))
    result = Predictions(depth.shape[1], depth.shape[2], layout, z_depth=depth[None])
    result = known.applied(result, predicted[None])
    assert result.z_depth is not None
    source, target = (invert_rigid(cameras[:, :3])[..., 3] for cameras in (given, predicted))
    scale, rotation, translation = umeyama(source, target)
    world_from_cam = invert_rigid(given[:, :3].double())
    turned = rotation @ world_from_cam[..., :3]
    moved = torch.cat([turned, (scale * world_from_cam[..., 3] @ rotation.T + translation)[..., None]], -1)
    return {
        "depth_on": result.z_depth[0],
        "extrinsics_on": result.cam_from_world[0],
        "depth_off": depth,
        "extrinsics_off": torch.cat([invert_rigid(moved).to(given), given[:, 3:]], 1),
    }


def network(case: Case) -> dict[str, Tensor]:
    """A whole any-view network: its heads, what they read, and exported layers."""
    c = case.config
    if "anyview" in c:
        config = any_view_config(c["anyview"])
    else:
        config = SPEC.config_from_shapes(
            {key.removeprefix("model."): shape for key, shape in case.shapes.items()}, case.id
        )
    model, images, given = _network(case, config), unnormalised(case.inputs["images"]), None
    if c["posed"]:
        size = (images.shape[-2], images.shape[-1])
        given = model.cam_enc(case.inputs["w2c"][..., :3, :], case.inputs["intrinsics"], size)
    options = RunOptions(dtype=case.dtype, heads=("camera", "depth", "rays"))
    rule = c.get("ref_view_strategy", "saddle_balanced")
    tokens = CameraTokens(model.transformer.camera_token, given, rule)
    found = model.predict(images, Plan.dense(config.depth), options, tokens)
    assert found.rays is not None and found.rays_conf is not None
    assert found.z_depth is not None and found.depth_conf is not None and tokens.order is not None
    views = tokens.order.views
    results = {
        "depth": found.z_depth,
        "depth_conf": found.depth_conf,
        "extrinsics": found.cam_from_world,
        "intrinsics": found.intrinsics,
        "pose_enc": found.pose_encoding,
        "ray": found.rays,
        "ray_conf": found.rays_conf,
        "ray_sub": found.rays[:, :, ::3, ::3],
        "ray_conf_sub": found.rays_conf[:, :, ::3, ::3],
        "ref_index": torch.zeros(len(images), dtype=torch.int64) if views is None else views[:, 0],
    }
    if any(name.startswith(("aux.", "layer")) for name in case.outputs):
        results |= _layers(case, model, images, tokens, options)
    return {name: value for name, value in results.items() if name in case.outputs}


def _layers(
    case: Case, model: DA3, images: Tensor, tokens: CameraTokens, options: RunOptions
) -> dict[str, Tensor]:
    """Samples of what the head reads, and exported layers in the order of the pass."""
    config, transformer, taps = model.config, model.transformer, Tapped()
    transformer.run_layers(images, Plan.dense(config.depth), options, taps, known=tokens)
    results: dict[str, Tensor] = {}
    for index, tap in enumerate(config.taps):
        token, features = read(transformer, taps.joined(transformer, tokens, tap))
        results |= {
            f"layer{index}.camera": token[..., ::16],
            f"layer{index}.mean": features.mean(2)[..., ::8],
            f"layer{index}.patches": features[:, :, ::7, 5::32],
        }
    assert tokens.order is not None
    numbers = case.config.get("export_feat_layers", [])
    grid = config.layout(1, images.shape[-2], images.shape[-1]).grid
    exported = _normed(transformer, case.inputs["images"], taps, tokens.order, numbers)
    return results | {f"aux.feat_layer_{number}": x.unflatten(2, grid) for number, x in exported.items()}


def _network(case: Case, config: DA3Config) -> DA3:
    """The network with the case's weights, by what reads public files."""
    with torch.device("meta"):
        model = DA3(config)
    weights = {key.removeprefix("model."): value for key, value in case.weights().items()}
    used = used_tensors(Checkpoint(case.id, weights, {}, ()))
    assign_weights(model, used, f"inventory of {case.id}", device=case.device, dtype=case.dtype)
    return model.eval()
