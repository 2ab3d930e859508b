"""Checks on single values: plain scalars, numbers, bounds, steps and names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import numpy as np

from foretell.errors import SpaceError

LARGEST_FLOAT = 1e100
LARGEST_INT = 10**12

Scalar: TypeAlias = str | int | float | bool | None


def as_scalar(value: object, place: str) -> Scalar:
    """The value as a plain Python scalar that JSON can hold.

    Raises:
        SpaceError: it is anything else; the message begins with `place`.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        cure = "JSON has no such number; use a finite one, or None"
    elif isinstance(value, Mapping):
        cure = "use Choice({...}) for options with parameters of their own"
    elif isinstance(value, Iterable):
        cure = (
            "use Choice([...]) to choose from it (in TOML: {choice = [...]}), or build it in your function from a name"
        )
    else:
        cure = "a value is a str, an int, a float, a bool or None; build other objects in your function from a name"
    raise SpaceError(f"{place} is {value!r}: {cure}.")


def as_number(value: object, place: str) -> int | float:
    """The value as a finite int or float.

    Raises:
        SpaceError: it is a bool, a string or anything else; the message begins with `place`.
    """
    number = value.item() if isinstance(value, np.generic) else value
    if isinstance(number, bool) or not isinstance(number, int | float):
        kind = "None" if number is None else f"a {type(number).__name__}"
        raise SpaceError(f"{place} is {number!r}, {kind} where a number belongs: give an int or a float.")
    if isinstance(number, int):
        return int(number)
    if not math.isfinite(number):
        raise SpaceError(f"{place} is {number!r}: give a finite number.")
    return float(number)


def as_integer(value: object, place: str) -> int:
    """The value as an int; 1e3 counts as one.

    Raises:
        SpaceError: it is not a whole number; the message begins with `place`.
    """
    number = as_number(value, place)
    if isinstance(number, float) and not number.is_integer():
        raise SpaceError(f"{place} is {number!r}, not a whole number: use Float, or give an integer.")
    return int(number)


def as_flag(value: object, name: str) -> bool:
    """The value, if it is True or False. Raises SpaceError otherwise."""
    if not isinstance(value, bool):
        raise SpaceError(f"{name} is {value!r}: give True or False.")
    return value


def as_bound(value: int | float, place: str) -> float:
    """The value as a Float's bound. Raises SpaceError if it is too large for exact round trips."""
    if abs(value) > LARGEST_FLOAT:
        raise SpaceError(f"{place} is beyond {LARGEST_FLOAT:g}: search over its logarithm, or use a larger unit.")
    return float(value) + 0.0  # -0.0 becomes 0.0: one spelling, one hash


def check_bounds(kind: str, low: float, high: float, log: bool) -> None:
    """Raises SpaceError if two bounds span no range, or none that has logarithms."""
    if low == high:
        raise SpaceError(f"{kind}({low!r}, {high!r}) has one value only: give it as a fixed value, name={low!r}.")
    if low > high:
        raise SpaceError(f"{kind}({low!r}, {high!r}) has low above high: exchange them.")
    if log and low <= 0:
        both = f"low={low!r} and high={high!r} are" if high <= 0 else f"low={low!r} is"
        raise SpaceError(
            f"log=True needs positive bounds, but {both} not: raise {'both' if high <= 0 else 'low'}, or drop log."
        )


def check_width(low: float, high: float, log: bool) -> None:
    """Raises SpaceError if a continuous range is too small or too narrow for exact round trips."""
    if log and low < 1 / LARGEST_FLOAT:
        raise SpaceError(f"low={low!r} is below {1 / LARGEST_FLOAT:g}: use a smaller unit.")
    if high - low < 1e-7 * max(abs(low), abs(high)):
        raise SpaceError(
            f"Float({low!r}, {high!r}) is too narrow to tell its values apart: search the offset from {low!r}."
        )


def check_step(step: float, low: float, high: float) -> float:
    """The step, if it fits into the range. Raises SpaceError otherwise."""
    if step <= 0:
        raise SpaceError(f"step is {step!r}: give a positive one.")
    if step > high - low:
        raise SpaceError(f"step={step!r} is larger than the range from {low!r} to {high!r}: give a smaller one.")
    if isinstance(step, float) and step < 1e-7 * max(abs(low), abs(high)):
        raise SpaceError(f"step={step!r} is too small for bounds like {low!r} and {high!r}: leave it out.")
    return step


def check_inside(name: str, value: float, low: float, high: float) -> float:
    """The value, if it lies between the bounds. Raises SpaceError otherwise."""
    if value < low:
        raise SpaceError(f"{name!r} is {value!r}, below its lowest value {low!r}: raise it, or widen the space.")
    if value > high:
        raise SpaceError(f"{name!r} is {value!r}, above its highest value {high!r}: lower it, or widen the space.")
    return value


def check_name(name: object) -> str:
    """The name of a parameter. Raises SpaceError if it is no string, or has a meaning of its own."""
    if not isinstance(name, str):
        raise SpaceError(f"the parameter name {name!r} is a {type(name).__name__}: give a string.")
    if name == "constraints":
        raise SpaceError("'constraints' names the list of constraints: call the parameter something else.")
    return str.__str__(name)
