"""What several ranks of a run agree on before its pass: the input, and the memory that they share."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import socket
from collections import Counter

from ...distributed.frames import FrameSplit
from ...distributed.ranks import Ranks
from ...errors import UsageError
from ...models.network import Network
from ..inputs.options import InputSet
from ..plan.machine import Machine
from .options import ReconstructOptions


def check_shareable(options: ReconstructOptions) -> None:
    """UsageError for what one process alone does."""
    if options.compare:
        raise UsageError("--receipt compares plans in one process: leave it out with several ranks")
    if options.metric or options.sky:
        raise UsageError(
            "--metric and --sky need the whole result in the memory of one process: leave them out with "
            "several ranks"
        )
    if options.known and options.accel == "auto":
        raise UsageError("with known cameras or depth over several ranks name a plan: --accel dense")


def check_same_input(everyone: Ranks, found: InputSet, model: Network) -> None:
    """UsageError unless all ranks found files of the same names and have the same weights."""
    weights = None if model.info is None else model.info.weights_sha256
    told = json.dumps([found.kind, [file.name for file in found.files], model.name, weights])
    digest = hashlib.sha256(told.encode()).hexdigest()
    for rank, other in enumerate(everyone.objects((digest, len(found.files)))):
        if other != (digest, len(found.files)):
            raise UsageError(
                f"rank {rank} found other files ({other[1]}) or weights than rank {everyone.split.rank} "
                f"({len(found.files)}): give all ranks the same input, on a file system that they share"
            )


@dataclasses.dataclass(frozen=True)
class SharedMachine:
    """This rank's part of its device's memory and of its host's, what every rank has (`rank_bytes`), and how
    many ranks share the host."""

    machine: Machine
    host: Machine
    rank_bytes: tuple[int, ...]
    on_host: int


def shared_machine(everyone: Ranks, machine: Machine, host: Machine) -> SharedMachine:
    """Ranks of one device or host get equal parts of its memory."""
    name = socket.gethostname()
    device = str(machine.device) if machine.device.type == "cuda" else ""
    everywhere = everyone.objects((name, device))
    on_host = Counter(name for name, _ in everywhere)[name]
    on_device = Counter(everywhere)[name, device]

    def part(of: Machine, ranks: int) -> Machine:
        return dataclasses.replace(of, free_bytes=of.free_bytes // ranks, total_bytes=of.total_bytes // ranks)

    machine, host = part(machine, on_device), part(host, on_host)
    return SharedMachine(machine, host, tuple(everyone.objects(machine.free_bytes)), on_host)


def own_frames(everyone: Ranks, frames: int, together: int) -> slice:
    """Frames of this rank; none where it has none."""
    split = FrameSplit.of(frames, everyone.split.ranks, everyone.split.rank, together)
    return slice(frames, frames) if split is None else slice(split.first, split.stop)
