"""An optimiser of torch by names: its groups, its moments, and the pull of L2-SP on its gradients."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from foretell.transfer import TransferError

Tensors = Mapping[str, Any]


def made(make: Callable[[list[dict[str, Any]]], Any], groups: Mapping[str, Tensors], rates: Sequence[float]) -> Any:
    """The optimiser of these groups.

    Raises:
        TransferError: it does not hold every tensor once, or shares one estimate of the rate among groups that differ.
    """
    given = [
        {"params": [*tensors.values()], "lr": lr, "name": name}
        for (name, tensors), lr in zip(groups.items(), rates, strict=True)
    ]
    optimizer = make(given)
    held = getattr(optimizer, "param_groups", None)
    wanted = [id(tensor) for tensors in groups.values() for tensor in tensors.values()]
    if held is None or [id(tensor) for group in held for tensor in group["params"]] != wanted:
        raise TransferError(
            "The optimiser has not the groups it was given: let the function return, for instance, "
            "torch.optim.SGD(groups, momentum=0.9)."
        )
    if type(optimizer).__module__.partition(".")[0] == "prodigyopt" and len(set(rates)) > 1:
        raise TransferError(f"{type(optimizer).__name__} estimates one rate for all groups: use decay=1.")
    return optimizer


def kind(optimizer: Any) -> str:
    """The optimiser's class."""
    return f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"


def settings(optimizer: Any) -> dict[str, dict[str, Any]]:
    """Of each group by its name, without its tensors."""
    return {
        group["name"]: {key: value for key, value in group.items() if key != "params"}
        for group in optimizer.param_groups
    }


def set_settings(optimizer: Any, saved: Mapping[str, Mapping[str, Any]]) -> None:
    for group in optimizer.param_groups:
        group.update(copied(saved[group["name"]]))


def moments(optimizer: Any, tensors: Tensors) -> dict[str, dict[str, Any]]:
    """Of each tensor that has any, by its name."""
    return {name: dict(optimizer.state[tensor]) for name, tensor in tensors.items() if optimizer.state.get(tensor)}


def set_moments(optimizer: Any, saved: Mapping[str, Mapping[str, Any]], tensors: Tensors) -> None:
    """Put copies of moments back to these tensors; those without any begin anew."""
    groups = {id(tensor): group for group in optimizer.param_groups for tensor in group["params"]}
    for name, tensor in tensors.items():
        optimizer.state.pop(tensor, None)
        if name in saved:
            group = groups[id(tensor)]
            beside = group.get("capturable") or group.get("fused")
            optimizer.state[tensor] = {
                key: value if key == "step" and not beside else _to(value, tensor.device)
                for key, value in copied(saved[name]).items()
            }


def copied(tree: Any) -> Any:
    """Nested dicts with every tensor cloned."""
    if isinstance(tree, Mapping):
        return {key: copied(value) for key, value in tree.items()}
    return tree.detach().clone() if isinstance(tree, sys.modules["torch"].Tensor) else tree


def pull(tensors: Tensors, starts: Tensors, strength: float) -> None:
    """Add the gradient of strength/2 * |w - w0|² where there is a gradient."""
    for name, start in starts.items():
        tensor = tensors[name]
        if tensor.grad is not None:
            tensor.grad.add_(tensor.detach() - start, alpha=strength)


def _to(value: Any, device: Any) -> Any:
    return value.to(device) if isinstance(value, sys.modules["torch"].Tensor) else value
