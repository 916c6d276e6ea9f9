"""Handlers of π³: block, decoder, heads, whole network of any size."""

from __future__ import annotations

import dataclasses
import re

import torch
from torch import Tensor

from manyview.attention.plan import Plan
from manyview.models.alternating import normalise_images
from manyview.models.dense_ops import image_plane
from manyview.models.pi3.config import Pi3Config
from manyview.models.pi3.conv_head import ConvHead
from manyview.models.pi3.heads import HeadDecoder, PixelHead, PoseHead, nearest_rotation
from manyview.models.pi3.metric import MetricDecoder
from manyview.models.pi3.model import Pi3
from manyview.models.pi3.model_x import Pi3X
from manyview.models.pi3.pose_injection import PoseInjection
from manyview.models.pi3.spec import PI3_SPEC, PI3X_SPEC
from manyview.models.precision import Compute
from manyview.models.predictions import Predictions
from manyview.models.priors import Priors
from manyview.models.rotary import rotation_for
from manyview.models.run_options import RunOptions
from tools.conformance.folder import BrokenCase, Case
from tools.conformance.sampling import sample
from tools.conformance.settings import seeded_module


def head_decoder(case: Case) -> dict[str, Tensor]:
    """A decoder between trunk and head; the positions are those of one frame."""
    c = case.config
    decoder = seeded_module(
        case,
        lambda: HeadDecoder(c["in_dim"], c["dec_embed_dim"], c["depth"], c["num_heads"], c["out_dim"]),
    )
    rotation = rotation_for(case.inputs["positions"][0], c["dec_embed_dim"] // c["num_heads"])
    return {"y": decoder(case.inputs["x"], rotation)}


def camera_head(case: Case) -> dict[str, Tensor]:
    """Poses of frames, and the nearest rotation by itself."""
    head = seeded_module(case, lambda: PoseHead(case.config["dim"]))
    return {"pose": head(case.inputs["x"]), "rot": nearest_rotation(case.inputs["raw9"])}


def pixel_head(case: Case) -> dict[str, Tensor]:
    """Features of patches to values of pixels."""
    c = case.config
    head = seeded_module(case, lambda: PixelHead(c["dim"], c["patch"], c["output_dim"]))
    return {"y": head(case.inputs["x"], (c["H"] // c["patch"], c["W"] // c["patch"]))}


def conv_head(case: Case) -> dict[str, Tensor]:
    """Pi3X's convolutional head."""
    c = case.config
    head = seeded_module(
        case,
        lambda: ConvHead(c["dim"], tuple(c["dim_upsample"]), tuple(c["dim_out"]), c["last_conv_channels"],
                         c["dim_times_res_block_hidden"]),
    )  # fmt: skip
    grid = tuple(c["grid_hw"])
    maps = head(case.inputs["x"], grid, (14 * grid[0], 14 * grid[1]))
    return {f"y{i}": value for i, value in enumerate(maps)}


def metric_decoder(case: Case) -> dict[str, Tensor]:
    """Pi3X's metric query; positions are those of one frame, repeated."""
    c = case.config
    decoder = seeded_module(
        case,
        lambda: MetricDecoder(c["in_dim"], c["dec_embed_dim"], c["depth"], c["num_heads"], c["out_dim"]),
    )
    period = case.inputs["positions"].shape[1] // c["frames"]
    positions = case.inputs["positions"][0, :period]
    rotation = rotation_for(positions, c["dec_embed_dim"] // c["num_heads"])
    return {"out": decoder(case.inputs["query"], case.inputs["context"], rotation)}


def plane(case: Case) -> dict[str, Tensor]:
    """Positions on the image plane; each case is (columns, rows, aspect)."""
    return {f"uv{i}": image_plane(h, w, aspect) for i, (w, h, aspect) in enumerate(case.config["cases"])}


def model(case: Case) -> dict[str, Tensor]:
    """Predictions, the trunk's last tokens, and samples of its blocks where the case stores some."""
    network = _network(case)
    images = case.inputs["images"]
    options, priors = RunOptions(heads=("camera", "depth", "points")), _priors(case)
    if case.group == "full":  # both without and with what is known
        results = _predicted(network(images, options=options)) | _trunk(case, network, images)
        if priors is not None:
            known = _predicted(network(images, options=options, priors=priors))
            results |= {f"prior.{name}": value for name, value in known.items()}
        return {name: value for name, value in results.items() if name in case.outputs}
    predictions = network(images, options=options, priors=priors)
    return _predicted(predictions) | _trunk(case, network, images)


def _priors(case: Case) -> Priors | None:
    """What the case gives beside images."""
    inputs = case.inputs
    if not {"poses", "intrinsics", "depths"} & inputs.keys():
        return None
    return Priors(
        inputs.get("poses"),
        inputs.get("intrinsics"),
        inputs.get("depths"),
        inputs.get("mask_pose"),
        inputs.get("mask_ray"),
        inputs.get("mask_depth"),
    )


def pose_injection(case: Case) -> dict[str, Tensor]:
    """The change of patch tokens; a mask over pairs of tokens says which frames have a pose."""
    c = case.config
    block = seeded_module(case, lambda: PoseInjection(c["dim"], c["num_heads"]))
    grid = (c["H"] // 14, c["W"] // 14)
    known = None
    if "attn_mask" in case.inputs:
        looks = case.inputs["attn_mask"][:, 0].sum(-1) > 1  # tokens without a pose look at themselves
        known = looks.unflatten(1, (c["frames"], -1))[:, :, 0]
    return {"y": block(case.inputs["x"], torch.linalg.inv(case.inputs["poses"]), grid, known)}


def _network(case: Case) -> Pi3:
    """A Pi3, or a Pi3X without its multimodal branch."""
    if "metric_token" not in case.inventory:
        config = _config(case, PI3_SPEC.config_from_shapes(case.shapes, case.id))
        return seeded_module(case, lambda: Pi3(config))
    found = PI3X_SPEC.config_from_shapes(case.shapes, case.id)
    heads = case.config.get("metric", {}).get("heads", found.metric_heads)
    found = dataclasses.replace(found, metric_heads=heads)
    _config(case, found)
    return seeded_module(case, lambda: Pi3X(found))


def _config(case: Case, config: Pi3Config) -> Pi3Config:
    stated = {
        "embed_dim": config.dim,
        "encoder_depth": config.encoder.depth,
        "encoder_heads": config.encoder.num_heads,
        "decoder_depth": 2 * config.depth,
        "decoder_heads": config.num_heads,
        "camera_dim": config.camera_dim,
        "register_tokens": config.registers,
        "patch": config.patch_size,
    }
    for name, value in stated.items():
        if case.config.get(name, value) != value:
            raise BrokenCase(f"its config gives {name} {case.config[name]}, its weights {value}")
    return config


def _predicted(predictions: Predictions) -> dict[str, Tensor]:
    poses, local = predictions.world_from_cam, predictions.local_points
    assert poses is not None and local is not None and predictions.confidence_logits is not None
    # The golden points are in the network's own world, ours in the first camera's.
    first = poses[:, :1, None, None]
    assert predictions.world_points is not None
    points = (first[..., :3, :3] @ predictions.world_points[..., None])[..., 0] + first[..., :3, 3]
    found = {
        "camera_poses": poses,
        "conf": predictions.confidence_logits,
        "local_points": local,
        "points": points,
    }
    if predictions.metric_scale is not None:
        found |= {"metric": predictions.metric_scale, "rays": torch.nn.functional.normalize(local, dim=-1)}
    return found


def _trunk(case: Case, network: Pi3, images: Tensor) -> dict[str, Tensor]:
    """`hidden`, samples `blockN.part` and `encoder`."""
    special, found = network.config.special_tokens, {}
    results = {}

    def keep(layer: int, frame_tokens: Tensor, global_tokens: Tensor, compute: Compute) -> None:
        found[2 * layer], found[2 * layer + 1] = frame_tokens.clone(), global_tokens.clone()

    network.run_layers(images, Plan.dense(network.config.depth), RunOptions(), keep)
    last = 2 * network.config.depth
    results["hidden"] = torch.cat([found[last - 2], found[last - 1]], -1).flatten(0, 1)
    for name in case.outputs:
        if match := re.fullmatch(r"block(\d+)\.(special|mean|patches)", name):
            tokens = found[int(match[1])]
            patches = tokens[:, :, special:]
            part = {"special": tokens[:, :, :special], "mean": patches.mean(2), "patches": patches}[match[2]]
            results[name] = sample(part, case.outputs[name]["about"])
    if "encoder" in case.outputs:
        grid = network.config.layout(images.shape[1], *images.shape[-2:]).grid
        encoder = network.encoder
        tokens = encoder(
            normalise_images(images.flatten(0, 1), images.dtype), encoder.position_embedding(grid)
        )
        results["encoder"] = sample(tokens, case.outputs["encoder"]["about"])
    return {name: value for name, value in results.items() if name in case.outputs}
