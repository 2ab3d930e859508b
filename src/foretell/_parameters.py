"""Float, Int and Choice: the values of one parameter, and their places on the unit interval.

The uniform measure on [0, 1] is the prior of each parameter. Numbers are decoded onto a decimal grid, far finer than
any hyperparameter needs and far coarser than the rounding errors, so that decode(encode(value)) is the very same value.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import KW_ONLY, dataclass, field
from itertools import accumulate
from typing import Any, TypeAlias, final

from foretell._scales import Lattice, Linear, Log, LogInt, Scale
from foretell._values import (
    LARGEST_INT,
    Scalar,
    as_bound,
    as_flag,
    as_integer,
    as_number,
    as_scalar,
    check_bounds,
    check_inside,
    check_name,
    check_step,
    check_width,
)
from foretell.errors import SpaceError, did_you_mean

SMALLEST_SHARE = 1e-9
ON_STEP = 1e-6  # a value this near to a step, in steps, is on it


@final
@dataclass(frozen=True, slots=True)
class Float:
    """A real number between two bounds, both included.

    Args:
        low: the lowest value, in the parameter's own unit.
        high: the highest value.
        log: spread values evenly over orders of magnitude; both bounds must be positive.
        step: only the values low + k * step, as far as high. Not together with log.

    Raises:
        SpaceError: the bounds or the step make no sense.
    """

    low: float
    high: float
    _: KW_ONLY
    log: bool = False
    step: float | None = None
    _scale: Scale = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        low, high = (as_bound(as_number(self.low, "low"), "low"), as_bound(as_number(self.high, "high"), "high"))
        check_bounds("Float", low, high, as_flag(self.log, "log"))
        _assign(self, low=low, high=high)
        if self.step is None:
            check_width(low, high, self.log)
            _assign(self, _scale=Log.between(low, high) if self.log else Linear.between(low, high))
            return
        if self.log:
            raise SpaceError(
                "Float has both log=True and a step: leave the step out, or choose from a list: Choice([...])."
            )
        step = check_step(float(as_number(self.step, "step")), low, high)
        _assign(self, step=step, _scale=Lattice.of_floats(low, high, step))

    def canonical(self, name: str, value: object) -> float:
        """The value as a Python float, exactly as given if there is no step. Raises SpaceError if it is not allowed."""
        number = check_inside(name, as_number(value, repr(name)), self.low, self.high)
        if self.step is None:
            return float(number)
        assert isinstance(self._scale, Lattice)
        return float(_on_step(name, number, self._scale))

    def to_unit(self, value: float) -> float:
        """The place of an allowed value in [0, 1]."""
        return self._scale.to_unit(value)

    def from_unit(self, u: float) -> float:
        """The value at a place in [0, 1]."""
        return self._scale.from_unit(u)

    def grid_size(self, points: int | None) -> int | None:
        """How many values the grid has if at most `points` are asked for; None if there is no end of them."""
        return _grid_size(self._scale.count, points)

    def grid_value(self, index: int, points: int | None) -> float:
        """The grid's value number `index`, counted from the lowest."""
        return self._scale.nth(index, points)

    def to_json(self) -> dict[str, Any]:
        """The parameter as plain data: {"float": [low, high], "log": true}."""
        return {"float": [self.low, self.high], **_given(log=self.log, step=self.step)}

    def __repr__(self) -> str:
        return _call("Float", (self.low, self.high), _given(log=self.log, step=self.step))


