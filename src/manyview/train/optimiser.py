"""The optimiser: AdamW, or Muon for the trunk's matrices with AdamW for the rest.

Muon (Jordan et al. 2024) replaces a matrix's momentum by the nearest orthogonal one; scaled as in Liu et
al. (arXiv 2502.16982, eq. 4) its updates match the RMS of AdamW's, so both share one learning rate.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .config import OptimiserOptions
from .sharding import is_sharded, shard_like

# State of the optimisers per parameter.
_MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer")


def parameter_groups(model: nn.Module, heads: nn.Module, options: OptimiserOptions) -> list[dict[str, Any]]:
    """Groups: matrices, vectors of the heads, slow vectors (bias, norm, LayerScale) of the trunk, Muon's.

    Each group carries `lr_scale`, which multiplies the scheduled rate, and `muon`. Only matrices decay.
    """
    matrices: list[Tensor] = []
    vectors: list[Tensor] = []
    slow: list[Tensor] = []
    orthogonal: list[Tensor] = []
    for name, parameter in (*model.named_parameters(), *heads.named_parameters()):
        if not parameter.requires_grad:
            continue
        if parameter.ndim > 1 and "token" not in name and "pos_embed" not in name:
            in_block = parameter.ndim == 2 and ("blocks." in name or "trunk." in name)
            (orthogonal if options.muon and in_block else matrices).append(parameter)
        elif name.startswith("aggregator.") and parameter.ndim == 1:
            slow.append(parameter)
        else:
            vectors.append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": options.weight_decay, "lr_scale": 1.0, "muon": False},
        {"params": vectors, "weight_decay": 0.0, "lr_scale": 1.0, "muon": False},
        {"params": slow, "weight_decay": 0.0, "lr_scale": options.slow_lr, "muon": False},
        {"params": orthogonal, "weight_decay": options.weight_decay, "lr_scale": 1.0, "muon": True},
    ]
    # A fused step takes either sharded or whole parameters, not both.
    split = [
        {**group, "params": [p for p in group["params"] if is_sharded(p) == sharded]}
        for group in groups
        for sharded in (False, True)
    ]
    return [group for group in split if group["params"]]


class Optimiser:
    """One or two torch optimisers behind one rate, one step and one state by parameter name."""

    def __init__(self, model: nn.Module, heads: nn.Module, options: OptimiserOptions) -> None:
        groups = parameter_groups(model, heads, options)
        self._parts: list[torch.optim.Optimizer] = []
        plain = [{k: v for k, v in g.items() if k != "muon"} for g in groups if not g["muon"]]
        orthogonal = [{k: v for k, v in g.items() if k != "muon"} for g in groups if g["muon"]]
        self._parts.append(torch.optim.AdamW(plain, lr=0.0, betas=options.betas, fused=True))
        if orthogonal:
            self._parts.append(torch.optim.Muon(orthogonal, lr=0.0, adjust_lr_fn="match_rms_adamw"))

    @property
    def parameters(self) -> list[Tensor]:
        """Every parameter that is trained."""
        return [p for part in self._parts for group in part.param_groups for p in group["params"]]

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next step; each group has its multiple."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate * group["lr_scale"]

    def zero_grad(self) -> None:
        """Clear the gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Update the parameters."""
        for part in self._parts:
            part.step()

    def moments(self, named: dict[str, nn.Parameter]) -> dict[str, Tensor]:
        """Moments of each parameter, as `moment/name`."""
        found = {}
        for part in self._parts:
            for name, parameter in named.items():
                for moment in _MOMENTS:
                    if moment in part.state.get(parameter, {}):
                        found[f"{moment}/{name}"] = part.state[parameter][moment]
        return found

    def counts(self, named: dict[str, nn.Parameter]) -> dict[str, int]:
        """Number of AdamW steps of each parameter."""
        adam = self._parts[0].state
        return {name: int(adam[p]["step"]) for name, p in named.items() if p in adam}

    def restore(
        self, named: dict[str, nn.Parameter], moments: dict[str, Tensor], counts: dict[str, int]
    ) -> None:
        """Load what `moments` and `counts` returned."""
        for part in self._parts:
            ours = {id(p) for group in part.param_groups for p in group["params"]}
            for name, parameter in named.items():
                state: dict[str, Any] = {
                    moment: shard_like(moments[f"{moment}/{name}"], parameter)
                    for moment in _MOMENTS
                    if f"{moment}/{name}" in moments
                }
                if id(parameter) not in ours or not state:
                    continue
                if name in counts:
                    state["step"] = torch.tensor(float(counts[name]), device=parameter.device)
                part.state[parameter] = state
