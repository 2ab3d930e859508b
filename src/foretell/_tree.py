"""The tree of a space: every parameter where it was declared, and the walks over the active ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

from foretell._parameters import Branch, Choice, Float, Int, Spec
from foretell._values import Scalar
from foretell.errors import SpaceError

Condition: TypeAlias = tuple[tuple[str, str], ...]


@final
@dataclass(frozen=True, slots=True)
class Dimension:
    """One axis of the unit cube.

    Args:
        name: the parameter's name; two dimensions share one if they lie in branches that exclude each other.
        parameter: what values it takes.
        condition: the (choice, option) pairs, outermost first, that must all hold for it to be active.
        index: its column in encoded configurations.
    """

    name: str
    parameter: Float | Int | Choice
    condition: Condition
    index: int


@final
@dataclass(frozen=True, slots=True)
class Place:
    """A name where it was declared: in the tree of branches, with its dimension or its fixed value."""

    name: str
    spec: Spec
    index: int  # of the dimension; -1 for a fixed value
    path: Path
    dimension: Dimension | None
    from_unit: Callable[[float], Any] | None
    branches: dict[str, Tree] = field(default_factory=dict)

    @property
    def condition(self) -> Condition:
        """The path by names."""
        return tuple((choice.name, option) for choice, option in self.path)

    def excludes(self, path: Path) -> bool:
        """Whether this place and one at the end of that path can never be active together."""
        pairs = zip(self.path, path, strict=False)
        return any(mine is theirs and option != other for (mine, option), (theirs, other) in pairs)


Path: TypeAlias = tuple[tuple[Place, str], ...]
Tree: TypeAlias = tuple[Place, ...]


def grow(declared: Branch, path: Path, places: dict[str, list[Place]], dimensions: list[Dimension]) -> Tree:
    """The places of one branch and of those below it; `places` gets them by name, `dimensions` gets theirs."""
    grown = []
    for name, spec in declared:
        condition = tuple((choice.name, option) for choice, option in path)
        for other in places.get(name, ()):
            if not other.excludes(path):
                raise SpaceError(
                    f"{name!r} is declared both {_location(other.condition)} and {_location(condition)}, "
                    "where both can be active: rename one."
                )
        if isinstance(spec, Float | Int | Choice):
            dimension = Dimension(name, spec, condition, len(dimensions))
            dimensions.append(dimension)
            place = Place(name, spec, dimension.index, path, dimension, spec.from_unit)
        else:
            place = Place(name, spec, -1, path, None, None)
        places.setdefault(name, []).append(place)
        if isinstance(spec, Choice) and any(spec.branches):
            for option, branch in zip(spec.options, spec.branches, strict=True):
                place.branches[str(option)] = grow(branch, (*path, (place, str(option))), places, dimensions)
        grown.append(place)
    return tuple(grown)


def fill(tree: Tree, point: list[float], params: dict[str, Any]) -> None:
    """Writes the configuration at a point of the unit cube into `params`."""
    for place in tree:
        if place.from_unit is None:
            params[place.name] = place.spec
        else:
            params[place.name] = value = place.from_unit(point[place.index])
            if place.branches:
                fill(place.branches[value], point, params)


def collect(tree: Tree, params: Mapping[str, Any], found: list[tuple[Place, Any]]) -> None:
    """Appends the active places with canonical values to `found`. Raises SpaceError if one is missing or wrong."""
    for place in tree:
        name, spec = place.name, place.spec
        if not isinstance(spec, Float | Int | Choice):
            if name in params:
                _check_fixed(name, params[name], spec)
            found.append((place, spec))
            continue
        if name not in params:
            where = f" (needed when {shown_condition(place.condition)})" if place.path else ""
            raise SpaceError(f"{name!r} is missing{where}: give it a value, {spec!r}.")
        value = spec.canonical(name, params[name])
        found.append((place, value))
        if place.branches:
            collect(place.branches[str(value)], params, found)


def _check_fixed(name: str, value: object, fixed: Scalar) -> None:
    try:
        Choice([fixed]).canonical(name, value)
    except SpaceError:
        raise SpaceError(f"{name!r} is {value!r}, but it is fixed at {fixed!r}: leave it out.") from None


def grid_size(tree: Tree, points: Mapping[str, int]) -> int:
    """How many configurations a tree's grid has."""
    return math.prod(_place_size(place, points) for place in tree)


def _place_size(place: Place, points: Mapping[str, int]) -> int:
    if place.dimension is None:
        return 1
    if place.branches:
        return sum(grid_size(branch, points) for branch in place.branches.values())
    size = place.dimension.parameter.grid_size(points.get(place.name))
    if size is None:
        raise SpaceError(
            f"{place.name!r} has no end of values: say how many, points={{{place.name!r}: 5}}, or give a step."
        )
    return size


def fill_from_grid(tree: Tree, index: int, points: Mapping[str, int], params: dict[str, Any]) -> None:
    """Writes the grid's configuration number `index` into `params`: mixed radix, the first place changing slowest."""
    sizes = [_place_size(place, points) for place in tree]
    rest = math.prod(sizes)
    for place, size in zip(tree, sizes, strict=True):
        rest //= size
        digit, index = divmod(index, rest)
        if place.dimension is None:
            params[place.name] = place.spec
        elif not place.branches:
            params[place.name] = place.dimension.parameter.grid_value(digit, points.get(place.name))
        else:
            for option, branch in place.branches.items():
                below = grid_size(branch, points)
                if digit < below:
                    params[place.name] = option
                    fill_from_grid(branch, digit, points, params)
                    break
                digit -= below


def _location(condition: Condition) -> str:
    if not condition:
        return "at the top level"
    return "under " + " and ".join(f"{name}={option!r}" for name, option in condition)


def shown_condition(condition: Condition) -> str:
    """The condition in words: "optimizer is 'sgd'"."""
    return " and ".join(f"{name} is {option!r}" for name, option in condition)
