"""Programs that a test interrupts with Ctrl-C."""

from __future__ import annotations

LISTENS_TO_CTRL_C = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
"""First lines of such a program: what is started in the background inherits a SIGINT that is ignored."""
