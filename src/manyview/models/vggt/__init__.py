"""VGGT (arXiv 2503.11651)."""
