"""Analysis of global attention, layer by layer."""
