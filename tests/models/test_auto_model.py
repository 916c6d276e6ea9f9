"""`auto`: the preferred model where it can be had, else the bundled one. (A tiny VGGT stands for it.)"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import save_file

from manyview.errors import MissingExtraError, UsageError, WeightsError
from manyview.models import auto
from manyview.models.auto import FALLBACK, PREFERRED, choose_model
from manyview.models.families import find_model
from manyview.models.load import load

pytest.importorskip("huggingface_hub")

from .fake_hub import FakeHub, fake_hub
from .tiny import TINY, tiny_vggt

REPO = "depth-anything/DA3-BASE"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    folder = tmp_path / "repository"
    folder.mkdir()
    metadata = {"manyview": json.dumps({"config": TINY.to_json()})}
    save_file(tiny_vggt().state_dict(), folder / "model.safetensors", metadata=metadata)
    with fake_hub(monkeypatch, tmp_path) as running:
        running.put(REPO, folder)
        yield running


def info():
    """Provenance of what `load()` takes."""
    found = load().info
    assert found is not None
    return found


def test_it_is_downloaded_once_and_taken_from_the_cache_then(hub):
    assert (info().name, info().licence, info().commercial_use) == (PREFERRED, "Apache-2.0", True)
    asked = len(hub.asked)
    found = info()
    assert found.name == PREFERRED and len(hub.asked) == asked  # the network is not touched
    assert len(found.notes) == 1 and "cache" in found.notes[0]
    assert load(offline=True, commercial_only=True).name == PREFERRED


def test_without_a_network_the_bundled_model_is_taken(monkeypatch, tmp_path):
    found = info()
    assert found.name == FALLBACK and found.source.startswith("bundled:")
    assert len(found.notes) == 1 and "auto" in found.notes[0] and REPO in found.notes[0]
    assert load(offline=True, cache_dir=tmp_path).name == FALLBACK


def test_without_the_library_of_the_hub_too(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install" in info().notes[0] and info().name == FALLBACK
    with pytest.raises(MissingExtraError):
        load("vggt-1b")


def test_a_hub_that_hangs_costs_a_short_time(hub, monkeypatch):
    hub.hang_s = 2.0
    monkeypatch.setattr(auto, "_TIMEOUT_S", 0.2)
    start = time.perf_counter()
    assert info().name == FALLBACK
    assert time.perf_counter() - start < 1.5


@pytest.mark.parametrize("what", ["gated", "absent", "not a hub"])
def test_a_hub_that_does_not_send_it(hub, monkeypatch, what):
    if what == "gated":
        hub.gated.add(REPO)
    elif what == "absent":
        hub.files.clear()
    else:
        monkeypatch.setattr("tests.models.fake_hub.COMMIT", "")
    assert info().name == FALLBACK


def test_a_download_that_broke_off_is_an_error_and_resumes(hub):
    hub.cut = [600_000, *[0] * 20]
    with pytest.raises(WeightsError, match="resumes"):
        load()
    assert choose_model(offline=True).row.name == FALLBACK
    hub.cut = []
    assert info().name == PREFERRED and hub.fetched[-1] == "bytes=600000-"


def test_a_plan_asks_but_does_not_download(hub):
    choice = choose_model(download=False)
    assert choice.row is find_model(PREFERRED) and choice.files is None and "541 MB" in choice.reason
    assert not hub.fetched
    assert choose_model(offline=True, download=False).row.name == FALLBACK


def test_a_name_never_falls_back(hub):
    hub.files.clear()
    with pytest.raises(UsageError, match=REPO):
        load(REPO)
    with pytest.raises(UsageError, match="revision"):
        load(revision="main")


def test_offline_asks_nothing_of_anybody(hub):
    assert choose_model(offline=True).row.name == FALLBACK and not hub.asked
