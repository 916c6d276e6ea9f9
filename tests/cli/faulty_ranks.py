"""Ranks of `manyview reconstruct --devices` that a test starts in place of the plain ones."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NoReturn

from manyview.attention.global_attention import GlobalAttention
from manyview.cli import several_ranks
from manyview.cli.reconstruct import Reconstruct
from manyview.distributed.environment import RankEnvironment

plain = several_ranks._launched


def stuck(place: RankEnvironment, device: str, command: Reconstruct, debug: bool) -> bool:
    """Rank 1 writes its process id beside the result, and stays in its first global layer for ever."""

    def stay(*_: Any) -> NoReturn:
        Path(command.paths[-1]).with_name("pid").write_text(f"{os.getpid()}\n")
        while True:
            time.sleep(1)

    if place.rank == 1:
        GlobalAttention.__call__ = stay  # type: ignore[method-assign]
    return plain(place, device, command, debug)
