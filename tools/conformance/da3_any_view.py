"""Handlers of Depth Anything 3's any-view networks: functions, backbone, cameras, whole networks."""

from __future__ import annotations

import torch
from torch import Tensor

from manyview.attention.plan import Plan
from manyview.models.blocks import Block
from manyview.models.da3.backbone import AlternatingTransformer, CameraTokens, VisionTransformer
from manyview.models.da3.config import DA3Config, TransformerConfig
from manyview.models.da3.reference_view import RestoredOrder, reference_first, reference_view
from manyview.models.encoder import resized_positions
from manyview.models.layers import LayerNorm, Mlp, SwiGlu
from manyview.models.part_configs import DenseHeadConfig
from manyview.models.precision import PLAIN, Compute
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


def any_view_config(settings: dict) -> DA3Config:
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
            results |= _auxiliary(case, model, taps, tokens.order)
    return {name: value for name, value in results.items() if name in case.outputs}


def _auxiliary(
    case: Case, model: AlternatingTransformer, taps: Tapped, order: RestoredOrder
) -> dict[str, Tensor]:
    """Normed patches after single blocks; reordered from the block before alternation on."""
    found, images = {}, case.inputs["images"]
    stop, unpaired = model.config.alternating_from, model.config.unpaired
    for number in case.config["aux_layers"]:
        if number >= stop:
            x = taps.states[(number - stop + unpaired) // 2][number % 2]
        else:
            grid = model.config.layout(1, *images.shape[-2:]).grid
            positions = model.position_embedding(grid)
            x = model.within_views(images.flatten(0, 1), positions, number + 1).unflatten(0, images.shape[:2])
            x = order.apply(x) if number == stop - 1 else x
        found[f"aux{number}"] = model.norm(x[:, :, 1:])
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
