"""The axes of a space for numerics: where the values of each dimension lie, and what makes it active."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from foretell.numerics.parzen import Array, Axes
from foretell.space import Choice, Space

MOST_PLACES = 64
"""A number with more values than this is treated as continuous."""


def axes_of(space: Space) -> Axes:
    """The axes of the unit cube of a space."""
    places, edges, unordered, needs = [], [], [], []
    index = {(dimension.condition, dimension.name): dimension for dimension in space.dimensions}
    for dimension in space.dimensions:
        parameter: Any = dimension.parameter
        unordered.append(isinstance(parameter, Choice) and not parameter.ordered)
        count = parameter.grid_size(None)
        few = count is not None and (count <= MOST_PLACES or isinstance(parameter, Choice))
        at = [parameter.to_unit(parameter.grid_value(i, None)) for i in range(count if few else 0)]
        places.append(np.array(at) if few else None)
        edges.append(_edges(at, isinstance(parameter, Choice)) if few else None)
        parents = [index[dimension.condition[:depth], name] for depth, (name, _) in enumerate(dimension.condition)]
        needs.append(
            tuple(
                (parent.index, parent.parameter.options.index(option))
                for parent, (_, option) in zip(parents, dimension.condition, strict=True)
                if isinstance(parent.parameter, Choice)
            )
        )
    return Axes(tuple(places), tuple(edges), tuple(unordered), tuple(needs))


def _edges(places: list[float], is_choice: bool) -> Array:
    """An option's place is the middle of its share; a number's borders lie half-way between its places."""
    edges = [0.0]
    for place, following in pairwise(places):
        edges.append(2.0 * place - edges[-1] if is_choice else 0.5 * (place + following))
    return np.array([*edges, 1.0])
