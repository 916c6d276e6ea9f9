"""Checking the models against golden tensors: `python -m tools.conformance DIR`.

A folder of golden cases holds `cases.json` (one entry per case: configuration, inputs, outputs with
tolerances), safetensors files with the numbers, and inventories of parameter names and shapes from which
the weights are made. Every case of an implemented model is run through the code that loads public
checkpoints, and every stored output is compared.
"""

from tools.conformance.folder import Case, UnusableFolder, read_cases
from tools.conformance.runner import CaseResult, Summary, run_cases

__all__ = ["Case", "CaseResult", "Summary", "UnusableFolder", "read_cases", "run_cases"]
