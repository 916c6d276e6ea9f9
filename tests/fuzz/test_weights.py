"""Checkpoints and training runs that a stranger edited."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from manyview.models.families import FAMILIES
from manyview.models.load import load
from manyview.train.config import config_from_json, load_config
from manyview.train.log import read_log
from manyview.train.state import RunState, check_header, load_state, save_state

from ..models.tiny import TINY, tiny_vggt
from ..train.test_state import HEADER
from ..train.tiny import tiny_config
from .mutations import damaged, examples, json_bytes, mutated, only_our_errors


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    state = {key: value.detach().clone() for key, value in tiny_vggt().state_dict().items()}
    metadata = {"config": TINY.to_json(), "licence": "Apache-2.0", "accel": {"plan": "flash", "early": 0}}
    save_file(state, folder / "w.safetensors", {"manyview": json.dumps(metadata)})
    torch.save({"model": state, "epoch": 3}, folder / "w.pt")
    save_state(folder / "run", RunState({"model/a": torch.zeros(3)}, HEADER), 3)
    return folder


@examples(40)
@given(data=st.data())
def test_metadata(place: Path, data: st.DataObject) -> None:
    accel = {"plan": "flash", "early": 0}
    metadata = {"config": TINY.to_json(), "licence": "Apache-2.0", "accel": accel, "base": None}
    text = json_bytes(data.draw(mutated(metadata))).decode()
    save_file({"aggregator.frame_blocks.": torch.zeros(1), "aggregator.global_blocks.": torch.zeros(1)},
              place / "m.safetensors", {"manyview": text})  # fmt: skip
    with only_our_errors():
        load(place / "m.safetensors")


@examples(60)
@given(data=st.data())
def test_sizes_of_every_family(data: st.DataObject) -> None:
    family = data.draw(st.sampled_from(FAMILIES))
    sizes = data.draw(mutated(family.config().to_json()))
    with only_our_errors(None, ValueError), torch.device("meta"):
        family.network(family.config.from_json(sizes))


@pytest.mark.filterwarnings("ignore")
@examples(60)
@given(data=st.data())
def test_files(place: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(("w.safetensors", "w.pt")))
    path = place / f"damaged-{name}"
    path.unlink(missing_ok=True)
    path.write_bytes(data.draw(damaged((place / name).read_bytes(), 20_000)))
    with only_our_errors():
        load(path)
    if data.draw(st.booleans()):
        with only_our_errors():
            load(_sharded(place, data))


def _sharded(place: Path, data: st.DataObject) -> Path:
    folder = place / "shards"
    folder.mkdir(exist_ok=True)
    shutil.copy(place / "w.safetensors", folder / "shard.safetensors")
    index = {"weight_map": {"a": "shard.safetensors", "b": "shard.safetensors"}, "metadata": {}}
    (folder / "model.safetensors.index.json").write_bytes(json_bytes(data.draw(mutated(index))))
    (folder / "config.json").write_bytes(
        json_bytes(data.draw(mutated({"manyview": {"config": TINY.to_json()}})))
    )
    return folder


@examples(80)
@given(data=st.data())
def test_training_configs(place: Path, data: st.DataObject) -> None:
    document = data.draw(mutated(tiny_config().to_json()))
    (place / "c.json").write_bytes(json_bytes(document))
    with only_our_errors():
        load_config(place / "c.json")
    with only_our_errors():
        config_from_json(document)


@examples(40)
@given(data=st.data())
def test_training_runs(place: Path, data: st.DataObject) -> None:
    again = place / "run again"
    shutil.rmtree(again, ignore_errors=True)
    shutil.copytree(place / "run", again)
    path = data.draw(st.sampled_from(sorted(path for path in again.rglob("*") if path.is_file())))
    if path.suffix == ".json" and data.draw(st.booleans()):
        path.write_bytes(json_bytes(data.draw(mutated(json.loads(path.read_text())))))
    else:
        path.write_bytes(data.draw(damaged(path.read_bytes())))
    with only_our_errors():
        check_header(load_state(again), "the run")
    line = {"kind": "train", "minutes": 1.0, "losses": {"depth": 1.0}, "lr": 1.0, "frames_per_s": 1.0}
    (again / "log.jsonl").write_bytes(json_bytes(data.draw(mutated(line))))
    with only_our_errors():
        read_log(again / "log.jsonl")
