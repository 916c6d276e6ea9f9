"""Weights from the hub: a hand-made cache stands for a download, raised errors for its failures."""

from __future__ import annotations

import dataclasses
import errno
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from manyview.errors import ManyViewError, MissingExtraError, NotDownloadedError, UsageError, WeightsError
from manyview.models.checkpoints.hub import HubRequest, is_hub_id
from manyview.models.families import MODELS, REPLACED, find_model
from manyview.models.load import load
from manyview.models.without_weights import load_or_describe

from .tiny import TINY, tiny_vggt

hub = pytest.importorskip("huggingface_hub")
errors = pytest.importorskip("huggingface_hub.errors")

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a test touched the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


def cached(cache: Path, repo_id: str, revision: str = "main", commit: str = COMMIT) -> Path:
    """Snapshot folder of a repository as the hub's library lays it out."""
    root = cache / f"models--{repo_id.replace('/', '--')}"
    (root / "refs").mkdir(parents=True, exist_ok=True)
    (root / "refs" / revision).write_text(commit)
    folder = root / "snapshots" / commit
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_weights(folder: Path) -> None:
    metadata = {"manyview": json.dumps({"config": TINY.to_json()})}
    save_file(tiny_vggt().state_dict(), folder / "model.safetensors", metadata=metadata)


def test_a_cached_repository_is_used_offline(tmp_path):
    folder = cached(tmp_path, "someone/model")
    write_weights(folder)
    (folder / "README.md").write_text("---\ntags:\n- 3d\nlicense: mit\n---\n# Model\nlicense: other\n")
    model = load("someone/model", offline=True, cache_dir=tmp_path)
    assert model.info is not None
    assert (model.info.licence, model.info.commercial_use) == ("mit", True)
    assert model.info.source == f"someone/model@{COMMIT}" and model.name == "someone/model"
    assert torch.equal(model.aggregator.camera_token, tiny_vggt().aggregator.camera_token)