@final
@dataclass(frozen=True, slots=True)
class Int:
    """A whole number between two bounds, both included.

    Args:
        low: the lowest value.
        high: the highest value.
        log: spread values evenly over orders of magnitude; both bounds must be positive.
        step: only the values low + k * step, as far as high. Not together with log.

    Raises:
        SpaceError: the bounds or the step make no sense.
    """

    low: int
    high: int
    _: KW_ONLY
    log: bool = False
    step: int = 1
    _scale: Scale = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        low, high = as_integer(self.low, "low"), as_integer(self.high, "high")
        check_bounds("Int", low, high, as_flag(self.log, "log"))
        if max(-low, high) > LARGEST_INT:
            raise SpaceError(f"Int({low}, {high}) goes beyond {LARGEST_INT}: use Float, or count in a larger unit.")
        step = as_integer(self.step, "step")
        if self.log and step > 1:
            raise SpaceError(
                f"Int has both log=True and step={step}: leave one out, or choose from a list: Choice([...])."
            )
        check_step(step, low, high)
        scale: Scale = LogInt.between(low, high) if self.log else Lattice.of_ints(low, high, step)
        _assign(self, low=low, high=high, step=step, _scale=scale)

    def canonical(self, name: str, value: object) -> int:
        """The value as a Python int. Raises SpaceError if it is not allowed."""
        number = check_inside(name, as_integer(value, repr(name)), self.low, self.high)
        return int(_on_step(name, number, self._scale) if isinstance(self._scale, Lattice) else number)

    def to_unit(self, value: int) -> float:
        """The place of an allowed value in [0, 1]."""
        return self._scale.to_unit(value)

    def from_unit(self, u: float) -> int:
        """The value at a place in [0, 1]."""
        return self._scale.from_unit(u)  # type: ignore[return-value]

    def grid_size(self, points: int | None) -> int | None:
        """How many values the grid has if at most `points` are asked for."""
        return _grid_size(self._scale.count, points)

    def grid_value(self, index: int, points: int | None) -> int:
        """The grid's value number `index`, counted from the lowest."""
        return self._scale.nth(index, points)  # type: ignore[return-value]

    def to_json(self) -> dict[str, Any]:
        """The parameter as plain data: {"int": [low, high], "step": 16}."""
        return {"int": [self.low, self.high], **_given(log=self.log, step=self.step if self.step > 1 else None)}

    def __repr__(self) -> str:
        return _call("Int", (self.low, self.high), _given(log=self.log, step=self.step if self.step > 1 else None))


@final
@dataclass(frozen=True, slots=True, init=False, eq=False)
class Choice:
    """One of several options; each may bring parameters of its own.

    Args:
        options: scalars (str, int, float, bool, None), or a mapping from each option (a str) to its own parameters.
        weights: how often each option is drawn, relative to the others; all equal if left out.
        ordered: neighbouring options are alike, as in [1, 2, 4]: models may interpolate.

    Attributes:
        branches: the parameters of each option, in the order of `options`; empty tuples if there are none.

    Raises:
        SpaceError: options are missing, equal to one another or no scalars, or the weights do not fit.
    """

    options: tuple[Scalar, ...]
    weights: tuple[float, ...] | None
    ordered: bool
    branches: tuple[Branch, ...]
    _index: dict[Scalar, int]
    _edges: tuple[float, ...]

    def __init__(
        self,
        options: Sequence[Scalar] | Mapping[str, Mapping[str, Spec]],
        *,
        weights: Sequence[float] | None = None,
        ordered: bool = False,
    ) -> None:
        values = _check_options(options)
        branches: tuple[Branch, ...] = ((),) * len(values)
        if isinstance(options, Mapping):
            branches = tuple(_check_branch(option, branch) for option, branch in options.items())
        shares = _check_weights(weights, values)
        total = math.fsum(shares)
        _assign(
            self,
            options=values,
            weights=None if weights is None else shares,
            ordered=as_flag(ordered, "ordered"),
            branches=branches,
            _index={value: index for index, value in enumerate(values)},
            _edges=(0.0, *(edge / total for edge in accumulate(shares[:-1])), 1.0),
        )

    def canonical(self, name: str, value: object) -> Scalar:
        """The option that equals the value. Raises SpaceError if there is none."""
        scalar = as_scalar(value, repr(name))
        index = self._index.get(scalar)
        if index is not None and isinstance(self.options[index], bool) == isinstance(scalar, bool):
            return self.options[index]
        if isinstance(scalar, str) and all(isinstance(option, str) for option in self.options):
            raise SpaceError(
                f"{name!r} is {scalar!r}, which is no option. {did_you_mean(scalar, map(str, self.options))}"
            )
        listed = ", ".join(map(repr, self.options))
        raise SpaceError(f"{name!r} is {scalar!r}, which is no option: choose one of {listed}.")

    def to_unit(self, value: Scalar) -> float:
        """The middle of the option's interval in [0, 1]."""
        index = self._index[value]
        return 0.5 * (self._edges[index] + self._edges[index + 1])

    def from_unit(self, u: float) -> Scalar:
        """The option in whose interval u lies."""
        return self.options[bisect_right(self._edges, u, 1, len(self.options)) - 1]

    def grid_size(self, points: int | None) -> int:
        """How many options there are: a grid has them all."""
        return len(self.options)

    def grid_value(self, index: int, points: int | None) -> Scalar:
        """Option number `index`."""
        return self.options[index]

    def to_json(self) -> dict[str, Any]:
        """The parameter as plain data: {"choice": [...]}, or {"choice": {option: {name: ...}}} with branches."""
        options: list[Scalar] | dict[str, Any] = list(self.options)
        if any(self.branches):
            options = {
                str(option): {name: spec_to_json(spec) for name, spec in branch}
                for option, branch in zip(self.options, self.branches, strict=True)
            }
        weights = None if self.weights is None else list(self.weights)
        return {"choice": options, **_given(weights=weights, ordered=self.ordered)}

    def __repr__(self) -> str:
        options: object = list(self.options)
        if any(self.branches):
            options = {option: dict(branch) for option, branch in zip(self.options, self.branches, strict=True)}
        weights = None if self.weights is None else list(self.weights)
        return _call("Choice", (options,), _given(weights=weights, ordered=self.ordered))

    # Tuples call 1, 1.0 and True equal; the JSON text does not.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Choice) and json.dumps(self.to_json()) == json.dumps(other.to_json())

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_json()))


