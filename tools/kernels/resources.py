"""What each kernel becomes on a card, compiled without one: `python -m tools.kernels.resources`.

Triton brings the assembler of NVIDIA cards, so that a machine without any can tell whether a kernel compiles,
how many registers it takes, whether some spill to memory, and how many warps a multiprocessor can hold.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from manyview.errors import UsageError
from manyview.kernels.choice import interpreted
from tools.kernels.parity import say

if TYPE_CHECKING:
    from tools.kernels.cases import KernelCase

# A multiprocessor of compute capability 9.0: CUDA programming guide, table of technical specifications.
_REGISTERS, _SHARED, _WARPS, _PROGRAMS, _PER_PROGRAM = 65_536, 228 * 1024, 64, 32, 1024


@dataclasses.dataclass(frozen=True)
class Compiled:
    """One compiled kernel. Registers are a thread's, the other figures a program's.

    `spilled_bytes`: what a thread keeps in memory because registers do not suffice. `tensor_core_calls`:
    matrix instructions in the assembly (a loop's are counted once).
    """

    kernel: str
    function: str
    dtype: str
    registers: int
    spilled_bytes: int
    shared_bytes: int
    warps: int
    tensor_core_calls: int

    @property
    def resident_warps(self) -> int:
        """Warps that one multiprocessor can hold, as registers, shared memory and its slots allow."""
        held = -(-self.registers // 8) * 8 * 32 * self.warps
        limits = (_WARPS // self.warps, _REGISTERS // max(held, 1), _PROGRAMS)
        return self.warps * min(*limits, _SHARED // (self.shared_bytes + _PER_PROGRAM))


def compile_all(
    capability: int = 90, dtypes: Sequence[torch.dtype] = (torch.bfloat16, torch.float32)
) -> Iterator[Compiled]:
    """Every kernel that parity knows, at VGGT-1B's sizes, for a compute capability (90: H100, H200).

    Raises UsageError in the interpreter, and where Triton cannot assemble.
    """
    if interpreted():
        raise UsageError("kernels are compiled, not interpreted, here: unset TRITON_INTERPRET")
    with _compiling_for(capability) as compiled:
        from tools.kernels.cases import kernel_cases

        for case in kernel_cases().values():
            for dtype in dtypes:
                compiled.clear()
                _launch(case, dtype)
                for kernel in compiled:
                    yield _read(case.name, dtype, kernel)


def _launch(case: KernelCase, dtype: torch.dtype) -> None:
    """The launches of one trial; nothing runs, so what comes out means nothing."""
    from tools.kernels.cases import CaseSize

    generator = torch.Generator().manual_seed(0)
    trial = case.make(CaseSize(frames=2, grid=(28, 37)), dtype, torch.device("cpu"), generator)
    with torch.inference_mode():
        trial.fused(*trial.inputs)


@contextlib.contextmanager
def _compiling_for(capability: int) -> Iterator[list[Any]]:
    """Launches compile for the card and run nothing; the list gets what was compiled, in their order."""
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
    from triton.backends.compiler import GPUTarget
    from triton.runtime.driver import driver
    from triton.runtime.jit import JITFunction

    class Absent:
        """A driver that knows its card by name only."""

        def get_current_target(self) -> Any:
            return GPUTarget("cuda", capability, 32)

        def get_current_device(self) -> int:
            return 0

        def get_current_stream(self, device: int) -> int:
            return 0

    compiled: list[Any] = []
    run = JITFunction.run

    def only_compile(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Triton's own settings
            kernel = run(self, *args, grid=grid, warmup=True, **options)
        compiled.append(kernel)
        return kernel

    before = driver._active  # restoring it would look for a card
    driver.set_active(Absent())
    JITFunction.run = only_compile
    try:
        yield compiled
    finally:
        JITFunction.run = run
        driver._active = before


def _read(name: str, dtype: torch.dtype, kernel: Any) -> Compiled:
    registers, spilled = _usage(kernel.asm["cubin"])
    return Compiled(
        name,
        kernel.metadata.name.strip("_"),
        str(dtype).removeprefix("torch."),
        registers,
        spilled,
        kernel.metadata.shared,
        kernel.metadata.num_warps,
        len(re.findall(r"^\s*(?:wgmma\.mma_async|mma\.sync)", kernel.asm["ptx"], re.MULTILINE)),
    )


def _usage(binary: bytes) -> tuple[int, int]:
    """Registers of a thread, and bytes of its stack and local memory, as the assembler left them."""
    from triton import knobs

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(binary)
        command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(file)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {key: int(value) for key, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", output)}
    return found["REG"], found["STACK"] + found["LOCAL"]


def table(rows: Sequence[Compiled]) -> list[str]:
    """Markdown lines."""
    lines = [
        "| kernel | function | precision | registers | spilled | shared memory | warps "
        "| resident | matrix calls |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in rows:
        lines.append(
            f"| {one.kernel} | `{one.function}` | {one.dtype} | {one.registers} | {one.spilled_bytes} B "
            f"| {one.shared_bytes / 1024:.1f} KiB | {one.warps} | {one.resident_warps} of {_WARPS} "
            f"| {one.tensor_core_calls} |"
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see the module."""
    parser = argparse.ArgumentParser(prog="python -m tools.kernels.resources", description=__doc__)
    parser.add_argument("--capability", type=int, default=90, help="90: H100, H200; 80: A100; 89: RTX 4090")
    parser.add_argument("--out", type=Path, help="write the figures there as JSON")
    chosen = parser.parse_args(arguments)
    try:
        rows = list(compile_all(chosen.capability))
    except UsageError as error:
        say(str(error))
        return 2
    for line in table(rows):
        say(line)
    if chosen.out is not None:
        figures = [{**dataclasses.asdict(one), "resident_warps": one.resident_warps} for one in rows]
        chosen.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
