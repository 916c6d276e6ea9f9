"""Many scenes: a pool of processes with a model each, and runners on machines that share a folder."""
