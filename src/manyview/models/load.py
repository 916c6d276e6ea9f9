"""`load`: a model from a name, a hub repository, a file or a folder, whose licence is logged."""

from __future__ import annotations

import dataclasses
import importlib.resources
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from ..errors import UsageError, WeightsError
from ..files.paths import user_path
from .auto import AUTO, BUNDLED, choose_model
from .checkpoints import read_checkpoint
from .checkpoints.base import with_base
from .checkpoints.folder import card_licence
from .checkpoints.hub import HubFiles, HubRequest, is_hub_id, named_request
from .checkpoints.hub_file import discard_damaged
from .checkpoints.metadata import stored_metadata
from .checkpoints.named import NamedModel
from .checkpoints.read import Checkpoint
from .device import pick_device
from .families import find_model, model_names, required_family
from .info import ModelInfo
from .network import Network
from .run_options import HEADS
from .spec import ModelSpec

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Found:
    """Weights on this machine, and what is known about them."""

    name: str
    path: Path
    source: str
    licence: str | None = None
    commercial_use: bool | None = None
    trained_on: str | None = None
    notes: tuple[str, ...] = ()


def load(
    name_or_path: str | Path = AUTO,
    *,
    device: torch.device | str | None = None,
    revision: str | None = None,
    offline: bool | None = None,
    cache_dir: Path | str | None = None,
    heads: Iterable[str] | None = None,
    progress: bool = True,
    commercial_only: bool = False,
) -> Network:
    """Load a model for inference (`eval` mode, float32 parameters).

    The licence is logged and kept in `model.info`. On the CPU, float32 weights stay memory-mapped, so
    they are held once.

    Args:
        name_or_path: A name from the table ("manyview-small", "vggt-1b"), a hub id ("facebook/VGGT-1B"), a
            .safetensors or .pt file, or a folder with one; "auto": DA3-BASE if it is in the cache or can be
            downloaded, else the bundled model.
        device: Where to put the weights (None: the CPU).
        revision: Commit, branch or tag of the hub.
        offline: True never touches the network, None follows HF_HUB_OFFLINE.
        cache_dir: Folder of the hub's cache (None: the usual one).
        heads: Heads to keep, of "camera", "depth", "points", "track", "text" (None: all the file has).
        progress: Whether downloads show progress bars.
        commercial_only: Refuse weights that are not known to allow commercial use.

    Returns:
        The network; `config` has its sizes, `info` the provenance of the weights.

    Raises:
        UsageError: Weights or a device that are not there, a head that the weights lack, a licence that is
            refused.
        WeightsError: A file that is damaged or holds something else.
        MissingExtraError: A download without the library of the hub.
    """
    if not isinstance(name_or_path, str | Path):
        raise UsageError(
            f"weights are given by a name such as {BUNDLED} or the path of a file or folder, "
            f"not by a {type(name_or_path).__name__}"
        )
    wanted = _head_names(heads)
    place = None if device is None else pick_device(device)
    known = find_model(name_or_path) if isinstance(name_or_path, str) else None
    if commercial_only and known is not None:
        check_commercial(known.name, known.licence, known.commercial_use)
    cache = user_path(cache_dir) if cache_dir is not None and cache_dir != "" else None
    found = _find(name_or_path, revision, offline, cache, progress)
    for note in found.notes:
        logger.info("%s", note)
    try:
        checkpoint = with_base(
            read_checkpoint(found.path), lambda name: weights_of_name(name, offline, cache, progress)
        )
        family = required_family(checkpoint)
        info = _info(found, checkpoint, family)
        if commercial_only:
            check_commercial(info.name, info.licence, info.commercial_use)
        model = family.build(checkpoint, device=place, heads=wanted)
    except WeightsError as error:
        if not discard_damaged(found.path):
            raise
        raise WeightsError(f"{error}; the damaged file was removed from the hub's cache") from error
    # Only what fits is read as a whole.
    info = dataclasses.replace(info, weights_sha256=checkpoint.sha256())
    if discard_damaged(found.path, info.weights_sha256):
        raise WeightsError(
            f"{found.path} had another checksum than the hub states and was removed from its cache: download "
            "it again"
        )
    model.name, model.licence, model.info = info.name, info.licence, info
    # Programs that do not set up logging still see what they may not do.
    logger.log(logging.INFO if info.commercial_use else logging.WARNING, "%s", info.sentence())
    if info.licence is None:
        _log_public_licences(family, model)
    return model


def weights_of_name(
    name: str, offline: bool | None = None, cache_dir: Path | None = None, progress: bool = True
) -> Path | None:
    """The file or folder of weights that have a name here, downloaded if need be; None for other names."""
    return None if find_model(name) is None else _find(name, None, offline, cache_dir, progress).path


def required_network(model: Network | str | Path | None) -> Network:
    """The network itself, or the one that a name or path stands for; None: that of `load()`.

    Raises UsageError for anything else, and what `load` raises.
    """
    if isinstance(model, str | Path):
        return load(model)
    if model is None:
        return load()
    if not isinstance(model, Network):
        raise UsageError(f"the model is a network, a name or a path, not a {type(model).__name__}")
    return model


def _log_public_licences(family: ModelSpec, model: Network) -> None:
    """For weights that state no licence: those of public weights of these sizes."""
    stated = [row for row in family.models if row.hub_id and row.commercial_use is not None]
    rows = [row for row in stated if family.only_public or row.config == model.config]
    if rows:
        # A hub repository may hold the weights of several rows.
        public = dict.fromkeys(f"the public {row.hub_id} is under {row.licence}" for row in rows)
        level, what = (logging.WARNING, "weights") if family.only_public else (logging.INFO, "the sizes")
        logger.log(level, "these are %s of %s: %s", what, family.name, "; ".join(public))


