"""Which optimisers of PyTorch find their own rate, or average their weights, and what may not be done to them."""

from __future__ import annotations

import warnings
from typing import Any

__all__ = ["averages", "require_one_rate", "require_scheduled"]


def averages(optimizer: Any) -> bool:
    """Whether the weights that are trained are not those to be judged, as in schedule-free methods."""
    return callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None))


def require_one_rate(optimizer: Any) -> None:
    """Check the groups of an optimiser whose estimate of the rate is shared among them.

    Raises:
        ValueError: they have different rates.
    """
    if type(optimizer).__module__.partition(".")[0] != "prodigyopt":
        return
    rates = {float(group["lr"]) * float(group.get("lr_scale", 1.0)) for group in optimizer.param_groups} - {0.0}
    if len(rates) > 1:
        shown = ", ".join(f"{rate:g}" for rate in sorted(rates))
        raise ValueError(
            f"{type(optimizer).__name__} estimates one rate for all parameters, but its groups have {shown}: give all "
            "groups the same one (0 freezes a group), and no layer-wise decay."
        )


def require_scheduled(optimizer: Any) -> None:
    """Check an optimiser that is about to get a schedule.

    Raises:
        ValueError: it does without one.
    """
    kind = type(optimizer).__name__
    if averages(optimizer):
        raise ValueError(
            f"{kind} averages its weights instead of lowering its rate, so a schedule would undo it: leave the "
            "schedule out; for a warm-up, give the optimiser warmup_steps."
        )
    require_one_rate(optimizer)
    if type(optimizer).__module__.partition(".")[0] == "prodigyopt":
        warnings.warn(
            f"{kind} finds its own rate, which the schedule now multiplies: let the schedule's highest rate be 1, and "
            "let it not fall by mistake.",
            UserWarning,
            stacklevel=3,
        )
