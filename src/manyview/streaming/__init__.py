"""Frames that arrive one after another: cameras and depth of each chunk at once, with bounded memory."""
