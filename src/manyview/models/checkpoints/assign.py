"""Giving a network its weights: strict about names and shapes, and about every number being finite."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...errors import WeightsError
from .keys import compare_keys

_SHOWN = 4
_DTYPES = frozenset(
    {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2}
)


def assign_weights(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    source: str,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Make `tensors` the parameters of `module`, which is best built on the meta device.

    Tensors are not copied where device and dtype already agree, so the weights are held once. Raises
    WeightsError, and leaves the module as it was, if keys or shapes differ or a number is not finite.
    """
    expected = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    report = compare_keys(expected, {key: tuple(value.shape) for key, value in tensors.items()})
    if not report.ok:
        raise WeightsError(f"{source} does not fit {type(module).__name__}: {report.sentence()}")
    check_numbers(tensors, source)
    ready = {key: tensors[key].to(device=device or tensors[key].device, dtype=dtype) for key in expected}
    trainable = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    module.load_state_dict(ready, strict=True, assign=True)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(trainable[name])


def check_numbers(tensors: Mapping[str, Tensor], source: str) -> None:
    """WeightsError naming the first tensors that hold NaN, infinity, or anything but real numbers."""
    odd = [key for key, value in tensors.items() if value.dtype not in _DTYPES]
    if odd:
        kind = str(tensors[odd[0]].dtype).removeprefix("torch.")
        raise WeightsError(f"{source}: {odd[0]} holds {kind} numbers, expected floating-point weights")
    broken = [key for key, value in tensors.items() if not _is_finite(value)]
    if broken:
        more = f", and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
        raise WeightsError(
            f"{source} holds NaN or infinity in {len(broken)} of {len(tensors)} tensors "
            f"({', '.join(broken[:_SHOWN])}{more}): the file is damaged or its training diverged, "
            "use other weights"
        )


def _is_finite(value: Tensor) -> bool:
    """One pass without temporaries: NaN and infinity both show in the extremes."""
    if value.numel() == 0 or value.device.type == "meta":
        return True
    if value.element_size() < 2:  # 8-bit floats have no reductions of their own
        value = value.float()
    low, high = value.aminmax()
    return bool(torch.isfinite(low) & torch.isfinite(high))
