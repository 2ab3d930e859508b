"""PyTorch: optimisers that need no schedule or no rate, and the right weights at each moment.

A schedule-free optimiser trains one set of weights and is judged by another, their average; both live in the same
tensors, one at a time. `training` sees to it that outside of it, where a model is judged, saved and handed on, these
are always the ones to be judged.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from foretell.errors import CheckpointError, did_you_mean
from foretell.integrations._torch_free import averages, require_one_rate

__all__ = ["parameter_free", "training"]

_BatchNorm = torch.nn.modules.batchnorm._BatchNorm
_guarded: weakref.WeakSet[Any] = weakref.WeakSet()


def parameter_free(name: str, params: Iterable[Any], **settings: Any) -> Any:
    """An optimiser by name, for a parameter of a search as well as for a program.

    Args:
        name: "schedulefree_adamw", "schedulefree_radam" or "schedulefree_sgd" (no schedule; a rate, but a forgiving
            one), "prodigy" or "adadelta" (no rate: theirs is 1).
        params: parameters or groups of them.
        settings: of the optimiser.

    Raises:
        ValueError: there is no such optimiser, or groups that must share a rate have different ones.
        ModuleNotFoundError: its package is not installed; the message names it.

    Source: Defazio et al., The Road Less Scheduled, 2024; Mishchenko and Defazio, Prodigy, 2024; Zeiler, Adadelta,
        2012.
    """
    if name not in _MAKERS:
        raise ValueError(f"There is no optimiser {name!r} here. {did_you_mean(name, _MAKERS)}")
    optimizer = _MAKERS[name]()(params, **settings)
    require_one_rate(optimizer)
    rate = float(optimizer.param_groups[0]["lr"])
    if name in _RATE_IS_ONE and rate not in (0.0, 1.0):
        warnings.warn(
            f"{name} finds its own rate, which lr={rate:g} multiplies: leave lr out unless you want just that.",
            UserWarning,
            stacklevel=2,
        )
    _guard(optimizer)
    return optimizer


@contextmanager
def training(model: torch.nn.Module, optimizer: Any, *, refresh: Iterable[Any] | None = None) -> Iterator[None]:
    """Within it the weights are those to be trained, outside those to be judged; the model's mode goes along.

    With it around the batches of an epoch, everything between the epochs is right without another thought: evaluation,
    the best weights, checkpoints, and what the code after the loop gets. It does no harm to other optimisers.

    Args:
        model: that is trained.
        optimizer: of any kind.
        refresh: batches for which the statistics of batch normalisation are taken anew on leaving, since those of the
            training belong to other weights; of a batch that is a tuple or a list, the first is the input.

    Raises:
        ValueError: `refresh` has no batch in it.
    """
    averaging = averages(optimizer)
    norms = [one for one in model.modules() if isinstance(one, _BatchNorm) and one.running_mean is not None]
    if averaging:
        _guard(optimizer)
        optimizer.train()
        if norms and refresh is None:
            warnings.warn(
                f"The model has batch normalisation, whose statistics would not belong to the weights by which "
                f"{type(optimizer).__name__} is judged: give training(..., refresh=) some batches.",
                UserWarning,
                stacklevel=3,
            )
    model.train()
    try:
        yield
    finally:
        if averaging:
            optimizer.eval()
        model.eval()
    if averaging and norms and refresh is not None:
        _take_statistics(model, norms, refresh)


def _take_statistics(model: torch.nn.Module, norms: list[Any], batches: Iterable[Any]) -> None:
    # Only these layers train, so that dropout stays off and draws no random number.
    momenta, count = [one.momentum for one in norms], 0
    try:
        with torch.no_grad():
            for batch in batches:
                if not count:
                    for one in norms:
                        one.reset_running_stats()
                        one.momentum = None  # a plain mean over all batches
                        one.train()
                model(batch[0] if isinstance(batch, tuple | list) else batch)
                count += 1
    finally:
        for one, momentum in zip(norms, momenta, strict=True):
            one.momentum = momentum
            one.eval()
    if not count:
        raise ValueError("refresh has no batch in it: give training(..., refresh=) a list of batches or a DataLoader.")


def _guard(optimizer: Any) -> None:
    """Let nobody save weights that are not those to be judged."""
    if averages(optimizer) and optimizer not in _guarded and hasattr(optimizer, "register_state_dict_pre_hook"):
        optimizer.register_state_dict_pre_hook(_refuse_in_training)
        _guarded.add(optimizer)


def _refuse_in_training(optimizer: Any) -> None:
    if any(group.get("train_mode") for group in optimizer.param_groups):
        raise CheckpointError(
            f"{type(optimizer).__name__} is in training, so the model holds weights that are not those to be judged: "
            "train within `with training(model, optimizer):`, or call optimizer.eval() at the end of each epoch."
        )


def _schedulefree(kind: str) -> Callable[[], Any]:
    def load() -> Any:
        try:
            import schedulefree  # noqa: PLC0415 - only who names it needs it
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"The optimisers of schedulefree need its package: {_INSTALL}") from error
        return getattr(schedulefree, kind)

    return load


def _prodigy() -> Any:
    try:
        import prodigyopt  # noqa: PLC0415 - as above
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"prodigy needs its package: {_INSTALL}") from error
    return prodigyopt.Prodigy


_INSTALL = "pip install schedulefree prodigyopt."
_RATE_IS_ONE = ("adadelta", "prodigy")
_MAKERS: dict[str, Callable[[], Any]] = {
    "adadelta": lambda: torch.optim.Adadelta,
    "prodigy": _prodigy,
    "schedulefree_adamw": _schedulefree("AdamWScheduleFree"),
    "schedulefree_radam": _schedulefree("RAdamScheduleFree"),
    "schedulefree_sgd": _schedulefree("SGDScheduleFree"),
}
