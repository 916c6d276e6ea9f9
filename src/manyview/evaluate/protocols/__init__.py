"""Protocols: which frames, which measures, which averages, as data."""