def test_a_sharded_repository(tmp_path):
    folder = cached(tmp_path, "someone/model")
    state = tiny_vggt().state_dict()
    names = sorted(state)
    for part, keys in (("a.safetensors", names[::2]), ("b.safetensors", names[1::2])):
        save_file({key: state[key] for key in keys}, folder / part)
    weight_map = {key: "ab"[i % 2] + ".safetensors" for i, key in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert load("someone/model", offline=True, cache_dir=tmp_path).state_dict().keys() == state.keys()
    (folder / "b.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"b\.safetensors"):
        load("someone/model", offline=True, cache_dir=tmp_path)


def test_named_models_are_pinned_and_bring_their_licence(tmp_path, caplog):
    caplog.set_level("INFO")
    row = find_model("VGGT-1B")
    assert row is not None and row.revision is not None
    assert find_model("Facebook/vggt-1b") is row
    write_weights(cached(tmp_path, "facebook/VGGT-1B", "main", "f" * 40))  # a newer commit: not the one meant
    with pytest.raises(WeightsError, match=f"revision {row.revision}"):
        load("vggt-1b", offline=True, cache_dir=tmp_path)
    write_weights(cached(tmp_path, "facebook/VGGT-1B", "pinned", row.revision))
    model = load("vggt-1b", offline=True, cache_dir=tmp_path)
    assert model.licence == "CC-BY-NC-4.0" and model.info.commercial_use is False
    assert "weights vggt-1b: licence CC-BY-NC-4.0 (no commercial use)" in caplog.text
    assert load("facebook/VGGT-1B", offline=True, cache_dir=tmp_path, revision="f" * 40) is not None


def test_every_name_is_unique_and_complete():
    names = [row.name for row in MODELS] + [f"{row.hub_id}/{row.file}" for row in MODELS if row.hub_id]
    assert len(set(names)) == len(names)
    assert all(row.licence and (row.hub_id or row.file) for row in MODELS)


@pytest.mark.parametrize(("gone", "instead"), REPLACED.items())
def test_a_name_that_is_gone_says_what_to_use(gone, instead, tmp_path):
    assert instead in {row.name for row in MODELS} and gone not in {row.name for row in MODELS}
    for find in (find_model, load, load_or_describe):
        with pytest.raises(WeightsError, match=f"{gone} .*{instead}$"):
            find(gone.upper())
    folder = tmp_path / gone
    folder.mkdir()
    write_weights(folder)
    assert load(folder).name == gone  # a path is a path


def write_flash(path: Path) -> None:
    """FlashVGGT's layout: a VGGT without points and tracks, tensors only."""
    config = dataclasses.replace(TINY, point_head=None)
    torch.save(tiny_vggt(config=config).state_dict(), path)


@pytest.mark.parametrize(
    ("name", "file", "row"),
    [
        ("ZipW/FlashVGGT", "flashvggt.pt", "flashvggt"),
        ("flashvggt-stream", "flashvggt_stream.pt", "flashvggt-stream"),
        ("zipw/flashvggt/flashvggt_stream.pt", "flashvggt_stream.pt", "flashvggt-stream"),
    ],
)
def test_a_repository_of_two_files_and_weights_trained_for_short_keys(tmp_path, caplog, name, file, row):
    caplog.set_level("INFO")
    folder = cached(tmp_path, "ZipW/FlashVGGT")
    with pytest.raises(WeightsError, match="not in the local cache"):
        load(name, offline=True, cache_dir=tmp_path)
    for one in ("flashvggt.pt", "flashvggt_stream.pt"):
        write_flash(folder / one)
    model = load(name, offline=True, cache_dir=tmp_path)
    assert (model.info.name, model.info.plan, model.info.commercial_use) == (row, "flash", None)
    assert f"by its name, {file} was trained for --accel flash" in caplog.text
    with pytest.raises(UsageError, match="not known to allow commercial use"):
        load(name, offline=True, cache_dir=tmp_path, commercial_only=True)


def test_a_file_is_known_by_its_name_only_if_it_can_be_that(tmp_path):
    write_flash(tmp_path / "flashvggt.pt")
    assert load(tmp_path / "flashvggt.pt").info.plan == "flash"
    (tmp_path / "flashvggt.pt").rename(tmp_path / "mine.pt")
    assert load(tmp_path / "mine.pt").info.plan is None
    write_weights(tmp_path)  # ours, with its configuration
    (tmp_path / "model.safetensors").rename(tmp_path / "flashvggt.pt")
    assert load(tmp_path / "flashvggt.pt").info.plan is None


def test_offline_mode_of_the_environment_is_honoured(tmp_path, monkeypatch):
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="someone/model"):
        load("someone/model", cache_dir=tmp_path)
    write_weights(cached(tmp_path, "someone/model"))
    assert load("someone/model", cache_dir=tmp_path).config == TINY


def http_error(kind: str) -> Exception:
    """An exception of the hub's library, made without a response of a server."""
    cls = getattr(errors, kind)
    error = cls.__new__(cls)
    Exception.__init__(error, "503 Server Error\nlong story")
    error.response = SimpleNamespace(status_code=503)
    return error


FAILURES = {
    "gated": (
        lambda: http_error("GatedRepoError"),
        NotDownloadedError,
        "is gated: accept its licence on https://",
    ),
    "absent": (lambda: http_error("RepositoryNotFoundError"), UsageError, "neither a local path nor a repos"),
    "revision": (lambda: http_error("RevisionNotFoundError"), UsageError, "has no revision 'v9'"),
    "server": (
        lambda: http_error("HfHubHTTPError"),
        NotDownloadedError,
        "refused to send someone/model: 503",
    ),
    "network": (lambda: ConnectionResetError("no"), NotDownloadedError, "the hub does not answer"),
    "offline": (lambda: errors.OfflineModeIsEnabled("no"), NotDownloadedError, "offline mode is on"),
    "name": (lambda: errors.HFValidationError("no"), UsageError, "not a valid name"),
    "disk": (lambda: OSError(errno.ENOSPC, "full"), NotDownloadedError, "the disk is full"),
    "files": (lambda: errors.EntryNotFoundError("no"), WeightsError, "holds no weights: expected model.safe"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_failures_raise_with_one_sentence(monkeypatch, tmp_path, kind):
    make, cls, words = FAILURES[kind]

    def fail(*_args, **_kwargs):
        raise make()

    monkeypatch.setattr(hub, "get_hf_file_metadata", fail)
    with pytest.raises(cls) as error:
        load("someone/model", revision="v9", cache_dir=tmp_path, offline=False)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert type(error.value) is cls and isinstance(error.value, ManyViewError)


def test_errors_of_our_own_making_are_not_hidden(monkeypatch, tmp_path):
    def fail(*_args, **_kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(hub, "get_hf_file_metadata", fail)
    with pytest.raises(ZeroDivisionError):
        load("someone/model", cache_dir=tmp_path, offline=False)


def test_the_extra_is_named_where_the_library_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'manyview\[hub\]'"):
        load("someone/model")


def test_a_local_folder_wins_over_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someone/model").mkdir(parents=True)
    write_weights(tmp_path / "someone/model")
    assert load("someone/model").info.source == "someone/model"


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: cc-by-nc-4.0\n---\n", "cc-by-nc-4.0"),
        ("---\nlicense: other\nlicense_name: fair-nc\n---\n", "fair-nc"),
        ("---\nlicense: 'apache-2.0'\n---\n", "apache-2.0"),
        ("# no header\nlicense: mit\n", None),
        ("", None),
    ],
)
def test_licences_of_model_cards(tmp_path, card, licence):
    folder = cached(tmp_path, "a/b")
    (folder / "model.pt").write_bytes(b"")
    (folder / "README.md").write_text(card)
    assert HubRequest("a/b", offline=True, cache_dir=tmp_path).download().licence == licence


def test_hub_ids():
    assert all(is_hub_id(name) for name in ("facebook/VGGT-1B", "a/b", "some-one/model_v1.0"))
    assert not any(is_hub_id(name) for name in ("a", "a/b/c", "/a/b", "./a", "a/", "/", "~/a", "a b/c"))
