"""`python -m manyview.train`: train a model from a config, or go on with a run."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

import torch

from manyview.errors import ManyViewError
from manyview.train.config import load_config
from manyview.train.held_out import release_numbers
from manyview.train.log import plot_curves
from manyview.train.loop import LOG_NAME, run, with_minutes
from manyview.train.weights import export_weights, trained_model


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m manyview.train", description=__doc__)
    parser.add_argument("--config", default="small", help="a bundled config or a JSON file")
    parser.add_argument("--out", required=True, help="folder of the run: log, state")
    parser.add_argument("--processes", type=int, default=1, help="single-threaded processes on a CPU")
    parser.add_argument("--minutes", type=float, help="stop after this time and keep the state")
    parser.add_argument(
        "--budget-minutes", type=float, help="length of the whole schedule, instead of the config's"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--fresh", action="store_true", help="refuse to go on with a run that is there")
    parser.add_argument("--export", help="only write the weights of the run in --out to this file")
    parser.add_argument(
        "--scenes", type=int, default=48, help="held-out scenes a table of the export; 0: none"
    )
    parser.add_argument("--curves", help="only draw the curves of the run in --out to this picture")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        if options.export or options.curves:
            if options.curves:
                plot_curves(Path(options.out) / LOG_NAME, Path(options.curves))
            if options.export:
                numbers = {}
                if options.scenes:
                    numbers = release_numbers(trained_model(options.out, half=True), options.scenes)
                export_weights(options.out, options.export, numbers)
            return 0
        config = load_config(options.config)
        if options.budget_minutes is not None:
            config = with_minutes(config, options.budget_minutes)
        if options.device == "cpu":
            torch.set_num_threads(1)
        end = run(
            config, options.out, options.processes, options.minutes, not options.fresh, device=options.device
        )
    except ManyViewError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(json.dumps({k: end[k] for k in ("step", "progress", "seconds", "scenes")}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
