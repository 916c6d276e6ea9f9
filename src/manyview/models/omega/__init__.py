"""VGGT-Ω (arXiv 2605.15195): a leaner VGGT, most of whose camera and register work is done by few tokens."""
