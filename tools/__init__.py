"""Developers' tools, run from a checkout; not part of the wheel."""
