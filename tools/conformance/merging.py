"""Handlers of FastVGGT's merging: the roles and means of tokens, and attention on the merged sequence."""

from __future__ import annotations

import torch
from torch import Tensor

from manyview.attention.global_attention import GlobalAttention
from manyview.attention.layout import TokenLayout
from manyview.attention.merging.means import copy_back
from manyview.attention.methods.fastvggt import SequenceMerge
from manyview.attention.protocols import LayerInput, LayerRun
from manyview.models.blocks import Attention
from manyview.models.rotary import rotation_for
from tools.conformance.folder import Case
from tools.conformance.settings import seeded_module

_SPECIALS = 5
_PROTECTED = 0.1  # of the tokens, in the released code


def _layout(case: Case) -> TokenLayout:
    c = case.config
    return TokenLayout(c["frames"], _SPECIALS, (c["h"], c["w"]))


def token_merge(case: Case) -> dict[str, Tensor]:
    """Roles, merged and restored tokens; similarity features are given apart from what is merged."""
    c, layout = case.config, _layout(case)
    merge = SequenceMerge(
        ratio=(c["r"] + 0.5) / layout.tokens,
        protect=_PROTECTED if c["enable_protection"] else 0.0,
        window=(c["sy"], c["sx"]),
        seed=c["generator_seed"],
        sheared=True,
        half_scores=c["similarity_dtype"] == "bfloat16",
    )
    plan = merge.plan(layout)
    (block,) = plan.merge.blocks
    layer = LayerInput(_NoAttention(), case.inputs["metric"], layout, None, LayerRun())
    restore = merge.back(layer)
    merged = merge.shorten(layer, case.inputs["x"][:, None])
    extra = merge.shorten(layer, case.inputs["extra"][:, None])
    return {
        "dst_tokens": block.tokens[0, block.into].sort().values,
        "merged_length": torch.tensor([plan.slots]),
        "n_merged": torch.tensor([block.merged]),
        "protected": plan.protected,
        "sum_merged": merged[:, 0].sum(1),
        "mean_abs": merged[:, 0].abs().mean(1),
        "restored": copy_back(merged, restore)[:, 0],
        "restored_extra": copy_back(extra, restore)[:, 0],
    }


def merged_attention(case: Case) -> dict[str, Tensor]:
    """Global attention on the merged sequence, and without merging."""
    c, layout = case.config, _layout(case)
    attention = seeded_module(case, lambda: Attention(c["dim"], c["num_heads"], qk_norm=c["qk_norm"]))
    rotation = rotation_for(case.inputs["positions"][0], c["dim"] // c["num_heads"])
    merge = SequenceMerge(
        c["merge_ratio"],
        _PROTECTED if c["protection"] else 0.0,
        (c["sy"], c["sx"]),
        c["generator_seed"],
        sheared=True,
        half_scores=True,
    )
    results = {}
    for name, layer in (("y", GlobalAttention(merge, merge)), ("y_plain", GlobalAttention())):
        results[name] = layer(attention, case.inputs["x"], layout, rotation, LayerRun())
    return results


class _NoAttention:
    """Stands in where only the roles of tokens are needed."""

    spatial_compressor = None

    def queries(self, x: Tensor, rotation: object = None, piece: int | None = None) -> Tensor:
        raise NotImplementedError("no attention belongs to this case")

    def keys_values(
        self, x: Tensor, rotation: object = None, piece: int | None = None
    ) -> tuple[Tensor, Tensor]:
        raise NotImplementedError("no attention belongs to this case")

    def output(self, heads: Tensor) -> Tensor:
        raise NotImplementedError("no attention belongs to this case")
