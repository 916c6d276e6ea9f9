"""The command `manyview`: one subcommand a verb; errors are one sentence, status 2 misuse, 1 failure."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from .._option_checks import check_options
from ..errors import in_one_sentence, memory_errors, require_torch
from ..reconstruction.plan.allocator import bound_caches
from .console import fail, log_to_stderr
from .options import with_user_paths

# verb: module of this package and the dataclass in it whose fields are the options.
COMMANDS: dict[str, tuple[str, str]] = {
    "reconstruct": ("reconstruct", "Reconstruct"),
    "batch": ("batch", "Batch"),
    "serve": ("serve", "Serve"),
    "app": ("app", "App"),
    "stream": ("stream", "Stream"),
    "refine": ("refine", "Refine"),
    "plan": ("plan", "PlanCommand"),
    "export": ("export", "Export"),
    "view": ("view", "View"),
    "demo": ("demo", "Demo"),
    "bench": ("bench", "Bench"),
    "train": ("train", "Train"),
    "evaluate": ("evaluate", "EvaluateCommand"),
    "analyze": ("analyze", "Analyze"),
    "models": ("models", "Models"),
    "doctor": ("doctor", "Doctor"),
}

# Verbs and options whose name has changed; the old one works until the next release.
_RENAMED_VERBS = {"weights": "models"}
_RENAMED = {
    "--linears": "--linear-precision",
    "--pictures": "--images",
    "--max-pictures": "--max-images",
}

# Options of a verb that may stand without a value: what they then mean, and all values that they take.
_ALONE = {
    (verb, "--refine"): ("cameras", ("none", "cameras", "depth")) for verb in ("reconstruct", "evaluate")
}

# Another spelling of the first words of a command line.
_ALSO = {("evaluate", "--compare"): ["evaluate", "compare"]}

_ABOUT = "Photos or a video in; cameras, depth maps and a point cloud out, in one forward pass."


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """Carry out one command line and return its exit status. `--debug` anywhere shows tracebacks."""
    args = [arg for arg in argv if arg != "--debug"]
    debug = len(args) != len(argv)
    if args in (["--version"], ["-V"]):
        from .._version import __version__

        sys.stdout.write(f"manyview {__version__}\n")
        return 0
    log_to_stderr(debug)
    try:
        _check_arguments(args)
        require_torch()
        bound_caches()  # before PyTorch is imported
        renamed = [_renamed(arg, _RENAMED if place else _RENAMED_VERBS) for place, arg in enumerate(args)]
        command = _parse(renamed)
        check_options(command)
        with memory_errors():
            return int(with_user_paths(command).run() or 0)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt:
        if debug:
            raise
        return fail(
            "stopped by Ctrl-C; files in the output folder are whole, and the same command can be run again",
            1,
        )
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            sys.stderr.close()
        return 1
    except Exception as error:
        if debug:
            raise
        return fail(*in_one_sentence(error))


def _check_arguments(args: Sequence[str]) -> None:
    """UsageError for what is no argument of any command: an empty one would be the current folder."""
    from ..errors import UsageError

    for before, arg in zip(["manyview", *args], args, strict=False):
        if not arg.strip():
            raise UsageError(f"what follows {before} is empty, as from a variable that is not set")
        if "\0" in arg:
            raise UsageError(f"what follows {before} holds a NUL character")


def _renamed(arg: str, names: Mapping[str, str]) -> str:
    old, equals, value = arg.partition("=")
    new = names.get(old.replace("_", "-"))
    if new is None:
        return arg
    logging.getLogger("manyview").warning("%s is now %s; the next release drops the old name", old, new)
    return new + equals + value


def _parse(args: Sequence[str]) -> Any:
    import tyro

    # Only the verb's own module is imported: `manyview export --help` need not know how to train.
    verbs = COMMANDS
    args = [*_ALSO.get((args[0], args[1]), args[:2]), *args[2:]] if len(args) > 1 else args
    args = _with_values(args)
    if args and args[0] in COMMANDS:
        verbs = {args[0]: COMMANDS[args[0]]}
    parsers = {
        verb: getattr(importlib.import_module(f".{module}", __package__), name)
        for verb, (module, name) in verbs.items()
    }
    complaint = io.StringIO()
    program = f"manyview {args[0]}" if len(parsers) == 1 else "manyview"
    flat = (tyro.conf.OmitArgPrefixes,)
    try:
        with contextlib.redirect_stderr(complaint):
            if len(parsers) == 1:
                (parser,) = parsers.values()
                about = parser.__doc__
                return tyro.cli(parser, args=args[1:], prog=program, description=about, config=flat)
            return tyro.extras.subcommand_cli_from_dict(
                parsers, args=args, prog=program, description=_ABOUT, config=flat
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        from ..errors import UsageError

        raise UsageError(f"{_first_paragraph(complaint.getvalue())}; see {program} --help") from None


def _with_values(args: Sequence[str]) -> list[str]:
    """A command line in which every option of `_ALONE` has a value."""
    found = list(args)
    for place in reversed(range(1, len(found))):
        alone = _ALONE.get((found[0], found[place]))
        if alone is not None and found[place + 1 : place + 2] not in ([value] for value in alone[1]):
            found.insert(place + 1, alone[0])
    return found


def _first_paragraph(box: str) -> str:
    """The text of a framed message of tyro, without its title and its advice."""
    lines: list[str] = []
    for line in box.splitlines()[1:]:
        text = line.strip("│╭╮╰╯ ")
        if not text.strip("─-"):  # a rule; without Unicode there is one below the title too
            if lines:
                break
            continue
        lines.append(text)
    return " ".join(lines).rstrip(".") or "the command line cannot be read"


if __name__ == "__main__":
    main()
