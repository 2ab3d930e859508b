"""What scikit-learn's users search in, as a `Space`: lists, scipy distributions and foretell's own parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from foretell.errors import SpaceError
from foretell.space import Choice, Float, Int, Space

_EDGE = 1e-9  # of a distribution without bounds, the quantiles that are left out at either end

Decode = Callable[[dict[str, Any]], dict[str, Any]]


class Searched(NamedTuple):
    """A space, and what turns its configurations into arguments of `set_params`."""

    space: Space
    decode: Decode


def searched(space: Space | Mapping[str, Any]) -> Searched:
    """The space that a user means.

    Args:
        space: a `Space`, or by name of the estimator's parameter: Float, Int, Choice, a list of values (of any kind), a
            frozen scipy distribution, or one fixed value.

    Raises:
        SpaceError: a value is none of these.
    """
    if isinstance(space, Space):
        return Searched(space, dict)
    if not isinstance(space, Mapping):
        hint = " A list of dicts becomes a Choice with a branch for each." if isinstance(space, list | tuple) else ""
        raise SpaceError(f"The space is a {type(space).__name__}: give a Space, or a dict by parameter.{hint}")
    specs: dict[str, Any] = {}
    decoders: dict[str, Callable[[Any], Any]] = {}
    for name, given in space.items():
        specs[name], decoder = _spec(str(name), given)
        if decoder is not None:
            decoders[name] = decoder

    def decode(params: dict[str, Any]) -> dict[str, Any]:
        return {name: decoders[name](value) if name in decoders else value for name, value in params.items()}

    return Searched(Space(specs), decode)


def _spec(name: str, given: Any) -> tuple[Any, Callable[[Any], Any] | None]:
    """A parameter or fixed value of a space, and what turns its values into the estimator's."""
    if isinstance(given, Float | Int | Choice) or given is None or isinstance(given, str | bool | int | float):
        return given, None
    if hasattr(given, "ppf"):
        return _quantiles(given), _of_quantile(given)
    if hasattr(given, "rvs"):
        raise SpaceError(f"{name!r} is a distribution without ppf, so it has no quantiles: give a Float or a list.")
    if isinstance(given, Iterable) and not isinstance(given, Mapping | bytes | set | frozenset):
        options = list(given)
        if not options:
            raise SpaceError(f"{name!r} is an empty list: give at least one value.")
        return _choice(options)
    raise SpaceError(
        f"{name!r} is {given!r}: give a Float, Int or Choice, a list of values, or a frozen scipy distribution."
    )


def _choice(options: list[Any]) -> tuple[Choice, Callable[[Any], Any] | None]:
    """A Choice of the options themselves if they are scalars, else of labels for them."""
    plain = [option.item() if isinstance(option, np.generic) else option for option in options]
    if all(option is None or isinstance(option, str | bool | int | float) for option in plain):
        numbers = all(isinstance(option, int | float) and not isinstance(option, bool) for option in plain)
        if len(set(plain)) == len(plain) and all(not isinstance(o, float) or math.isfinite(o) for o in plain):
            return Choice(plain, ordered=numbers and len(plain) > 2 and plain == sorted(plain)), None
    labels = [str(option) for option in options]
    if len(set(labels)) < len(labels):
        labels = [f"{index}: {label}" for index, label in enumerate(labels)]
    return Choice(labels), dict(zip(labels, options, strict=True)).__getitem__


def _quantiles(distribution: Any) -> Float:
    # A distribution is searched by its quantiles: uniform draws then follow it, and a log-uniform one is log-scaled.
    low, high = distribution.support()
    return Float(_EDGE, 1.0 - _EDGE if not (math.isfinite(low) and math.isfinite(high)) else 1.0)


def _of_quantile(distribution: Any) -> Callable[[Any], Any]:
    def value(quantile: float) -> Any:
        found = distribution.ppf(quantile)
        discrete = hasattr(getattr(distribution, "dist", distribution), "pmf")
        return int(found) if discrete else float(found)

    return value
