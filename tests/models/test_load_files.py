"""Weights files of every container are read alike, and bad ones end with one sentence that says why."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from manyview.errors import ManyViewError, UsageError, WeightsError
from manyview.models.checkpoints import read_checkpoint
from manyview.models.checkpoints.assign import assign_weights
from manyview.models.load import load
from manyview.models.vggt.config import VGGTConfig
from manyview.models.vggt.model import VGGT
from manyview.models.vggt.spec import SPEC

from .tiny import TINY, tiny_vggt

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    return {key: value.detach().clone() for key, value in tiny_vggt().state_dict().items()}


def metadata(config: VGGTConfig = TINY, **more: object) -> dict[str, str]:
    return {"manyview": json.dumps({"config": config.to_json(), "licence": "Apache-2.0", **more})}


def write(path: Path, state: State, config: VGGTConfig | None = TINY) -> Path:
    save_file(state, path, metadata=metadata(config) if config else None)
    return path


def same(model: VGGT, state: State) -> bool:
    found = model.state_dict()
    return found.keys() == state.keys() and all(torch.equal(found[k], state[k].float()) for k in state)


def message(error: pytest.ExceptionInfo[ManyViewError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_safetensors_with_metadata(tmp_path, state, caplog):
    caplog.set_level(logging.INFO)
    path = write(tmp_path / "weights.safetensors", state)
    model = load(path)
    assert same(model, state) and model.config == TINY and not model.training
    assert model.info is not None and model.info.licence == model.licence == "Apache-2.0"
    assert model.info.commercial_use is True and len(model.info.weights_sha256) == 64
    assert model.name == "weights.safetensors"
    assert "licence Apache-2.0 (commercial use allowed)" in caplog.text
    with torch.no_grad():
        assert model(torch.rand(2, 3, 28, 28)).z_depth.shape == (1, 2, 28, 28)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("nest", ["plain", "model", "wrapped"])
def test_torch_files_nested_or_wrapped(tmp_path, state, caplog, zipped, nest):
    caplog.set_level(logging.INFO)
    wrapped = {f"module.{key}": value for key, value in state.items()}
    data = {"plain": state, "model": {"model": state, "epoch": 3}, "wrapped": {"state_dict": wrapped}}[nest]
    path = tmp_path / "weights.pt"
    torch.save(data, path, _use_new_zipfile_serialization=zipped)
    model = load(path)
    assert same(model, state)
    assert model.config.dim == TINY.dim and model.licence is None
    assert "not stated by the file (check before use)" in caplog.text
    assert ("nested under" in caplog.text) == (nest != "plain")
    assert ("'module.'" in caplog.text) == (nest == "wrapped")


def test_the_name_of_a_file_does_not_matter(tmp_path, state):
    torch.save(state, tmp_path / "weights.safetensors")
    assert same(load(tmp_path / "weights.safetensors"), state)
    write(tmp_path / "weights.bin", state)
    assert same(load(str(tmp_path / "weights.bin")), state)


@pytest.mark.parametrize("first", [0x80, 0x50])
def test_a_header_whose_length_begins_like_another_format(tmp_path, state, first):
    path = tmp_path / "w.safetensors"
    for padding in range(0, 264, 4):
        save_file(state, path, metadata=metadata(note="x" * padding))
        if path.read_bytes()[0] == first:
            break
    assert path.read_bytes()[0] == first
    assert same(load(path), state)


def test_folders(tmp_path, state):
    with pytest.raises(WeightsError, match="holds no weights"):
        load(tmp_path)
    write(tmp_path / "a.safetensors", state)
    assert same(load(tmp_path), state)
    write(tmp_path / "b.safetensors", state)
    with pytest.raises(WeightsError, match=r"a\.safetensors, b\.safetensors"):
        load(tmp_path)
    torch.save(state, tmp_path / "model.pt")
    assert same(load(tmp_path), state)


def test_config_beside_the_weights(tmp_path, state):
    config = dataclasses.replace(TINY, rope_base=50.0)
    torch.save(state, tmp_path / "model.pt")
    (tmp_path / "config.json").write_text(json.dumps({"img_size": 518, "patch_size": 14}))
    assert load(tmp_path).config.rope_base == 100.0
    (tmp_path / "config.json").write_text(json.dumps({"manyview": {"config": config.to_json()}}))
    assert load(tmp_path).config == config
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="JSON"):
        load(tmp_path)


def shard(folder: Path, state: State) -> Path:
    names = sorted(state)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, keys in parts.items():
        save_file({key: state[key] for key in keys}, folder / file)
    index = {"weight_map": {key: file for file, keys in parts.items() for key in keys}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_sharded_folder(tmp_path, state):
    assert same(load(shard(tmp_path, state)), state)
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"model-2\.safetensors"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", ".."])
def test_an_index_cannot_leave_its_folder(tmp_path, name):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(WeightsError, match="not a file beside it"):
        load(tmp_path)


BAD_BYTES = {
    "page": (b"<!DOCTYPE html><html><body>Not found</body></html>", "is a web page, not weights"),
    "page2": (b"\n  <HTML lang='en'>", "is a web page, not weights"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "git-lfs pointer"),
    "empty": (b"", "is empty"),
    "text": ("Ich bin ein Text.\nÜber Gewichte.\n".encode(), "holds text, not weights"),
    "json": (b'{"error": "Invalid username or password."}', "holds text, not weights"),
    "noise": (bytes(range(1, 128)) * 40, "is not a checkpoint"),
    "zip": (b"PK\x03\x04" + bytes(100), "truncated or damaged, or not a PyTorch checkpoint"),
}


@pytest.mark.parametrize("kind", BAD_BYTES)
@pytest.mark.parametrize("suffix", [".pt", ".bin"])
def test_files_that_are_no_weights(tmp_path, kind, suffix):
    content, words = BAD_BYTES[kind]
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as error:
        load(path)
    assert words in message(error) and str(path) in message(error)
    assert error.value.exit_code == 1


@pytest.mark.parametrize("container", ["safetensors", "zip", "pickle"])
@pytest.mark.parametrize("share", [0.0005, 0.01, 0.5, 0.999])
def test_truncated_files(tmp_path, state, container, share):
    path = tmp_path / ("weights.safetensors" if container == "safetensors" else "weights.pt")
    if container == "safetensors":
        write(path, state)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=container == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share) + 4])
    with pytest.raises(WeightsError, match="truncated or damaged"):
        load(path)


class _Runs:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, writer):
    path, target = tmp_path / "weights.pt", tmp_path / "made-by-code"
    if writer == "torch":
        torch.save({"a": _Runs(target)}, path)
    else:
        path.write_bytes(pickle.dumps({"a": _Runs(target)}))
    with pytest.raises(WeightsError, match="was refused: it holds more than plain tensors"):
        load(path)
    assert not target.exists()


def test_a_whole_network_or_other_objects_are_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "network.pt")
    with pytest.raises(WeightsError, match="was refused"):
        load(tmp_path / "network.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(WeightsError, match="list"):
        load(tmp_path / "list.pt")
    torch.save({"epoch": 3, "loss": 0.5}, tmp_path / "log.pt")
    with pytest.raises(WeightsError, match="'epoch', 'loss'"):
        load(tmp_path / "log.pt")


@pytest.mark.parametrize("name", ["nowhere/weights.pt", "weights.safetensors", "no-such-model", "a/b/c"])
def test_missing_paths_and_unknown_names(name):
    with pytest.raises(UsageError, match=r"manyview-small, .*vggt-1b") as error:
        load(name)
    assert error.value.exit_code == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_that_are_not_finite(tmp_path, state, value, dtype):
    broken = {key: tensor.to(dtype) for key, tensor in state.items()}
    for key in ("camera_head.token_norm.bias", "depth_head.norm.weight"):
        broken[key] = broken[key].clone()
        broken[key][3] = value
    with pytest.raises(WeightsError) as error:
        load(write(tmp_path / "w.safetensors", broken))
    assert f"NaN or infinity in 2 of {len(state)} tensors" in message(error)
    assert "camera_head.token_norm.bias, depth_head.norm.weight" in message(error)


def test_whole_numbers_are_no_weights(tmp_path, state):
    quantised = state | {"depth_head.norm.weight": torch.ones(64, dtype=torch.int8)}
    with pytest.raises(WeightsError, match=r"depth_head\.norm\.weight holds int8"):
        load(write(tmp_path / "w.safetensors", quantised))


def test_every_difference_of_keys_is_in_one_error(tmp_path, state):
    broken = dict(state)
    for block in range(4):
        for part in ("norm1.weight", "norm1.bias", "ls1.gamma"):
            del broken[f"aggregator.global_blocks.{block}.{part}"]
    broken["aggregator.extra"] = torch.zeros(1)
    broken["depth_head.norm.weight"] = torch.zeros(7)
    with pytest.raises(WeightsError) as error:
        load(write(tmp_path / "w.safetensors", broken))
    text = message(error)
    assert "12 missing (aggregator.global_blocks.0.norm1.weight, " in text and ", and 4 more)" in text
    assert text.count("global_blocks") == 8
    assert "1 unexpected (aggregator.extra)" in text
    assert "1 misshapen (depth_head.norm.weight expected [64] found [7])" in text


def test_a_head_may_be_absent_but_not_in_part(tmp_path, state, caplog):
    caplog.set_level(logging.INFO)
    without = {key: value for key, value in state.items() if not key.startswith("point_head.")}
    path = write(tmp_path / "w.safetensors", without, None)
    model = load(path)
    assert model.available_heads == ("camera", "depth") and same(model, without)
    assert "has no points and no track head" in caplog.text
    del without["camera_head.trunk.0.mlp.fc1.weight"], without["depth_head.projects.1.weight"]
    with pytest.raises(WeightsError) as error:
        load(write(tmp_path / "w.safetensors", without, None))
    text = message(error)
    assert "2 missing (camera_head.trunk.0.mlp.fc1.weight, depth_head.projects.1.weight)" in text


def test_a_head_of_the_configuration_must_be_in_the_file(tmp_path, state):
    without = {key: value for key, value in state.items() if not key.startswith("point_head.")}
    with pytest.raises(WeightsError, match="points head"):
        load(write(tmp_path / "w.safetensors", without))


def test_only_some_heads(tmp_path, state):
    path = write(tmp_path / "w.safetensors", state)
    model = load(path, heads=("camera",))
    assert model.available_heads == ("camera",)
    assert not any(key.startswith(("depth_head", "point_head")) for key in model.state_dict())
    assert load(path, heads=()).available_heads == ()
    with pytest.raises(UsageError, match=r"track head.*camera, depth, points"):
        load(path, heads=["track"])
    with pytest.raises(UsageError, match="'normals'"):
        load(path, heads="normals")


def test_half_precision_becomes_single(tmp_path, state):
    half = {key: value.half() for key, value in state.items()}
    model = load(write(tmp_path / "w.safetensors", half))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert same(model, half)


def test_single_precision_is_held_once(tmp_path, state):
    checkpoint = read_checkpoint(write(tmp_path / "w.safetensors", state))
    with torch.device("meta"):
        model = VGGT(TINY)
    assign_weights(model, checkpoint.tensors, "w")
    for key, value in model.state_dict().items():
        assert value.data_ptr() == checkpoint.tensors[key].data_ptr(), key
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trainable == {name for name, p in VGGT(TINY).named_parameters() if p.requires_grad}


def test_training_a_loaded_model_leaves_the_file_alone(tmp_path, state):
    path = write(tmp_path / "w.safetensors", state)
    before = path.read_bytes()
    model = load(path)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert path.read_bytes() == before and not same(model, state) and same(load(path), state)


def test_the_model_card_of_a_folder(tmp_path, state):
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    info = load(tmp_path).info
    assert info is not None and (info.licence, info.commercial_use) == ("cc-by-nc-4.0", False)


def test_what_the_file_does_not_say_is_logged(tmp_path, state, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    vggt_1b = next(row for row in SPEC.models if row.name == "vggt-1b")
    two = {key: value for key, value in state.items() if not key.startswith("point_head.")}
    save_file(two, tmp_path / "w.safetensors")
    family = dataclasses.replace(
        SPEC, models=(dataclasses.replace(vggt_1b, config=dataclasses.replace(TINY, point_head=None)),)
    )
    monkeypatch.setattr("manyview.models.families.FAMILIES", (family,))
    load(tmp_path / "w.safetensors")
    assert "FlashVGGT's checkpoints look the same; if this is one, run it with --accel flash" in caplog.text
    assert "these are the sizes of VGGT: the public facebook/VGGT-1B is under CC-BY-NC-4.0" in caplog.text


def test_commercial_only(tmp_path, state):
    path = tmp_path / "w.safetensors"
    save_file(state, path, metadata=metadata())
    load(path, commercial_only=True)
    for licence in ("CC-BY-NC-4.0", "some other"):
        text = json.dumps({"config": TINY.to_json(), "licence": licence})
        save_file(state, path, metadata={"manyview": text})
        with pytest.raises(UsageError, match="not known to allow commercial use"):
            load(path, commercial_only=True)
    with pytest.raises(UsageError, match="vggt-1b"):
        load("vggt-1b", commercial_only=True, offline=True, cache_dir=tmp_path)


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"config": {"dim": 30}}', '{"config": {"colour": 3}}', '{"config": 5}']
)
def test_damaged_metadata(tmp_path, state, text):
    save_file(state, tmp_path / "w.safetensors", metadata={"manyview": text})
    with pytest.raises(WeightsError, match=r"metadata entry|configuration is not one of a VGGT"):
        load(tmp_path / "w.safetensors")


def test_a_revision_makes_no_sense_for_a_file(tmp_path, state):
    with pytest.raises(UsageError, match="revision 'main'"):
        load(write(tmp_path / "w.safetensors", state), revision="main")


OTHERS = {
    "DINOv2": {"cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.ls1.gamma"},
    "DUSt3R or MASt3R": {"enc_blocks.0.a", "dec_blocks.0.a", "dec_blocks2.0.a", "downstream_head1.a"},
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_are_named(tmp_path, name):
    save_file({key: torch.zeros(1, 1, 1, 4) for key in OTHERS[name]}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=f"{name}, not of VGGT, Pi3"):
        load(tmp_path / "w.safetensors")


def test_unknown_models_are_refused(tmp_path):
    save_file({"fc.weight": torch.zeros(2, 2)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"VGGT, .*fc\.weight"):
        load(tmp_path / "w.safetensors")
