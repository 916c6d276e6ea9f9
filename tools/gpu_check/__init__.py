"""What only a card can answer: `python3 -m tools.gpu_check COMMAND OUT`, four commands of under ten minutes.

- `parity`: every plan with every choice of kernels against float64 on the CPU, every kernel alone, GPU tests.
- `profile`: rates of the device, attention's backends alone, and where the time of two plans goes.
- `table`: time and memory of VGGT-1B's size from 100 to 3,000 frames, beside targets and floors.
- `train`: the bundled recipe, wider, with weights that are small enough to be brought back.

Each case runs in a process of its own, so that a crash or a hang ends a case. OUT/COMMAND.json is written
after every case, and OUT/COMMAND.tar.gz has the logs.
"""
