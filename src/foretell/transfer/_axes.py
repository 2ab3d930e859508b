"""How a slot of the source is made to fit one of the target, axis by axis; or why it cannot be."""

from __future__ import annotations

import math

from foretell.transfer import TransferError
from foretell.transfer._layers import Layer, Slot, holds_positions
from foretell.transfer._operation import Conflict, Scene
from foretell.transfer._resize import Step


def steps(layer: Layer, slot: Slot, other: Slot, scene: Scene) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """The steps from one slot to the other, and what they do in words; none if the shapes agree.

    Raises:
        Conflict: an axis does not fit, or may not be made to.
    """
    if tuple(n for n in slot.shape if n != 1) == tuple(n for n in other.shape if n != 1):
        labelled = _labels(layer, slot, scene, other)
        if labelled is None:
            plain = layer.path in scene.heads and slot.axes[0].role == "out" and scene.policy.classes is None
            return (), ("as many outputs: taken for the same classes, else give classes=",) if plain else ()
    if len(slot.axes) != len(other.axes):
        raise Conflict(f"{len(other.axes)} axes there, {len(slot.axes)} here")
    labelled = _labels(layer, slot, scene, other)
    found, words = [], []
    for place, (mine, theirs) in enumerate(zip(slot.axes, other.axes, strict=True)):
        if labelled and labelled[0].place == place:
            found.append(labelled[0])
            words.append(labelled[1])
        elif mine.length != theirs.length:
            step, why = _step(layer, slot, other, place, scene)
            found.append(step)
            words.append(why)
    found.sort(key=lambda step: step.how == "rows")
    return tuple(found), tuple(words)


def _labels(layer: Layer, slot: Slot, scene: Scene, other: Slot) -> tuple[Step, str] | None:
    """The step that moves rows by label, where this slot has one row a class or a token."""
    policy = scene.policy
    if not slot.axes or not other.axes:
        return None
    mine, theirs = slot.axes[0], other.axes[0]
    is_table = layer.kind == "embedding" and not holds_positions(layer.path)
    is_head = layer.path in scene.heads and mine.role == "out"
    for labels, name, fits in ((policy.vocab, "vocab", is_table or is_head), (policy.classes, "classes", is_head)):
        if labels is None or not fits or (mine.length, theirs.length) != (len(labels[1]), len(labels[0])):
            continue
        place = {label: row for row, label in enumerate(labels[0])}
        rows = tuple(place.get(label, -1) for label in labels[1])
        known = sum(row >= 0 for row in rows)
        step = Step(0, "rows", theirs.parts, mine.parts, rows=rows, fill="mean" if name == "vocab" else "own")
        rest = "the mean" if name == "vocab" else "as initialised"
        return step, f"{known} of {len(rows)} rows by {name}, the others {rest}"
    return None


def _step(layer: Layer, slot: Slot, other: Slot, place: int, scene: Scene) -> tuple[Step, str]:
    """The step for an axis whose lengths differ."""
    mine, theirs = slot.axes[place], other.axes[place]
    before, after = theirs.length, mine.length
    sizes = f"{before} there, {after} here"
    if mine.role == "out" and place == 0 and layer.path in scene.heads:
        raise Conflict(f"head: {sizes}", "classes=(source_names, target_names)", "initialised")
    if mine.role == "rows":
        if not holds_positions(slot.native):
            raise Conflict(f"table of {sizes}", "vocab=(source_tokens, target_tokens)")
        return _position_step(layer, place, before, after, scene)
    if mine.role == "space":
        raise Conflict(f"kernel of {sizes}")
    if mine.role == "in" and layer.path == scene.reader and slot.role != "weight_hh":
        if layer.kind != "conv":
            raise Conflict(f"it reads the data: {sizes}, and features cannot be matched by number")
        how = "summed" if after == 1 else "repeated and rescaled"
        return Step(place, "channels", theirs.parts, mine.parts), f"input channels: {sizes}, {how}"
    if mine.role in ("groups",) or (mine.role == "other" and theirs.role == "other"):
        raise Conflict(f"axis {place}: {sizes}")
    if not scene.policy.resize:
        raise Conflict(f"axis {place}: {sizes}", "resize=True")
    parts = _factors(layer, place, scene, theirs.parts, mine.parts)
    step = Step(place, "take", *parts, is_input=mine.role == "in")
    return step, f"width of axis {place}: {sizes}" + _uneven(layer, before, after)


def _factors(
    layer: Layer, place: int, scene: Scene, theirs: tuple[int, ...], mine: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The factors of a width; behind a feature map, its channels and its places apart."""
    if layer.kind != "linear" or place != 1 or len(mine) > 1:
        return (theirs, mine) if len(theirs) == len(mine) else ((math.prod(theirs),), (math.prod(mine),))
    before, after = math.prod(theirs), math.prod(mine)
    one, two = scene.channels.get(layer.path, (0, 0))
    if not one or not two or before % one or after % two or (before == one and after == two):
        return theirs, mine
    if before // one != after // two:
        raise Conflict(f"a flattened map of {before // one} places there, {after // two} here")
    return (one, before // one), (two, after // two)


def _uneven(layer: Layer, before: int, after: int) -> str:
    if layer.kind == "norm" and after > before and after % before:
        return "; replicas are uneven, so a layer norm changes its mean: the function is not kept"
    return ""


def _position_step(layer: Layer, place: int, before: int, after: int, scene: Scene) -> tuple[Step, str]:
    grid = scene.policy.grid
    if grid is not None:
        kept, wanted = before - math.prod(grid[0]), after - math.prod(grid[1])
        if min(kept, wanted) < 0:
            raise TransferError(
                f"grid={grid} has more places than the tables of positions of {layer.path!r}, which have {before} and "
                f"{after} rows: give (rows, columns) of both, without class tokens."
            )
        return Step(place, "positions", *grid, prefix=(kept, wanted)), f"positions on a grid {grid[0]} to {grid[1]}"
    if layer.kind != "embedding":
        for prefix in range(3):
            one, two = math.isqrt(before - prefix), math.isqrt(after - prefix)
            if one * one == before - prefix and two * two == after - prefix:
                words = f"positions on a grid, taken for square: {one}×{one} to {two}×{two}, {prefix} tokens before it"
                return Step(place, "positions", (one, one), (two, two), prefix=(prefix, prefix)), words
    if after < before:
        return Step(place, "cut", (before,), (after,)), f"the first {after} of {before} positions"
    return Step(place, "positions", (before,), (after,)), f"positions on a line: {before} to {after}"


def head_factor(layer: Layer, slot: Slot, other: Slot) -> float:
    """Queries of another size: their products with keys are divided by another root."""
    mine, theirs = slot.axes[0].parts if slot.axes else (), other.axes[0].parts if other.axes else ()
    is_query = layer.path.rpartition(".")[2] in ("q", "query", "q_proj", "q_lin") and len(mine) == len(theirs) == 2
    return math.sqrt(theirs[1] / mine[1]) if is_query else 1.0
