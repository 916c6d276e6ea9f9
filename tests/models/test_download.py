"""Downloads from a hub on this machine: whole, broken off, spoilt, gated, hanging, and `auto`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import save_file

from manyview.errors import ManyViewError, NotDownloadedError, UsageError, WeightsError
from manyview.models.load import load

huggingface_hub = pytest.importorskip("huggingface_hub")

from .fake_hub import COMMIT, FakeHub, fake_hub  # noqa: E402
from .tiny import TINY, tiny_vggt  # noqa: E402

REPO = "someone/model"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A folder as on the hub: weights, and a model card."""
    folder = tmp_path / "repository"
    folder.mkdir()
    metadata = {"manyview": json.dumps({"config": TINY.to_json()})}
    save_file(tiny_vggt().state_dict(), folder / "model.safetensors", metadata=metadata)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, repository: Path) -> Iterator[FakeHub]:
    with fake_hub(monkeypatch, tmp_path) as running:
        running.put(REPO, repository)
        yield running


def left_over(tmp_path: Path) -> list[str]:
    """Files in the cache that are neither whole blobs nor what points to them."""
    blobs = (tmp_path / "cache").glob("models--*/blobs/*")
    return [path.name for path in blobs if "incomplete" in path.name]


def one_sentence(error: ManyViewError) -> bool:
    return "\n" not in str(error) and REPO in str(error)


def test_a_download_says_what_it_fetches_and_is_made_once(hub, tmp_path, caplog):
    model = load(REPO)
    assert model.info is not None and model.info.source == f"{REPO}@{COMMIT}" and model.licence == "mit"
    announced = [record.getMessage() for record in caplog.records if "downloading" in record.getMessage()]
    assert len(announced) == 1
    assert all(word in announced[0] for word in (REPO, "1.2 MB", "mit", str(tmp_path / "cache")))
    load(REPO)
    assert len(hub.fetched) == 1
    assert load(REPO, offline=True).info.source == model.info.source
    assert not left_over(tmp_path)


def test_a_download_that_broke_off_is_resumed_by_the_next_call(hub, tmp_path):
    hub.cut = [600_000, *[0] * 20]
    with pytest.raises(WeightsError, match="resumes") as error:
        load(REPO)
    assert one_sentence(error.value) and not isinstance(error.value, NotDownloadedError)
    assert not list((tmp_path / "cache").glob("models--*/snapshots/*/model.safetensors"))
    with pytest.raises(WeightsError, match="offline"):  # half a file is none
        load(REPO, offline=True)
    hub.cut, before = [], len(hub.fetched)
    assert load(REPO).config == TINY
    assert hub.fetched[before:] == ["bytes=600000-"]
    assert not left_over(tmp_path)


def test_a_short_break_is_bridged_within_one_call(hub, repository):
    hub.cut = [1000, 5000]
    assert load(REPO).config == TINY
    assert len(hub.fetched) == 3 and hub.fetched[2] == "bytes=6000-"


@pytest.mark.parametrize("progress", [True, False])
def test_the_weights_have_a_progress_bar_unless_none_is_wanted(hub, monkeypatch, progress):
    hidden, library = {}, huggingface_hub.file_download
    http_get, before = library.http_get, huggingface_hub.utils.are_progress_bars_disabled()

    def record(url, *args, **options):
        hidden[url.rpartition("/")[2]] = huggingface_hub.utils.are_progress_bars_disabled()
        return http_get(url, *args, **options)

    monkeypatch.setattr(library, "http_get", record)
    load(REPO, progress=progress)
    assert hidden == {"model.safetensors": not progress, "config.json": True, "README.md": True}
    assert huggingface_hub.utils.are_progress_bars_disabled() == before


def test_a_token_does_not_travel_to_another_host(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: "hf_secret")
    load(REPO)
    assert any(token for _, path, _, token in hub.asked if "/cdn/" not in path)
    assert not any(token for _, path, _, token in hub.asked if "/cdn/" in path)


def test_other_bytes_than_promised_are_removed(hub, tmp_path):
    hub.spoilt = True
    with pytest.raises(WeightsError, match="checksum") as error:
        load(REPO)
    assert one_sentence(error.value) and not left_over(tmp_path)
    hub.spoilt = False
    assert load(REPO).config == TINY


@pytest.mark.parametrize("keep", ["cut off", "same size"])
def test_a_file_that_was_damaged_in_the_cache_is_removed(hub, tmp_path, keep):
    load(REPO)
    (path,) = (tmp_path / "cache").glob("models--*/snapshots/*/model.safetensors")
    data = path.read_bytes()
    path.write_bytes(data[:-100] if keep == "cut off" else data[:-100] + bytes(100))
    with pytest.raises(WeightsError, match="removed"):
        load(REPO, offline=True)
    assert not path.is_symlink() and not path.exists()
    assert load(REPO).config == TINY


def test_another_model_is_named_and_stays(hub, tmp_path, repository):
    save_file(
        {"cls_token": tiny_vggt().aggregator.camera_token.repeat(99, 1, 1, 1)},
        repository / "model.safetensors",
    )
    hub.put(REPO, repository)
    with pytest.raises(WeightsError, match="not a checkpoint of"):
        load(REPO)
    assert list((tmp_path / "cache").glob("models--*/snapshots/*/model.safetensors")) and not left_over(
        tmp_path
    )


def test_a_gated_repository(hub, tmp_path):
    hub.gated.add(REPO)
    with pytest.raises(WeightsError, match="accept its licence") as error:
        load(REPO)
    assert one_sentence(error.value) and not left_over(tmp_path)


def test_a_repository_that_is_not_there(hub):
    with pytest.raises(UsageError, match="no/where"):
        load("no/where")


def test_a_disk_without_space_is_noticed_before_anything_is_written(hub, tmp_path, monkeypatch):
    full = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("manyview.models.checkpoints.hub_file.shutil.disk_usage", lambda path: full)
    with pytest.raises(WeightsError, match="disk is full"):
        load(REPO)
    assert not left_over(tmp_path) and not hub.fetched


def test_a_hub_that_hangs_is_waited_for_a_short_time(hub, monkeypatch):
    hub.hang_s = 1.0
    monkeypatch.setattr("manyview.models.checkpoints.hub.TIMEOUT_S", 0.2)
    start = time.perf_counter()
    with pytest.raises(NotDownloadedError, match="does not answer"):
        load(REPO)
    assert time.perf_counter() - start < 0.9
