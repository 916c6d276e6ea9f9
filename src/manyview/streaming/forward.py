"""Which networks can be streamed, chunk by chunk or by anchors."""

from __future__ import annotations

from ..attention.plan import Plan
from ..errors import UsageError
from ..models.network import Network
from ..reconstruction.run.anchored import why_not_anchored


def check_streamable(model: Network) -> None:
    """UsageError for networks that cannot be streamed chunk by chunk, or without camera or depth head."""
    if model.why_not_streamable is not None:
        instead = "use --engine anchors" if model.why_not_attachable is None else "use `manyview reconstruct`"
        raise UsageError(f"{model.name} cannot be streamed in chunks: {model.why_not_streamable}; {instead}")
    _check_heads(model)


def check_anchorable(model: Network, plan: Plan) -> None:
    """UsageError with the reason unless the network can be streamed by anchors under `plan`."""
    problem = why_not_anchored(model, plan)
    if problem is not None:
        raise UsageError(f"{plan} cannot stream by anchors with {model.name}: {problem}")
    _check_heads(model)


def _check_heads(model: Network) -> None:
    for head in ("camera", "depth"):
        if head not in model.available_heads:
            raise UsageError(f"{model.name} cannot be streamed: it has no {head} head")