Spec: TypeAlias = Float | Int | Choice | Scalar
Branch: TypeAlias = tuple[tuple[str, Spec], ...]


def as_spec(value: object, place: str) -> Spec:
    """A parameter as it is, or a fixed value as a plain scalar."""
    return value if isinstance(value, Float | Int | Choice) else as_scalar(value, place)


def spec_to_json(spec: Spec) -> Any:
    """A parameter or a fixed value as plain data."""
    return spec.to_json() if isinstance(spec, Float | Int | Choice) else spec


def spec_from_json(data: object, place: str) -> Spec:
    """The parameter or the fixed value that plain data describe: the inverse of `spec_to_json`.

    Raises:
        SpaceError: the data describe none; the message begins with `place`.
    """
    if not isinstance(data, Mapping):
        return as_scalar(data, place)
    kinds = [kind for kind in _KEYS if kind in data]
    if len(kinds) != 1:
        if kinds:
            raise SpaceError(f"{place} has both {kinds[0]!r} and {kinds[1]!r}: keep one.")
        wrong = next((key for key in data if key not in ("log", "step", "weights", "ordered")), None)
        found = "no kind" if wrong is None else f"the unknown kind {wrong!r}"
        raise SpaceError(f"{place} has {found}. {did_you_mean(str(wrong), _KEYS)} As in {{float = [0.1, 1.0]}}.")
    kind = kinds[0]
    for key in data:
        if key not in (kind, *_KEYS[kind]):
            raise SpaceError(f"{place} has the unknown key {key!r}. {did_you_mean(str(key), (kind, *_KEYS[kind]))}")
    options = {key: data[key] for key in _KEYS[kind] if key in data}
    try:
        return _BUILDERS[kind](data[kind], options)
    except SpaceError as error:
        raise SpaceError(f"{place}: {error}") from None


def _float_from_json(bounds: Any, options: dict[str, Any]) -> Float:
    low, high = _pair("float", bounds)
    return Float(low, high, **options)


def _int_from_json(bounds: Any, options: dict[str, Any]) -> Int:
    low, high = _pair("int", bounds)
    return Int(low, high, **options)


