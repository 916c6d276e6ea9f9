"""Many scenes: a pool of processes with a model each, and runners on one or more machines that share a folder."""
