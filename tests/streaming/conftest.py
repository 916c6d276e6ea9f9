"""The command line's fixtures, here too."""

from tests.cli.conftest import command, weights

__all__ = ["command", "weights"]
