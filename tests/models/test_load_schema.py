"""Weights that a stranger made: impossible sizes, odd tensors and files that are none end in one sentence."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from manyview.errors import ManyViewError, UsageError, WeightsError
from manyview.models.checkpoints import read
from manyview.models.checkpoints.folder import card_licence
from manyview.models.load import load
from manyview.models.omega.config import OmegaConfig
from manyview.models.pi3.config import Pi3XConfig
from manyview.models.vggt.config import VGGTConfig
from manyview.reconstruction.run.engine import reconstruct

from .tiny import TINY, tiny_vggt

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    return {key: value.detach().clone() for key, value in tiny_vggt().state_dict().items()}


def write(path: Path, state: State, **changes: Any) -> Path:
    save_file(state, path, {"manyview": json.dumps({"config": TINY.to_json(), **changes})})
    return path


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("depth", 2**40),
        ("depth", 0),
        ("depth", -1),
        ("depth", 4.0),
        ("depth", "4"),
        ("depth", None),
        ("dim", 10**9),
        ("dim", 0),
        ("num_heads", 0),
        ("num_heads", -2),
        ("mlp_ratio", -1.0),
        ("mlp_ratio", 1e300),
        ("rope_base", 0),
        ("patch_size", 0),
        ("image_size", 10**9),
        ("registers", -1),
        ("taps", [0, 1, 2]),
        ("taps", [0, 1, 2, 9]),
        ("taps", [0, 1, 2, -1]),
        ("taps", [0, 1, 2, "3"]),
        ("taps", 5),
        ("encoder", 5),
        ("encoder", {"depth": 2**40}),
        ("encoder", {"num_heads": 3}),
        ("camera_head", {"iterations": 10**9}),
        ("camera_head", {"iterations": 0}),
        ("camera_head", {"num_heads": 3}),
        ("depth_head", {"features": -1}),
        ("depth_head", {"out_channels": [1, 2, 3]}),
        ("unheard_of", 1),
        ("encoder", {"unheard_of": 1}),
    ],
)
def test_impossible_sizes_are_refused_before_anything_is_allocated(
    tmp_path: Path, state: State, field: str, value: object
) -> None:
    path = write(tmp_path / "w.safetensors", state, config={**TINY.to_json(), field: value})
    with pytest.raises(WeightsError, match=r"w\.safetensors"):
        load(path)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (OmegaConfig, {"pairs": 2**40}),
        (OmegaConfig, {"register_layers": [0, -1]}),
        (OmegaConfig, {"text_head": {"depth": -1}}),
        (Pi3XConfig, {"decoder_depth": 2**40}),
        (Pi3XConfig, {"conv_widths": [1, 2]}),
        (Pi3XConfig, {"metric_heads": 0}),
        (VGGTConfig, {"track_head": {"iterations": 10**9}}),
    ],
)
def test_every_family_has_bounds(kind: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes)).split("_")[0]):
        kind.from_json({**kind().to_json(), **changes})


@pytest.mark.parametrize(
    "text", ["[1]", "[" * 100_000, "\udcff", '{"licence": {"a": 1}}', '{"config": [1]}', "NaN"]
)
def test_metadata_of_a_wrong_kind(tmp_path: Path, state: State, text: str) -> None:
    path = tmp_path / "w.safetensors"
    save_file(state, path, {"manyview": text.replace("\udcff", '"\\ud800')})
    with pytest.raises(WeightsError, match=r"w\.safetensors"):
        load(path)


@pytest.mark.parametrize("accel", [5, {"plan": 5}, {"early": "all"}, {"early": -1}])
def test_an_accel_entry_of_a_wrong_kind(tmp_path: Path, state: State, accel: object) -> None:
    with pytest.raises(WeightsError, match="accel"):
        load(write(tmp_path / "w.safetensors", state, accel=accel))


def test_layers_numbered_without_end(tmp_path: Path, state: State) -> None:
    path = tmp_path / "w.safetensors"
    save_file({**state, f"aggregator.frame_blocks.{2**40}.x": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"w\.safetensors"):
        load(path)


ODD = {
    "meta": lambda: torch.zeros(3, device="meta"),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "csr": lambda: torch.eye(3).to_sparse_csr(),
    "nested": lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
    "expanded": lambda: torch.zeros(1).expand(10**6, 10**6),
    "quantised": lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8),
    "complex": lambda: torch.zeros(64, dtype=torch.complex64),
    "whole": lambda: torch.zeros(64, dtype=torch.int64),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ODD)
def test_tensors_that_are_no_plain_numbers(tmp_path: Path, state: State, kind: str) -> None:
    torch.save({**state, "aggregator.camera_token": ODD[kind]()}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"w\.pt"):
        load(tmp_path / "w.pt")


def test_a_table_that_holds_itself_ends(tmp_path: Path) -> None:
    data: dict[str, Any] = {}
    data["model"] = data
    torch.save(data, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"w\.pt"):
        load(tmp_path / "w.pt")


def test_a_large_file_that_does_not_fit_is_not_hashed(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hashed(path: Path) -> str:
        raise AssertionError(f"{path} was read whole")

    monkeypatch.setattr(read, "file_sha256", hashed)
    path = tmp_path / "w.safetensors"
    length = 10 * 2**30
    header = {key: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for key in ()}
    header["aggregator.frame_blocks.0.x"] = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}
    header["aggregator.global_blocks.0.x"] = {
        "dtype": "U8",
        "shape": [length],
        "data_offsets": [1, 1 + length],
    }
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + 1 + length)
    with pytest.raises(WeightsError, match=r"w\.safetensors"):
        load(path)


@pytest.mark.parametrize(
    "header", ['{"a": 5}', '{"a": {"data_offsets": [0, "4"]}}', "{" + '"a":{' * 9999, "[]"]
)
def test_a_damaged_header(tmp_path: Path, header: str) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(64))
    with pytest.raises(WeightsError, match=r"w\.safetensors"):
        load(path)


@pytest.mark.parametrize("text", ["[]", '{"weight_map": 5}', '{"weight_map": {"a": 5}}', "[" * 100_000])
def test_a_damaged_index_of_shards(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(WeightsError, match="index"):
        load(tmp_path)


def test_a_fifo_is_refused_at_once(tmp_path: Path, state: State) -> None:
    fifo = tmp_path / "w.safetensors"
    os.mkfifo(fifo)
    with pytest.raises(ManyViewError, match=r"w\.safetensors"):
        load(fifo)
    folder = tmp_path / "folder"
    folder.mkdir()
    os.mkfifo(folder / "README.md")
    assert card_licence(folder / "README.md") is None
    write(folder / "model.safetensors", state)
    assert load(folder).info is not None


@pytest.mark.photos(2, 32, 32)
def test_weights_without_a_depth_head_say_so(tmp_path: Path, state: State, photos: Path) -> None:
    rest = {key: value for key, value in state.items() if not key.startswith("depth_head.")}
    model = load(write(tmp_path / "w.safetensors", rest, config={**TINY.to_json(), "depth_head": None}))
    with pytest.raises(UsageError, match="depth"):
        reconstruct(photos, model)
