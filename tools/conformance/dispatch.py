"""Which code a case exercises, decided from its group, its inventory and its fields, not from its name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from torch import Tensor

from tools.conformance import da3, flash, merging, modules, omega, operations, pi3, stream, whole
from tools.conformance.folder import BrokenCase, Case

Handler = Callable[[Case], dict[str, Tensor]]


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A case that is not run, and why."""

    reason: str


def find_handler(case: Case) -> Handler | Skipped:
    """The code to run for a case, or the reason to leave it out.

    A case of an implemented model that nothing here recognises gets a handler that fails, so that it
    cannot go unnoticed.
    """
    if case.group == "preprocess":
        return _preprocess
    if case.group == "vggt_ops":
        return _first_match(_OPERATIONS, case.entry["inputs"].keys() | case.entry["config"].keys())
    if case.group in _FLASH or (case.group == "full" and case.name in (*_FLASH, "stream_v1", "stream_v2")):
        return _flash
    if case.group == "fastvggt":
        return _first_match(_MERGING, case.entry["inputs"].keys() | case.entry["config"].keys())
    if case.group == "pi3" and case.name == "view_plane_uv":
        return pi3.plane
    if case.group == "pi3" and {"poses", "x"} <= case.entry["inputs"].keys():
        return pi3.pose_injection
    if case.group == "pi3":
        return _from_inventory
    if case.group == "vggt":
        return _from_inventory
    if case.group == "full" and (case.name in ("pi3", "pi3x") or case.name.startswith("vggt")):
        return _from_inventory
    if case.group == "da3":
        return next((h for start, h in da3.HANDLERS if case.name.startswith(start)), _unrecognised)
    model = case.name if case.group == "full" else case.group
    if model in ("omega", "omega_text"):
        return omega.run
    return Skipped(f"{model} is not implemented")


# Names that must all occur among the inputs and settings of an operation.
_OPERATIONS: tuple[tuple[frozenset[str], Handler], ...] = (
    (frozenset({"depth", "extrinsics", "intrinsics"}), operations.geometry),
    (frozenset({"pose", "x2", "x4"}), operations.head_activations),
    (frozenset({"pose_enc"}), operations.pose_encoding),
    (frozenset({"positions", "tokens"}), operations.rotary),
    (frozenset({"fmaps", "coords", "track_feats"}), operations.tracking),
    (frozenset({"cases", "omega_0"}), operations.image_plane_embedding),
)

_FLASH = ("flash_v1", "flash_v2")
_FLASH_PARTS: tuple[tuple[str, Handler], ...] = (
    ("attention_", flash.attention),
    ("block_", flash.block),
    ("keyframes_", flash.keyframes),
    ("normalise_points", flash.normalised_points),
    ("aggregator_", flash.trunk),
    ("flash_", flash.model),
    ("stream_drop", stream.trunk),
    ("stream_", stream.model),
)


def _flash(case: Case) -> dict[str, Tensor]:
    return next((h for start, h in _FLASH_PARTS if case.name.startswith(start)), _unrecognised)(case)


_MERGING: tuple[tuple[frozenset[str], Handler], ...] = (
    (frozenset({"metric", "r"}), merging.token_merge),
    (frozenset({"merge_ratio", "dim"}), merging.merged_attention),
)

# Keys that must all begin a weight of the module; read after the inventory is opened.
_MODULES: tuple[tuple[frozenset[str], Handler], ...] = (
    (frozenset({"aggregator."}), whole.model),
    (frozenset({"point_decoder.", "conf_decoder.", "register_token"}), pi3.model),
    (frozenset({"projects.", "linear_out."}), pi3.head_decoder),
    (frozenset({"projects_x.", "linear_out."}), pi3.metric_decoder),
    (frozenset({"upsample_blocks.", "output_block."}), pi3.conv_head),
    (frozenset({"res_conv.", "fc_rot."}), pi3.camera_head),
    (frozenset({"feature_extractor.", "tracker."}), modules.track_head),
    (frozenset({"empty_pose_tokens", "trunk."}), modules.camera_head),
    (frozenset({"projects.0.", "scratch."}), modules.dense_head),
    (frozenset({"frame_blocks.", "global_blocks."}), modules.trunk),
    (frozenset({"patch_embed.proj.", "pos_embed", "blocks."}), modules.encoder),
    (frozenset({"attn.qkv.", "norm1."}), modules.block),
    (frozenset({"proj."}), pi3.pixel_head),
)


def _first_match(table: tuple[tuple[frozenset[str], Handler], ...], names: set[str]) -> Handler:
    return next((handler for needed, handler in table if needed <= names), _unrecognised)


def _from_inventory(case: Case) -> dict[str, Tensor]:
    keys = case.inventory.keys()
    for needed, handler in _MODULES:
        if all(any(key.startswith(start) for key in keys) for start in needed):
            return handler(case)
    return _unrecognised(case)


def _unrecognised(case: Case) -> dict[str, Tensor]:
    raise BrokenCase("nothing here recognises this case: its inputs and weights fit no part of the model")


def _preprocess(case: Case) -> dict[str, Tensor]:
    from tools.conformance.preprocess import run_preprocess_case

    inputs = {name: value.cpu() for name, value in case.inputs.items()}
    return run_preprocess_case(case.entry, inputs, case.expected)