def _choice_from_json(choices: Any, options: dict[str, Any]) -> Choice:
    if not isinstance(choices, Mapping):
        return Choice(choices, **options)
    branches: dict[str, Any] = {}
    for option, branch in choices.items():
        branches[option] = branch
        if isinstance(branch, Mapping):
            branches[option] = {
                name: spec_from_json(spec, f"{name!r} under {option!r}") for name, spec in branch.items()
            }
    return Choice(branches, **options)


_KEYS = {"float": ("log", "step"), "int": ("log", "step"), "choice": ("weights", "ordered")}
_BUILDERS: dict[str, Callable[[Any, dict[str, Any]], Spec]] = {
    "float": _float_from_json,
    "int": _int_from_json,
    "choice": _choice_from_json,
}


def _pair(kind: str, bounds: object) -> tuple[Any, Any]:
    if isinstance(bounds, list | tuple) and len(bounds) == 2:
        return bounds[0], bounds[1]
    raise SpaceError(f"{kind} is {bounds!r}: give the two bounds, as in {{{kind} = [1, 10]}}.")


def _assign(parameter: object, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(parameter, name, value)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None and value is not False}


def _call(name: str, arguments: tuple[object, ...], options: dict[str, Any]) -> str:
    return f"{name}({', '.join([*map(repr, arguments), *(f'{key}={value!r}' for key, value in options.items())])})"


def _on_step(name: str, value: float, lattice: Lattice) -> float:
    index = lattice.index(value)
    nearest = lattice.value(index)
    if abs(value - nearest) > ON_STEP * lattice.step:
        raise SpaceError(f"{name!r} is {value!r}, between the steps of {lattice.step!r}: the nearest is {nearest!r}.")
    return nearest


def _grid_size(count: int | None, points: int | None) -> int | None:
    if count is None or points is None:
        return points if count is None else count
    return min(count, points)


def _check_options(options: object) -> tuple[Scalar, ...]:
    if isinstance(options, str | bytes):
        raise SpaceError(f"Choice got the string {options!r}: give a list, Choice([{options!r}, ...]).")
    if isinstance(options, Set) or not isinstance(options, Iterable):
        raise SpaceError(f"Choice got {options!r}: give a list of options, whose order is kept, or a mapping.")
    values: dict[Scalar, Scalar] = {}
    for option in options:
        value = as_scalar(option, "an option of Choice")
        if isinstance(options, Mapping) and not isinstance(value, str):
            raise SpaceError(f"the option {value!r} has a branch but is no string: name it, as in {str(value)!r}.")
        if value in values:
            raise SpaceError(
                f"Choice has the equal options {values[value]!r} and {value!r}: keep one, or name them by strings."
            )
        values[value] = value
    if not values:
        raise SpaceError("Choice has no options: give at least one.")
    return tuple(values)


def _check_branch(option: str, branch: object) -> Branch:
    if not isinstance(branch, Mapping):
        raise SpaceError(
            f"the branch {option!r} is {branch!r}: give a dict of its own parameters, or {{}} if it has none."
        )
    return tuple((check_name(name), as_spec(spec, f"{name!r} under {option!r}")) for name, spec in branch.items())


def _check_weights(weights: object, options: tuple[Scalar, ...]) -> tuple[float, ...]:
    if weights is None:
        return (1.0,) * len(options)
    if isinstance(weights, str | Mapping | Set) or not isinstance(weights, Iterable):
        raise SpaceError(f"weights is {weights!r}: give a list with one number per option.")
    numbers = tuple(float(as_number(weight, "a weight")) for weight in weights)
    if len(numbers) != len(options):
        raise SpaceError(f"Choice has {len(options)} options but {len(numbers)} weights: give one weight per option.")
    total = sum(numbers)
    for option, number in zip(options, numbers, strict=True):
        if not math.isfinite(total) or number <= 0 or number < SMALLEST_SHARE * total:
            raise SpaceError(
                f"the weight of {option!r} is {number!r}: give a positive weight, not too far from the others, "
                "or leave the option out."
            )
    return numbers
