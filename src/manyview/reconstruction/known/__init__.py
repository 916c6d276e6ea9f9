"""Known cameras and depth, optional input of networks that can use it."""
