"""Networks of named weights that are not on this machine: their sizes are known, and a plan needs no more."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from ..errors import MissingExtraError
from ..files.writing import format_bytes
from .auto import AUTO, choose_model
from .checkpoints.hub import named_request
from .checkpoints.named import NamedModel
from .families import empty_network, find_model
from .info import ModelInfo
from .load import check_commercial, load
from .network import Network

logger = logging.getLogger(__name__)


def load_or_describe(
    name_or_path: str | Path = AUTO,
    *,
    revision: str | None = None,
    offline: bool | None = None,
    commercial_only: bool = False,
) -> Network:
    """`load` without a download: for weights that have a name and are not here, a network on the meta device.

    It has no values and cannot run; `info.notes` says so. Arguments and errors are those of `load`.
    """
    row = find_model(name_or_path) if isinstance(name_or_path, str) else None
    why: tuple[str, ...] = ()
    if name_or_path == AUTO and revision is None:
        choice = choose_model(offline, download=False)
        row, why = choice.row, (choice.reason,)
    if row is None or row.config is None or _is_here(row, revision):
        name = name_or_path if row is None else row.name
        model = load(name, revision=revision, offline=offline, commercial_only=commercial_only)
        if model.info is not None and why:
            logger.info("%s", why[0])
            model.info = dataclasses.replace(model.info, notes=why)
        return model
    if commercial_only:
        check_commercial(row.name, row.licence, row.commercial_use)
    return _described(row, why)


def _is_here(row: NamedModel, revision: str | None) -> bool:
    if row.hub_id is None:
        return True
    try:
        request = named_request(row)
        return dataclasses.replace(request, revision=revision or row.revision).cached() is not None
    except MissingExtraError:
        return False


def _described(row: NamedModel, why: tuple[str, ...]) -> Network:
    assert row.config is not None
    model = empty_network(row.config).eval()
    held = format_bytes(sum(p.nbytes for p in model.parameters()))
    size = "of unknown size" if row.size_bytes is None else f"of {format_bytes(row.size_bytes)}"
    note = (
        f"the weights of {row.name} are not here, only their sizes: a run begins with a download {size}, and "
        f"{held} of the memory are left for them"
    )
    notes = (*why, note)
    for text in notes:
        logger.info("%s", text)
    model.name, model.licence = row.name, row.licence
    source = str(row.hub_id)
    model.info = ModelInfo(
        row.name, source, row.licence, row.commercial_use, "", {}, row.plan, row.trained_on, notes
    )
    logger.info("%s", model.info.sentence())
    return model
