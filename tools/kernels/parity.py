"""Every kernel against plain operations in float64, and timed beside them: `python -m tools.kernels.parity`.

Exits with 1 where a kernel is further from float64 than its precision allows, with 2 where none can run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from manyview.errors import UsageError
from manyview.kernels import launch_device
from tools.kernels.interpreter import mend_interpreter

if TYPE_CHECKING:
    from tools.kernels.cases import CaseSize, KernelCase, Trial

_RUNS, _WARMUP = 20, 3
# Elements between tokens, and tokens, so that offsets need more than 32 bits: 6 GiB in bf16 for each tensor.
_FAR, _TOKENS_APART = 2**30, 4


@dataclasses.dataclass(frozen=True)
class Parity:
    """One kernel in one precision. Errors are the largest |got - exact| / (1 + |exact|), as are those of the
    plain operations beside it; seconds are medians on the device (None on a CPU, where nothing is timed).
    `failed`: the error that a case raised; it has no figures."""

    kernel: str
    dtype: str
    tokens: int
    dim: int
    error: float
    plain_error: float
    allowed: float
    seconds: float | None
    plain_seconds: float | None
    bytes: int
    plain_bytes: int
    failed: str | None = None

    @classmethod
    def of_error(cls, case: KernelCase, size: CaseSize, dtype: torch.dtype, error: Exception) -> Parity:
        """A case that raised: a row without figures."""
        name, unknown = str(dtype).removeprefix("torch."), float("nan")
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        figures = (unknown, unknown, case.allowed(dtype), None, None, 0, 0)
        return cls(case.name, name, size.tokens, size.dim, *figures, why)

    @property
    def agrees(self) -> bool:
        return self.error <= self.allowed  # false for a NaN

    def line(self) -> str:
        """One row of the table."""
        if self.failed is not None:
            return f"OFF {self.kernel:36} {self.dtype:8} {self.failed}"
        verdict = "ok" if self.agrees else "OFF"
        text = f"{verdict:3} {self.kernel:36} {self.dtype:8} error {self.error:.1e} of {self.allowed:.1e}"
        text += f" (plain {self.plain_error:.1e})"
        if self.seconds is None or self.plain_seconds is None:
            return text
        rate = self.bytes / self.seconds / 1e12
        return (
            f"{text}  {1e3 * self.seconds:.3f} ms, plain {1e3 * self.plain_seconds:.3f} ms "
            f"({self.plain_seconds / self.seconds:.2f}x), {rate:.2f} TB/s"
        )


def compare(
    case: KernelCase,
    size: CaseSize,
    dtype: torch.dtype,
    device: torch.device,
    timed: bool,
    apart: int | None = None,
) -> Parity:
    """One kernel on seeded random input; with `apart` so many elements lie between tokens."""
    trial = case.make(size, dtype, device, torch.Generator(device).manual_seed(0))
    unit = size.tokens * size.dim * dtype.itemsize
    exact = trial.plain(*(x.double() for x in trial.inputs))

    def worst(found: tuple[Tensor, ...]) -> float:
        return max(_error(got, want) for got, want in zip(found, exact, strict=True))  # noqa: F821

    copies = [x.clone() for x in trial.inputs]
    plain_error = worst(trial.plain(*copies))
    copies = [x.clone() for x in trial.inputs]
    if apart is not None:
        copies[: case.strided] = [_spread(x, apart) for x in copies[: case.strided]]
    error = worst(trial.fused(*copies))
    del exact, copies
    return Parity(
        case.name if apart is None else f"{case.name}, far apart",
        str(dtype).removeprefix("torch."),
        size.tokens,
        size.dim,
        error,
        plain_error,
        case.allowed(dtype),
        _seconds(trial.fused, trial) if timed else None,
        _seconds(trial.plain, trial) if timed else None,
        int(trial.fused_units * unit),
        int(trial.plain_units * unit),
    )


def run_parity(
    device: torch.device,
    frames: int | None = None,
    dtypes: Iterable[torch.dtype] = (torch.bfloat16, torch.float16, torch.float32),
    watch: Callable[[Parity], None] | None = None,
) -> list[Parity]:
    """All kernels in all precisions, on VGGT-1B's tokens of `frames` (None: 100; on a CPU few tiny ones).

    On a card also on tokens that lie far apart in memory. A case that raises is a row with its error, which
    does not agree, and the next one runs. Raises UsageError where no kernel can run.
    """
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "no CUDA card is visible to PyTorch; on a CPU use TRITON_INTERPRET=1 and --device cpu"
        )
    found = []

    def add(
        case: KernelCase, size: CaseSize, dtype: torch.dtype, timed: bool, apart: int | None = None
    ) -> None:
        try:
            one = compare(case, size, dtype, device, timed, apart)
        except Exception as error:
            one = Parity.of_error(case, size, dtype, error)
        found.append(one)
        if watch is not None:
            watch(one)

    with launch_device("triton", device), torch.inference_mode():
        from tools.kernels.cases import CaseSize, kernel_cases

        tiny = CaseSize(frames=2, grid=(2, 3), special_tokens=5, heads=2, head_dim=16)
        on_card = device.type == "cuda"
        usual = CaseSize() if on_card else tiny
        size = usual if frames is None else dataclasses.replace(CaseSize(), frames=frames)
        for case in kernel_cases().values():
            for dtype in dtypes:
                add(case, size, dtype, on_card)
            if on_card and case.strided and torch.cuda.mem_get_info(device)[0] > 4 * _FAR * _TOKENS_APART:
                few = CaseSize(frames=1, grid=(1, _TOKENS_APART - 1), special_tokens=1)
                add(case, few, torch.bfloat16, False, _FAR)
    return found


def _spread(x: Tensor, apart: int) -> Tensor:
    """The same tokens [1, tokens, dim] with `apart` elements from one to the next."""
    tokens, dim = x.shape[1:]
    memory = x.new_empty((tokens - 1) * apart + dim)
    return memory.as_strided((1, tokens, dim), (len(memory), apart, 1)).copy_(x)


def _error(got: Tensor, want: Tensor) -> float:
    """The largest error; rows at a time, as float64 takes four times the space."""
    got, want = got.flatten(0, -2), want.flatten(0, -2)
    worst = 0.0
    for a, b in zip(got.split(2**16), want.split(2**16), strict=True):
        part = ((a.double() - b).abs() / (1 + b.abs())).max().item()
        if not part <= worst:  # also where it is a NaN
            worst = part
    return worst


def _seconds(run: Callable[..., Any], trial: Trial) -> float:
    times = []
    for turn in range(_WARMUP + _RUNS):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run(*trial.inputs)
        stop.record()
        stop.synchronize()
        if turn >= _WARMUP:
            times.append(start.elapsed_time(stop) / 1e3)
    return statistics.median(times)


def say(line: str) -> None:
    """One line to standard output, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see the module."""
    parser = argparse.ArgumentParser(prog="python -m tools.kernels.parity", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu with TRITON_INTERPRET=1")
    parser.add_argument(
        "--frames", type=int, help="frames of 1,041 tokens (default: 100; on a CPU few tiny ones)"
    )
    parser.add_argument("--out", type=Path, help="write the figures there as JSON")
    chosen = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []

    def watch(one: Parity) -> None:
        say(one.line())
        rows.append({**dataclasses.asdict(one), "agrees": one.agrees})
        if chosen.out is not None:  # after each, so that a stopped run keeps what it has found
            chosen.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")

    mend_interpreter()
    try:
        found = run_parity(torch.device(chosen.device), chosen.frames, watch=watch)
    except UsageError as error:
        say(str(error))
        return 2
    wrong = [one for one in found if not one.agrees]
    say(f"{len(found) - len(wrong)} of {len(found)} agree")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
