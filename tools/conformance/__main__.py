"""Command line: `python -m tools.conformance DIR [--only PATTERN ...] [--dtype ...] [--device ...]`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from tools.conformance.folder import UnusableFolder, read_cases
from tools.conformance.runner import run_cases, select


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Run golden cases against the models; exit status 0: all pass, 1: some fail, 2: unusable folder."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder with a cases.json."""
    only: tuple[str, ...] = ()
    """Shell patterns of case ids, such as 'vggt/*'."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of the computation; tolerances are made for float32."""
    device: str = "cpu"
    """Where to compute; TF32 is switched off."""


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; returns the exit status."""
    args = tyro.cli(Arguments, args=arguments, prog="python -m tools.conformance")
    try:
        torch.empty(0, device=args.device)
    except (RuntimeError, AssertionError) as error:
        sys.stderr.write(f"error: device {args.device!r} cannot be used: {str(error).splitlines()[0]}\n")
        return 2
    try:
        cases = select(read_cases(args.folder, getattr(torch, args.dtype), args.device), args.only)
    except UnusableFolder as error:
        sys.stderr.write(f"error: {error}\n")
        return 2

    def tell(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    try:
        summary = run_cases(cases, tell)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    return 1 if summary.failed else 0


if __name__ == "__main__":
    sys.exit(main())
