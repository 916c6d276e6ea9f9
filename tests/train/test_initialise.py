"""The initial weights do what they are there for."""

from __future__ import annotations

import pytest
import torch

from manyview.models.vggt.model import VGGT
from manyview.train.auxiliary import AuxiliaryHeads
from manyview.train.config import OptimiserOptions
from manyview.train.initialise import initialise, set_output_biases, sine_table
from manyview.train.optimiser import parameter_groups

from .tiny import MODEL, tiny_config


@pytest.fixture(scope="module")
def model() -> VGGT:
    model = VGGT(MODEL)
    initialise(model, tiny_config())
    return model


def test_global_layers_start_with_equal_queries_and_keys_blind_to_position(model: VGGT) -> None:
    table = sine_table((4, 4), MODEL.dim)
    for block in model.aggregator.global_blocks:
        query, key, _ = block.attn.qkv.weight.detach().split(MODEL.dim)
        assert torch.equal(query, key)
        blind = (table - table.mean(0)) @ query.T
        assert float(blind.abs().max()) < 1e-2 * float(query.norm(dim=1).max())
        assert torch.equal(block.attn.q_norm.weight, torch.full((16,), 1.4))


def test_initialisation_is_the_seeds(model: VGGT) -> None:
    again, other = VGGT(MODEL), VGGT(MODEL)
    initialise(again, tiny_config())
    initialise(other, tiny_config(seed=1))
    same = again.state_dict()
    assert all(torch.equal(value, same[name]) for name, value in model.state_dict().items())
    assert not torch.equal(other.camera_head.embed_pose.weight, again.camera_head.embed_pose.weight)


def test_output_biases_make_the_mean_prediction() -> None:
    model = VGGT(MODEL)
    initialise(model, tiny_config())
    camera = torch.tensor([0.1, 0.0, 0.2, 0.0, 0.0, 0.0, 1.0, 1.2, 1.3])
    set_output_biases(model, 0.8, camera)
    with torch.no_grad():
        for part in (model.depth_head.scratch.output_conv2[2], model.camera_head.pose_branch.fc2):
            part.weight.zero_()
        found = model(torch.rand(1, 2, 3, 16, 24))
    torch.testing.assert_close(found.pose_encoding, camera.expand(1, 2, 9))
    torch.testing.assert_close(found.z_depth, torch.full((1, 2, 16, 24), 0.8))


def test_every_trained_parameter_is_in_one_group(model: VGGT) -> None:
    heads = AuxiliaryHeads(MODEL.depth, MODEL.dim)
    groups = parameter_groups(model, heads, OptimiserOptions(slow_lr=0.1, weight_decay=0.02))
    ids = [id(p) for group in groups for p in group["params"]]
    trained = [p for module in (model, heads) for p in module.parameters() if p.requires_grad]
    assert len(ids) == len(set(ids)) and set(ids) == {id(p) for p in trained}
    slow = {id(p) for p in groups[2]["params"]}
    assert groups[2]["lr_scale"] == 0.1
    assert id(model.aggregator.global_blocks[0].ls1.gamma) in slow
    assert id(model.camera_head.pose_branch.fc2.bias) not in slow
    assert [group["weight_decay"] for group in groups] == [0.02, 0.0, 0.0]
