"""Depth Anything 3: which handler runs a case, by the beginning of its name."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tools.conformance import da3_any_view, da3_heads, da3_single_views, preprocess
from tools.conformance.folder import Case

Handler = Callable[[Case], dict[str, Tensor]]

HANDLERS: tuple[tuple[str, Handler], ...] = (
    ("uv_embed", da3_heads.image_plane_embedding),
    ("dualdpt", da3_heads.dual_head),
    ("dpt_sky", da3_heads.sky_head),
    ("rope", da3_any_view.rope),
    ("pos_embed", da3_any_view.position_tables),
    ("ref_view", da3_any_view.reference_views),
    ("block_", da3_any_view.block),
    ("final_norm", da3_any_view.final_norm),
    ("backbone", da3_any_view.backbone),
    ("pose_enc", da3_any_view.pose_encoding),
    ("cam_enc", da3_any_view.camera_encoder),
    ("cam_dec", da3_any_view.camera_decoder),
    ("normalise_extrinsics", da3_any_view.normalised_cameras),
    ("align_to_input", da3_any_view.aligned_to_known),
    ("anyview_", da3_any_view.network),
    ("posed_", da3_any_view.network),
    ("full_small", da3_any_view.network),
    ("full_base", da3_any_view.network),
    ("full_large", da3_any_view.network),
    ("preprocess", preprocess.run_bound_case),
    ("ray_pose", da3_heads.ray_cameras),
    ("mono_sky", da3_single_views.far_sky),
    ("nested_align", da3_single_views.alignment),
    ("nested", da3_single_views.nested),
    ("mono", da3_single_views.model),
    ("full_metric_large", da3_single_views.model),
)