def _find(
    name_or_path: str | Path,
    revision: str | None,
    offline: bool | None,
    cache_dir: Path | None,
    progress: bool,
) -> _Found:
    text = str(name_or_path)
    if name_or_path == AUTO:
        if revision is not None:
            raise UsageError(
                f"revision {revision!r} belongs to a model on the hub: name it, such as da3-base"
            )
        choice = choose_model(offline, cache_dir, progress)
        found = (
            _bundled(choice.row)
            if choice.files is None
            else _of_hub(choice.row.hub_id, choice.files, choice.row)
        )
        return dataclasses.replace(found, notes=(choice.reason,))
    if not text:
        raise UsageError(f"the name of the model is empty; choose from {model_names()}, a file or a folder")
    known = find_model(text) if isinstance(name_or_path, str) else None
    if known is not None and known.hub_id is None:
        return _bundled(known)
    path = user_path(name_or_path)
    if known is None and os.path.exists(path):
        if revision is not None:
            raise UsageError(f"revision {revision!r} only applies to weights on the hub, not to {path}")
        licence = card_licence(path / "README.md") if path.is_dir() else None
        return _Found(path.name or text, path, str(path), licence)
    if known is None and (isinstance(name_or_path, Path) or not is_hub_id(text) or _looks_like_file(text)):
        raise UsageError(
            f"no weights at {text}: expected an existing file or folder, a hub id such as facebook/VGGT-1B, "
            f"or one of {model_names()}"
        )
    repo_id = known.hub_id if known is not None and known.hub_id else text
    if known is None:
        files = HubRequest(repo_id, revision, offline, cache_dir, progress).download()
    else:
        request = named_request(known, offline, cache_dir, progress)
        files = dataclasses.replace(request, revision=revision or known.revision).download()
    return _of_hub(repo_id, files, known)


def _of_hub(repo_id: str | None, files: HubFiles, known: NamedModel | None) -> _Found:
    source = f"{repo_id}@{files.commit}" if files.commit else str(repo_id)
    if known is None:
        return _Found(str(repo_id), files.path, source, files.licence)
    return _Found(
        known.name, files.path, source, known.licence, known.commercial_use, trained_on=known.trained_on
    )


def _bundled(known: NamedModel) -> _Found:
    source = f"bundled:{known.file}"
    path = bundled_path(known)
    return _Found(known.name, path, source, known.licence, known.commercial_use, known.trained_on)


def bundled_path(row: NamedModel) -> Path:
    """The file of weights that come with the package. Raises WeightsError if it is not there."""
    assert row.file is not None
    path = Path(str(importlib.resources.files("manyview.models") / "bundled" / row.file))
    if not path.is_file():
        raise WeightsError(f"{row.name} is not part of this installation: expected {path}; install again")
    return path


def _looks_like_file(text: str) -> bool:
    return Path(text).suffix in (".safetensors", ".pt", ".pth", ".bin", ".json", ".ckpt")


def _info(found: _Found, checkpoint: Checkpoint, family: ModelSpec) -> ModelInfo:
    metadata = stored_metadata(checkpoint)
    licence = found.licence or metadata.get("licence")
    commercial = found.commercial_use
    if commercial is None and licence is not None:
        commercial = _commercial_use(licence)
    plan = _trained_for(checkpoint, metadata, family)
    return ModelInfo(
        found.name, found.source, licence, commercial, "", metadata, plan, found.trained_on, found.notes
    )


def _trained_for(checkpoint: Checkpoint, metadata: dict[str, Any], family: ModelSpec) -> str | None:
    """The plan that weights were trained for: as they say, or for public ones by the name of their file."""
    accel = metadata.get("accel")
    stored = accel.get("plan") if isinstance(accel, dict) else None
    plan = stored if isinstance(stored, str) else None
    by_name = ""
    if plan is None and family.trained_for is not None:
        plan = family.trained_for(checkpoint)
    if plan is None:
        row = family.published_as(checkpoint)
        plan, by_name = (None, "") if row is None else (row.plan, "by its name, ")
    if plan is not None:
        text = "%s%s was trained for --accel %s, which is used where nothing else is asked for"
        logger.info(text, by_name, checkpoint.files[0].name, plan)
    return plan


def _commercial_use(licence: str) -> bool | None:
    """What a licence's short name says about commercial use; None unless it is plain."""
    text = licence.lower()
    if "-nc" in text or "noncommercial" in text or "non-commercial" in text:
        return False
    if text in ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc0-1.0", "isc"):
        return True
    return None


def check_commercial(name: str, licence: str | None, allowed: bool | None) -> None:
    """UsageError unless weights are known to allow commercial use."""
    if not allowed:
        raise UsageError(
            f"the weights {name} are not known to allow commercial use (licence: {licence or 'not stated'}): "
            f"choose others, such as {BUNDLED} or vggt-1b-commercial"
        )


def _head_names(heads: Iterable[str] | None) -> tuple[str, ...] | None:
    if heads is None:
        return None
    if not isinstance(heads, Iterable):
        raise UsageError(f"heads are names out of {', '.join(HEADS)}, not a {type(heads).__name__}")
    names = (heads,) if isinstance(heads, str) else tuple(heads)
    unknown = [name for name in names if name not in HEADS]
    if unknown:
        raise UsageError(f"unknown head {unknown[0]!r}: choose from {', '.join(HEADS)}")
    return names
