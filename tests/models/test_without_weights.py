"""Plans of named weights that are not on this machine."""

from __future__ import annotations

import pytest

from manyview.errors import UsageError, WeightsError
from manyview.models.checkpoints.hub import HubRequest
from manyview.models.families import MODELS
from manyview.models.without_weights import load_or_describe
from manyview.reconstruction.run.options import ReconstructOptions
from manyview.reconstruction.run.prepare import prepare

# One of each size.
NAMED = list({row.config: row.name for row in MODELS if row.hub_id is not None}.values())


@pytest.fixture(autouse=True)
def _no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a plan downloads")

    monkeypatch.setattr(HubRequest, "download", refuse)


@pytest.mark.parametrize("name", NAMED)
def test_every_named_model_is_known_by_its_sizes(name):
    row = next(row for row in MODELS if row.name == name)
    model = load_or_describe(name)
    info = model.info
    assert info is not None and (info.name, info.licence, info.plan) == (name, row.licence, row.plan)
    assert all(parameter.is_meta for parameter in model.parameters())
    parameters = sum(p.nbytes for p in model.parameters())
    assert row.size_bytes == pytest.approx(parameters, rel=0.05)  # some hold what is not used
    (note,) = info.notes
    assert name in note and "download" in note


def test_a_plan_counts_the_memory_of_weights_that_are_not_here(photos):
    model = load_or_describe("facebook/VGGT-1B")
    ready = prepare(photos, model, ReconstructOptions(device="cpu"))
    parameters = sum(p.nbytes for p in model.parameters())
    machine = ready.chosen.machine
    assert parameters > 4.6e9 and machine.free_bytes < machine.total_bytes - parameters
    assert ready.settings["network_size"] == [518, 392]
    assert model.info is not None and ready.notes[0] == model.info.notes[0]


def test_licences_count_without_weights_too():
    with pytest.raises(UsageError, match="vggt-1b"):
        load_or_describe("vggt-1b", commercial_only=True)


def test_auto_takes_the_bundled_model_without_a_network():
    model = load_or_describe()
    assert model.info is not None and model.info.name == "manyview-photos"
    assert len(model.info.notes) == 1 and "auto takes manyview-photos" in model.info.notes[0]


def test_what_is_not_named_is_loaded(tmp_path):
    with pytest.raises((UsageError, WeightsError), match="nowhere"):
        load_or_describe(str(tmp_path / "nowhere.safetensors"))
