"""Space: named parameters, conditional branches and constraints; a configuration is a plain dict of JSON scalars.

The uniform measure on the unit cube is the prior: `sample(rng)` decodes uniform numbers, and only constraints bend it.
"""

from __future__ import annotations

import hashlib
import json
import keyword
import operator
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self, TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretell._expression import Constraint, Expression, as_constraint
from foretell._parameters import Branch, Choice, Float, Int, Spec, as_spec, spec_from_json, spec_to_json
from foretell._tree import Dimension, Place, collect, fill, fill_from_grid, grid_size, grow, shown_condition
from foretell._values import Scalar, check_name
from foretell.errors import SpaceError, did_you_mean

__all__ = ["Choice", "Dimension", "Float", "Int", "Scalar", "Space", "Spec"]

MOST_TRIES = 10_000

Rule: TypeAlias = str | Callable[[dict[str, Any]], object]
Points: TypeAlias = int | Mapping[str, int] | None


@final
class Space:
    """Where to search: parameters by name, and the constraints between them.

    Args:
        params: parameters and fixed values by name, for names that are no Python identifiers.
        constraints: conditions on a configuration: strings such as "width * depth <= 512", or functions of the dict.
        named: parameters (Float, Int, Choice) and fixed values (str, int, float, bool, None) by name.

    Raises:
        SpaceError: a name is taken twice, a value is no parameter, or a constraint cannot be read.
    """

    __slots__ = ("_constraints", "_declared", "_dimensions", "_names", "_places", "_text", "_tree")

    def __init__(
        self,
        params: Mapping[str, Spec] | None = None,
        /,
        *,
        constraints: Rule | Iterable[Rule] = (),
        **named: Spec,
    ) -> None:
        self._declared = _declared(params, named)
        self._places: dict[str, list[Place]] = {}
        dimensions: list[Dimension] = []
        self._tree = grow(self._declared, (), self._places, dimensions)
        self._dimensions = tuple(dimensions)
        self._names = tuple(self._places)
        given = [constraints] if isinstance(constraints, str) or callable(constraints) else constraints
        self._constraints: tuple[Constraint, ...] = tuple(as_constraint(item, self._names) for item in given)
        self._text = json.dumps(self.to_json(), separators=(",", ":"), allow_nan=False)

    @property
    def names(self) -> tuple[str, ...]:
        """All names in declared order, those of fixed values and of every branch included, each once."""
        return self._names

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The axes of the unit cube, in declared order; fixed values have none."""
        return self._dimensions

    @property
    def constraints(self) -> tuple[Rule, ...]:
        """The constraints as they were given."""
        return tuple(c.text if isinstance(c, Expression) else c.function for c in self._constraints)

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits that tell this space from others. The order of the parameters counts."""
        return hashlib.sha256(self._text.encode()).hexdigest()[:16]

    def sample(self, rng: np.random.Generator) -> dict[str, Any]:
        """A configuration drawn from the prior, among those that meet the constraints.

        Raises:
            SpaceError: none of 10 000 configurations met them.
        """
        dims = len(self._dimensions)
        for _ in range(MOST_TRIES):
            params: dict[str, Any] = {}
            fill(self._tree, rng.random(dims).tolist(), params)
            if not self._constraints or self.feasible(params):
                return params
        raise SpaceError(
            f"No configuration of {MOST_TRIES} met the constraints. Alone held {self._shares(rng)}. "
            "Loosen them, or narrow the parameters they name."
        )

    def validate(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration in declared order, with Python types. Fixed values may be left out; they are filled in.

        Args:
            params: values by name; NumPy scalars are welcome. A float without a step is kept exactly as given.

        Raises:
            SpaceError: a name is unknown, missing or inactive, a value is not allowed, or a constraint does not hold.
        """
        found = {place.name: value for place, value in self._read(params)}
        for constraint in self._constraints:
            if not constraint.holds(found):
                shown = constraint.shown(found)
                raise SpaceError(f"The constraint {constraint.label} does not hold for {shown}: change one of them.")
        return found

    def feasible(self, params: Mapping[str, Any]) -> bool:
        """Whether a configuration of this space meets every constraint. Raises SpaceError if one cannot be computed."""
        return all(constraint.holds(params) for constraint in self._constraints)

    def encode(self, params: Mapping[str, Any]) -> NDArray[np.float64]:
        """The point of a configuration in the unit cube: (d,) float64 in [0, 1], 0.5 where a dimension is inactive.

        `decode(encode(params))` is exactly `params` if it was sampled or decoded. A user's own float comes back to
        within 1e-11: of itself on a log scale, of the range or the larger bound on a linear one.

        Raises:
            SpaceError: as for `validate`, but constraints are not looked at.
        """
        point = [0.5] * len(self._dimensions)
        for place, value in self._read(params):
            if place.dimension is not None:
                point[place.index] = place.dimension.parameter.to_unit(value)
        return np.array(point, dtype=np.float64)

    def active(self, params: Mapping[str, Any]) -> NDArray[np.bool_]:
        """Which dimensions a configuration uses: (d,) bool. Raises SpaceError as `encode` does."""
        mask = np.zeros(len(self._dimensions), dtype=np.bool_)
        mask[[place.index for place, _ in self._read(params) if place.dimension is not None]] = True
        return mask

    def decode(self, u: ArrayLike) -> dict[str, Any]:
        """The configuration at a point of the unit cube; constraints are not looked at.

        Args:
            u: (d,) numbers; those outside [0, 1] are moved to the nearer end.

        Raises:
            SpaceError: u has another shape, or holds NaN.
        """
        point = np.asarray(u, dtype=np.float64)
        if point.shape != (len(self._dimensions),):
            raise SpaceError(
                f"The point has the shape {point.shape}: give one number for each of {len(self)} dimensions."
            )
        if np.isnan(point).any():
            raise SpaceError("The point holds NaN: give numbers from 0 to 1.")
        params: dict[str, Any] = {}
        fill(self._tree, np.clip(point, 0.0, 1.0).tolist(), params)
        return params

    def size(self, points: Points = None) -> int:
        """How many configurations the grid has, those that miss a constraint included (skip them with `feasible`).

        Args:
            points: how many evenly spaced values a Float or Int has at most, for all or by name. An Int and a Float
                with a step have all their values if it is left out; a Float without a step needs it.

        Raises:
            SpaceError: a Float has no end of values, or points is no such number.
        """
        return grid_size(self._tree, self._points(points))

    def at(self, index: int, points: Points = None) -> dict[str, Any]:
        """The grid's configuration number `index`; the parameter declared first changes slowest.

        Args:
            index: from 0 to size(points) - 1.
            points: as for `size`.

        Raises:
            SpaceError: index is outside, or as for `size`.
        """
        counts = self._points(points)
        size, number = grid_size(self._tree, counts), operator.index(index)
        if not 0 <= number < size:
            raise SpaceError(f"The grid has no configuration {number}: it has {size}, counted from 0.")
        params: dict[str, Any] = {}
        fill_from_grid(self._tree, number, counts, params)
        return params

    def to_json(self) -> dict[str, Any]:
        """The space as plain data for `from_json`: {name: parameter or value, "constraints": [...]}."""
        data = {name: spec_to_json(spec) for name, spec in self._declared}
        if self._constraints:
            data["constraints"] = [constraint.to_json() for constraint in self._constraints]
        return data

    @classmethod
    def from_json(
        cls, data: Mapping[str, Any], *, constraints: Iterable[Callable[[dict[str, Any]], object]] = ()
    ) -> Self:
        """The space that `to_json` described.

        Args:
            data: {name: {"float": [low, high]}, {"int": [low, high]}, {"choice": [...]} or a fixed value}.
            constraints: the functions among the constraints, in their order, for they cannot be stored.

        Raises:
            SpaceError: the data describe no space, or a function is missing.
        """
        if not isinstance(data, Mapping):
            raise SpaceError(f"A space is a mapping from names to parameters, not a {type(data).__name__}.")
        stored = data.get("constraints", [])
        if not isinstance(stored, list | tuple):
            raise SpaceError(f"constraints is {stored!r}: give a list of conditions such as ['a * b <= 8'].")
        params = {name: spec_from_json(spec, repr(name)) for name, spec in data.items() if name != "constraints"}
        return cls(params, constraints=_with_functions(stored, tuple(constraints)))

    @classmethod
    def from_toml(cls, source: str | Path | Mapping[str, Any]) -> Self:
        """The space in a TOML file, a TOML text or its parsed table; the language is that of `from_json`.

        Args:
            source: a path (a str that ends in .toml is one), a text such as "lr = {float = [1e-4, 0.1], log = true}",
                or a table.

        Raises:
            SpaceError: the file or text cannot be read, or describes no space.
        """
        if isinstance(source, Mapping):
            return cls.from_json(source)
        try:
            is_path = isinstance(source, Path) or ("\n" not in source and source.endswith(".toml"))
            return cls.from_json(tomllib.loads(Path(source).read_text("utf-8") if is_path else str(source)))
        except OSError as error:
            raise SpaceError(
                f"The space file {str(source)!r} cannot be read: {error.strerror}. Give its path."
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SpaceError(
                f"The space is no valid TOML: {error}. Give a table such as: lr = {{float = [0.1, 1.0]}}"
            ) from error

    def __len__(self) -> int:
        return len(self._dimensions)

    def __bool__(self) -> bool:
        return True  # a space without dimensions is still a space

    def __repr__(self) -> str:
        plain = all(name.isidentifier() and not keyword.iskeyword(name) for name, _ in self._declared)
        if plain:
            lines = [f"{name}={spec!r}" for name, spec in self._declared]
        else:
            lines = [f"{{{', '.join(f'{name!r}: {spec!r}' for name, spec in self._declared)}}}"]
        if self._constraints:
            lines.append(f"constraints=[{', '.join(constraint.label for constraint in self._constraints)}]")
        text = ", ".join(lines)
        return f"Space({text})" if len(text) < 80 else "Space(\n    " + ",\n    ".join(lines) + ",\n)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (dict(self._declared), self.constraints)

    def _read(self, params: Mapping[str, Any]) -> list[tuple[Place, Any]]:
        """The active places with canonical values, in declared order; every name of `params` is accounted for."""
        if not isinstance(params, Mapping):
            raise SpaceError(f"A configuration is a dict from names to values, not a {type(params).__name__}.")
        for name in params:
            if name not in self._places:
                raise SpaceError(f"{name!r} is no parameter of this space. {did_you_mean(str(name), self._names)}")
        found: list[tuple[Place, Any]] = []
        collect(self._tree, params, found)
        active = {place.name for place, _ in found}
        for name in params:
            if name not in active:
                where = " or when ".join(shown_condition(place.condition) for place in self._places[name])
                raise SpaceError(f"{name!r} exists only when {where}: leave it out.")
        return found

    def _points(self, points: Points) -> Mapping[str, int]:
        if points is None:
            return {}
        if not isinstance(points, Mapping):
            return dict.fromkeys(self._names, _count("points", points))
        numbers = {d.name for d in self._dimensions if not isinstance(d.parameter, Choice)}
        for name in points:
            if name not in numbers:
                cure = "A grid has every option of a Choice. " if name in self._places else ""
                raise SpaceError(
                    f"points names {name!r}, which is no Float or Int. {cure}{did_you_mean(str(name), numbers)}"
                )
        return {name: _count(f"points[{name!r}]", count) for name, count in points.items()}

    def _shares(self, rng: np.random.Generator) -> str:
        drawn = [self.decode(rng.random(len(self))) for _ in range(MOST_TRIES // 10)]
        return ", ".join(f"{c.label} in {sum(map(c.holds, drawn)) / len(drawn):.1%}" for c in self._constraints)


def _rebuild(params: dict[str, Spec], constraints: tuple[Any, ...]) -> Space:
    return Space(params, constraints=constraints)


def _declared(params: object, named: dict[str, Spec]) -> Branch:
    if params is not None and not isinstance(params, Mapping):
        raise SpaceError(f"Space got {params!r}: give a mapping from names to parameters, or name=parameter.")
    given: Mapping[Any, Any] = params or {}
    for name in named:
        if name in given:
            raise SpaceError(f"{name!r} is given twice, in the mapping and by name: keep one.")
    return tuple((check_name(name), as_spec(spec, repr(name))) for name, spec in (*given.items(), *named.items()))


def _count(place: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise SpaceError(f"{place} is {value!r}: give a whole number of values, at least 1.")
    return int(value)


def _with_functions(stored: Iterable[object], functions: tuple[Callable[..., object], ...]) -> list[Any]:
    """The stored constraints, with the functions given back in the places of their records."""
    items = list(stored)
    records = [item for item in items if isinstance(item, Mapping)]
    if len(records) != len(functions) or not all(map(callable, functions)):
        names = ", ".join(str(record.get("function")) for record in records) or "none"
        raise SpaceError(
            f"The space has {len(records)} constraints that are functions ({names}), and got {len(functions)}: "
            "a function cannot be stored, so pass it again, Space.from_json(data, constraints=[...]), in this order."
        )
    given = iter(functions)
    return [next(given) if isinstance(item, Mapping) else item for item in items]
