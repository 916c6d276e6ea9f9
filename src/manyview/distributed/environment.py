"""What torchrun, or `launch`, says to a process about the others: the variables of its environment."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch.distributed as dist

_CONNECT_S = 60


@dataclasses.dataclass(frozen=True)
class RankEnvironment:
    """One of several processes that were started together.

    Attributes:
        rank: Its number among all.
        world_size: How many there are.
        local_rank: Its number among those of this machine.
        local_world_size: How many of them are on this machine.
        run_id: The name of the launch.
        attempt: How often the launcher has started them before.
        address: Host of the store by which they find each other.
        port: Its port.
        has_store: The launcher keeps the store; else rank 0 has to.
        reports: Where `launch` looks for the reason if a rank fails; None under torchrun.
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    run_id: str
    attempt: int
    address: str
    port: int
    has_store: bool
    reports: Path | None = None

    @classmethod
    def find(
        cls, variables: Mapping[str, str] = os.environ, reports: Path | None = None
    ) -> RankEnvironment | None:
        """That of this process; None unless torchrun started it beside others."""
        if "TORCHELASTIC_RUN_ID" not in variables or int(variables.get("WORLD_SIZE", "1")) < 2:
            return None
        return cls(
            int(variables["RANK"]),
            int(variables["WORLD_SIZE"]),
            int(variables["LOCAL_RANK"]),
            int(variables["LOCAL_WORLD_SIZE"]),
            variables["TORCHELASTIC_RUN_ID"],
            int(variables.get("TORCHELASTIC_RESTART_COUNT", "0")),
            variables["MASTER_ADDR"],
            int(variables["MASTER_PORT"]),
            variables.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
            reports,
        )

    def named(self, device: str) -> str:
        """The rank for a person: "rank 1 of 4 (cuda:1)", with its host where there are several."""
        host = "" if self.local_world_size == self.world_size else f" on {socket.gethostname()}"
        return f"rank {self.rank} of {self.world_size} ({device}{host})"

    @property
    def keeps_store(self) -> bool:
        """Whether this process has to keep the store for the others."""
        return self.rank == 0 and not self.has_store

    def serve(self) -> dist.Store | None:
        """The store itself, on the rank that keeps it, for as long as it is held; else None."""
        import torch.distributed as dist

        if not self.keeps_store:
            return None
        return dist.TCPStore(self.address, self.port, is_master=True, wait_for_workers=False)

    def connect(self) -> dist.Store:
        """A new connection to the store, with keys of this launch alone."""
        import datetime

        import torch.distributed as dist

        timeout = datetime.timedelta(seconds=_CONNECT_S)
        store = dist.TCPStore(
            self.address, self.port, is_master=False, timeout=timeout, wait_for_workers=False
        )
        return dist.PrefixStore(f"manyview/{self.run_id}/{self.attempt}", store)
