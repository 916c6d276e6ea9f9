"""Miniatures of every family, in the published layout, through the hub's cache: name in, network out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from manyview.errors import WeightsError
from manyview.models.checkpoints.named import NamedModel
from manyview.models.da3.config import CameraEncoderConfig, DA3Config
from manyview.models.da3.model import DA3
from manyview.models.families import FAMILIES, MODELS
from manyview.models.load import load
from manyview.models.part_configs import DenseHeadConfig
from manyview.models.run_options import RunOptions

from .da3.tiny_mono import tiny_mono
from .da3.tiny_nested import tiny_nested
from .omega.tiny_omega import tiny_omega
from .tiny import TINY, tiny_vggt
from .tiny_pi3 import tiny_pi3, tiny_pi3x

pytest.importorskip("huggingface_hub")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_FLASH = dataclasses.replace(TINY, point_head=None)


def _da3() -> DA3:
    head = DenseHeadConfig(16, (8, 8, 16, 16))
    model = DA3(
        DA3Config(dim=32, num_heads=2, native_grid=4, head=head, camera_encoder=CameraEncoderConfig(1))
    )
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15, generator=generator)
    with torch.no_grad():  # a field of view
        model.cam_dec.fc_fov[0].weight.mul_(0.2)
        model.cam_dec.fc_fov[0].bias.fill_(0.9)
    return model.eval()


# By family: the network of each row, and what its publishers put before the names of its tensors.
NETWORKS: dict[str, tuple[Callable[[str], torch.nn.Module], str]] = {
    "VGGT": (lambda name: tiny_vggt(config=_FLASH if "flash" in name else TINY), ""),
    "Pi3": (lambda name: tiny_pi3(), ""),
    "Pi3X": (lambda name: tiny_pi3x(), ""),
    "VGGT-Omega": (lambda name: tiny_omega(), ""),
    "Depth Anything 3": (lambda name: _da3(), "model."),
    "Depth Anything 3 (nested)": (lambda name: tiny_nested(), "model."),
    "Depth Anything 3 (single views)": (lambda name: tiny_mono("metric" in name), "model."),
}
# What shapes do not tell of a miniature (they tell it of the published sizes) stands in its config.json.
_STATED = ("VGGT-Omega",)
ROWS = [(family.name, row) for family in FAMILIES for row in family.models if row.hub_id is not None]


def tensors_of(family: str, row: NamedModel) -> dict[str, Tensor]:
    network, prefix = NETWORKS[family]
    state = network(row.name).state_dict()
    return {f"{prefix}{key}": value.clone().contiguous() for key, value in state.items()}


def write(cache: Path, family: str, row: NamedModel, tensors: dict[str, Tensor]) -> Path:
    """The repository of a row as the hub's library keeps it, with `tensors` as its weights."""
    root = cache / f"models--{str(row.hub_id).replace('/', '--')}"
    commit = row.revision or COMMIT
    folder = root / "snapshots" / commit
    folder.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    path = folder / (row.file or "model.safetensors")
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    if family in _STATED:
        network = NETWORKS[family][0](row.name)
        (folder / "config.json").write_text(json.dumps({"manyview": {"config": network.config.to_json()}}))
    return path


def test_every_family_has_a_miniature():
    assert set(NETWORKS) == {family.name for family in FAMILIES}
    assert {row.name for _, row in ROWS} == {row.name for row in MODELS if row.hub_id is not None}


@pytest.mark.parametrize(("family", "row"), ROWS, ids=[row.name for _, row in ROWS])
def test_a_name_finds_it_in_the_cache(tmp_path, family, row):
    tensors = tensors_of(family, row)
    write(tmp_path, family, row, tensors)
    model = load(row.name, offline=True, cache_dir=tmp_path)
    assert (model.name, model.licence) == (row.name, row.licence)
    assert model.info.commercial_use is row.commercial_use
    assert model.info.source == f"{row.hub_id}@{row.revision or COMMIT}"
    # Some networks leave out what is not used at inference, but nothing else.
    prefix = NETWORKS[family][1]
    held = {f"{prefix}{key}": value for key, value in model.state_dict().items()}
    assert held and all(torch.equal(value, tensors[key]) for key, value in held.items() if key in tensors)
    patch = model.config.patch_size
    heads = [head for head in ("camera", "depth") if head in model.available_heads]
    with torch.inference_mode():
        images = torch.rand(2, 3, 3 * patch, 4 * patch)
        answer = model(images, options=RunOptions(heads=tuple(heads)))
    assert answer.z_depth.shape == (1, 2, 3 * patch, 4 * patch) and bool(answer.z_depth.isfinite().all())


@pytest.mark.parametrize(
    ("family", "damage"),
    [
        *((family, "lacks a tensor") for family in NETWORKS),
        ("VGGT", "has one too many"),
        ("Depth Anything 3", "has one too many"),
        ("Depth Anything 3", "is cut off"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, family, damage):
    row = next(row for name, row in ROWS if name == family)
    tensors = tensors_of(family, row)
    some = list(tensors)[len(tensors) // 2]
    if damage == "lacks a tensor":
        del tensors[some]
    elif damage == "has one too many":
        tensors["nobody.knows.this"] = torch.zeros(2)
    path = write(tmp_path, family, row, tensors)
    if damage == "is cut off":
        path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=path.name) as error:
        load(row.name, offline=True, cache_dir=tmp_path)
    assert "\n" not in str(error.value)
