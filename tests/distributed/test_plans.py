"""Every method of global attention over ranks, a layer at a time, against the same in one process."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from manyview.attention.global_attention import GlobalAttention
from manyview.attention.layout import TokenLayout
from manyview.attention.methods import METHODS
from manyview.attention.plan import Plan
from manyview.attention.protocols import LayerRun
from manyview.attention.visible_keys import VisibleKeys

from ..attention.settings import small_layer
from .threads import own_frames, run

DEPTH = 8
SEVEN = TokenLayout(7, 2, (3, 5))
EQUAL = TokenLayout(7, 1, (4, 4), reference_frame=None)
LATER = TokenLayout(6, 1, (2, 5), reference_frame=4)

SPECS = [
    "avggt",
    "avggt:stride=2x2,phase_shift=true,gain=1",
    "avggt:stride=2x2,mean_before_positions=true",
    "avggt:diagonal=false,mean=false",
    "avggt:early_keys=mean",
    "random",
    "random:keep=0.4,fill=true",
    "flash:r=2",
    "flash:r=2,keyframes=3,duplicates=false,count_bias=1",
    "flash:r=2,keyframes=2,keyframe_rule=stride,specials=false,first_frame=false",
    "anchors:frames=2",
    "anchors:frames=3,choice=even,own_frame=false",
    "anchors:frames=2,descriptors=2",
    "anchors:frames=3,own_frame=false,descriptors=2",
    "anchors:frames=9",
    "gotohunt:frames=3",
    "spark3r",
    "spark3r:q=2,r=2,group=2",
    "spark3r:r=3,multiple=2",
    "httm:time=2,space=4",
    "httm:time=1,space=6,q=0.5,count_bias=1,outliers=0.3",
    "httm:time=2,space=5,into=random,anchor=true,outliers=0",
    "httm:time=3,space=20,q=0,kv=0.5",
    "avggt:early=2,stride=2x2+httm:time=2,space=4",
]
REFUSED = ["fastvggt", "blocksparse", "flash:causal=true"]


def layer_run(tokens: torch.Tensor, layout: TokenLayout, **more) -> LayerRun:
    features = tokens.unflatten(1, (layout.frames, -1)).mean(2).float()
    return LayerRun(frame_features=features, frames_per_chunk=2, **more)


def outputs(plan: Plan, layer, layout: TokenLayout, run: LayerRun) -> torch.Tensor:
    attention, tokens, rotation = layer
    return torch.stack(
        [
            attend(attention, tokens, layout, rotation, dataclasses.replace(run, layer=number))
            for number, attend in enumerate(plan.layers)
        ]
    )


def over_ranks(plan: Plan, layer, whole: TokenLayout, ranks: int, ring: bool = False):
    """Outputs of all layers, joined; bytes received by each rank; frames of each."""
    attention, tokens, rotation = layer
    run_of = layer_run(tokens, whole)

    def own(group):
        part = own_frames(tokens.unflatten(1, (whole.frames, -1)), group).flatten(1, 2)
        of_rank = dataclasses.replace(run_of, ranks=group, whole=whole, memory={})
        found = outputs(plan, (attention, part, rotation), whole.part(group.split), of_rank)
        return found, group.received, group.split.count

    results = run(whole.frames, ranks, own, plan.frames_together(whole), ring)
    found, received, counts = zip(*results, strict=True)
    return torch.cat(found, 2), received, counts


def layers_of(spec: str) -> Plan:
    """A plan of the layers of `spec` that differ, the camera head's among them."""
    plan = Plan.parse(spec, DEPTH)
    return Plan(tuple(dict.fromkeys(plan.layers if plan.camera is None else (*plan.layers, plan.camera))))


def test_every_method_is_tried():
    tried = {part.partition(":")[0] for spec in (*SPECS, *REFUSED) for part in spec.split("+")}
    assert tried == set(METHODS)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize(("layout", "ranks"), [(SEVEN, 3), (EQUAL, 2), (LATER, 4)], ids=["7/3", "7/2", "6/4"])
@torch.no_grad()
def test_ranks_give_what_one_process_gives(spec, layout, ranks):
    plan, layer = layers_of(spec), small_layer(layout)
    assert plan.why_not_distributed(layout) is None
    want = outputs(plan, layer, layout, layer_run(layer[1], layout))
    got, _, counts = over_ranks(plan, layer, layout, ranks)
    assert len(counts) > 1
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("spec", SPECS)
@torch.no_grad()
def test_ranks_receive_what_exchanges_say(spec):
    """With as many frames on every rank; in double precision every number is of 8 bytes."""
    layout = TokenLayout(12, 2, (4, 5))
    attention, tokens, rotation = small_layer(layout)
    layer = attention, tokens[:1], rotation
    for attend in layers_of(spec).layers:
        plan = Plan((attend,))
        _, received, counts = over_ranks(plan, layer, layout, 2)
        assert counts == (6, 6)
        (exchange,) = plan.exchange(layout, 2, 16)
        assert sum(received) / 2 == (exchange.tokens * 2 * 16 + exchange.numbers) * 8 / 2


@pytest.mark.parametrize(("layout", "ranks"), [(SEVEN, 3), (EQUAL, 2), (SEVEN, 1)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@torch.no_grad()
def test_dense_keys_in_a_ring(layout, ranks, dtype):
    layer, dense = small_layer(layout, dtype), Plan.dense(1)
    want = outputs(dense, layer, layout, layer_run(layer[1], layout))
    got, received, _ = over_ranks(dense, layer, layout, ranks, ring=True)
    _, gathered, _ = over_ranks(dense, layer, layout, ranks)
    assert received == gathered
    rtol = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    assert (got - want).abs().max() <= rtol * want.abs().max()


@torch.no_grad()
def test_more_ranks_than_frames_or_blocks():
    layer = small_layer(LATER)
    for spec, active in (("anchors:frames=2", 6), ("httm:time=4,space=4", 2)):
        plan = layers_of(spec)
        got, _, counts = over_ranks(plan, layer, LATER, 9)
        assert len(counts) == active
        want = outputs(plan, layer, LATER, layer_run(layer[1], LATER))
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    "spec", ["dense", "avggt:stride=2x2,early=0", "gotohunt:frames=2", "spark3r:r=3", "random"]
)
@torch.no_grad()
def test_masked_patches_are_no_keys_on_any_rank(spec):
    attention, tokens, rotation = small_layer(SEVEN)
    hidden = torch.rand(7, 15, generator=torch.Generator().manual_seed(0)) < 0.3
    hidden[2] = True
    plan = layers_of(spec)
    layers = tuple(
        dataclasses.replace(one, keys=VisibleKeys(one.keys, hidden)) if one.keys.single_tokens else one
        for one in plan.layers
    )
    assert any(isinstance(one.keys, VisibleKeys) for one in layers)
    layer = attention, tokens[:1], rotation
    want = outputs(Plan(layers), layer, SEVEN, layer_run(layer[1], SEVEN))
    got, _, _ = over_ranks(Plan(layers), layer, SEVEN, 3)
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("spec", REFUSED)
def test_others_refuse(spec):
    plan = Plan.parse(spec, DEPTH)
    sentence = plan.why_not_distributed(SEVEN)
    assert sentence is not None and sentence.startswith(f"{plan} cannot run over several ranks")


def test_one_part_of_a_layer_may_refuse():
    dense, fast = GlobalAttention(), Plan.parse("fastvggt", 1).layers[0]
    assert Plan((dense, dataclasses.replace(dense, queries=fast.queries))).why_not_distributed(SEVEN)
    assert Plan((dense, dense)).why_not_distributed(SEVEN) is None
