"""Joining the other ranks of a launch, and ending with them."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist

from ..errors import ManyViewError, RankError, UsageError, in_one_sentence, out_of_memory
from .environment import RankEnvironment
from .mesh import MeshRanks
from .watch import OtherRankError, Watcher

TIMEOUT_S = 600
_STAY_S = 1.5  # for the others to read the reason from a rank that keeps it for them


@contextlib.contextmanager
def joined(
    place: RankEnvironment, device: torch.device | str, timeout_s: float = TIMEOUT_S
) -> Iterator[MeshRanks]:
    """The ranks that were started with this process, for `prepare` and `reconstruct_into`.

    All of them go through the block together. If one fails, dies or is no longer heard of, the block ends
    with an error on every rank: on the one that was first a RankError with its sentence, on the others an
    OtherRankError with the same sentence. A rank that does not get out of a collective operation by itself
    ends as a process two seconds later, so call this in a process that does nothing else.

    Args:
        place: `RankEnvironment.find()`.
        device: That of this rank, such as "cpu" or `own_device`.
        timeout_s: A collective operation that takes longer is an error.

    Raises:
        RankError: Whatever ends the run, in one sentence that names the rank; its exit code is the error's.
    """
    device = torch.device(device)
    name = place.named(str(device))
    try:
        server = place.serve()
        watcher = Watcher(place, name)
    except RuntimeError as error:
        where = f"{place.address}:{place.port}"
        raise RankError(f"{name} cannot reach the launcher at {where}; see that this port is open") from error
    try:
        ranks = MeshRanks.of_environment(device, datetime.timedelta(seconds=timeout_s), place.connect())
        yield ranks
        watcher.meet("end", place.world_size)
    except BaseException as error:
        if isinstance(error, Exception):
            raise _cause(error, watcher, timeout_s) from error
        watcher.fail(f"{name} was stopped", 1)
        raise
    finally:
        if server is not None and watcher.failure is not None:
            time.sleep(_STAY_S)
    watcher.stop(done=True)
    dist.destroy_process_group()
    with contextlib.suppress(RuntimeError):  # who keeps the store goes last
        watcher.meet("left", 0 if server is None else place.world_size, most_s=5.0)


def own_device(place: RankEnvironment, name: str) -> torch.device:
    """The device of this rank where the option says `name`: a card each, or the CPU for all.

    Raises UsageError where there are more ranks on the machine than cards, and for a card that is named.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cpu":
        return device
    if device.type != "cuda" or device.index is not None:
        raise UsageError(
            f"--device {name} is one device for all ranks; give --device cuda, and each rank takes its "
            "own card, or --device cpu"
        )
    cards = torch.cuda.device_count()
    if place.local_rank < cards:
        return torch.device("cuda", place.local_rank)
    if cards == 1:  # as where the scheduler shows each process its own
        return torch.device("cuda", 0)
    raise UsageError(
        f"{place.local_world_size} ranks were started on a machine with {cards} cards; start as many "
        "as there are cards (--nproc-per-node), or give --device cpu"
    )


def _cause(error: Exception, watcher: Watcher, timeout_s: float) -> RankError:
    """The error with which this rank ends; the others learn of it, unless it only follows from another's."""
    if watcher.failure is not None or lost_connection(error):
        failure = watcher.other_cause()
        if failure is not None:
            watcher.stop()
            kind = RankError if watcher.found_here else OtherRankError
            return kind(failure.sentence, failure.exit_code)
    if lost_connection(error):
        late = "timed out" in str(error).lower() or "timeout" in str(error).lower()
        sentence, exit_code = f"lost its connection to another rank: {str(error)[:200]}", 1
        if late:
            sentence = (
                f"waited more than {timeout_s:g} s for another rank; --rank-timeout allows a slow one more"
            )
        sentence = f"{watcher.name} {sentence}"
    elif out_of_memory(error) or (error.__cause__ is not None and out_of_memory(error.__cause__)):
        sentence, exit_code = (
            f"{watcher.name} ran out of memory; use more ranks, smaller images (--image-size) or fewer views "
            "(--max-frames)",
            1,
        )
    else:
        sentence, exit_code = in_one_sentence(error)
        sentence = f"{watcher.name}: {sentence}"
    first = watcher.fail(sentence, exit_code)
    if first.rank == watcher.place.rank:
        return RankError(sentence, exit_code)
    return OtherRankError(first.sentence, first.exit_code)


def lost_connection(error: BaseException) -> bool:
    """Whether an error is that of an operation between ranks, which mostly follows from another rank's."""
    if isinstance(error, ManyViewError) or out_of_memory(error):
        return isinstance(error, OtherRankError)
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    within = () if place is None else Path(place.tb_frame.f_code.co_filename).parts
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "distributed" in within)
