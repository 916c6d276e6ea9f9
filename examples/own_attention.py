"""An attention method of one's own, composed of parts that are there, beside dense attention.

A plan is one `GlobalAttention(queries, keys, fill)` for each global layer. Here early layers attend within
frames, and later ones to a random quarter of the patches.

    python examples/own_attention.py
"""

from __future__ import annotations

import torch

import manyview
from manyview.attention.dense import SameFrameKeys
from manyview.attention.global_attention import GlobalAttention
from manyview.attention.methods.random import RandomKeys
from manyview.synthetic import demo_scene


def main() -> None:
    model = manyview.load("manyview-small")
    depth = model.config.depth
    early = (GlobalAttention(keys=SameFrameKeys()),) * (depth // 3)
    late = (GlobalAttention(keys=RandomKeys(keep=0.25)),) * (depth - depth // 3)
    plan = manyview.Plan(early + late)

    images = demo_scene(views=6, height=80, width=112).images[0]  # [views, 3, height, width]
    layout = model.config.layout(len(images), *images.shape[-2:])
    print(plan.table(layout, model.config.dim))
    with torch.no_grad():
        dense, cheap = (model(images, p) for p in (manyview.Plan.dense(depth), plan))
    error = (cheap.z_depth - dense.z_depth).abs().mean() / dense.z_depth.mean()
    print(f"depth differs from dense attention's by {error:.1%} on average")


if __name__ == "__main__":
    main()
