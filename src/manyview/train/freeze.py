"""Training some of a network: the rest keeps the values it started with."""

from __future__ import annotations

from torch import nn

from ..errors import UsageError


def train_only(model: nn.Module, prefixes: tuple[str, ...]) -> None:
    """Ask for gradients of parameters whose name begins with one of `prefixes` alone (none given: of all).

    Raises UsageError for a prefix that no parameter begins with.
    """
    if not prefixes:
        return
    names = [name for name, _ in model.named_parameters()]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            raise UsageError(f"trained: no parameter of this network begins with '{prefix}'")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(prefixes))
