"""What every adapter does with trees: freeze and thaw them, put one into another, take the weights of a parent."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterator
from typing import Any, TypeGuard

import numpy as np

from foretell.adapters import Array, Symbol, Tree, active
from foretell.errors import CheckpointError

SCALARS: tuple[type, ...] = (type(None), bool, int, float, str, bytes)
SEQUENCES: tuple[type, ...] = (list, tuple)
MAPPINGS: tuple[type, ...] = (dict, OrderedDict, Counter)

_DEEPEST = 100
"""Far more than any state_dict, and far less than Python's own limit on the way back."""

Memo = dict[Hashable, tuple[object, Array | Symbol | None]]
"""Arrays seen so far, by memory; it keeps the live ones alive, or their memory could be used again for another."""


def freeze(tree: Tree, path: str, memo: Memo, *, copy: bool = True) -> Tree:
    """A copy of a live tree with all its arrays in host memory; with `copy=False` only a check that it could be made.

    Args:
        tree: a live tree.
        path: what the tree is called in messages, as "optimizer".
        memo: shared by the trees of one snapshot, so that memory they share is copied once.
        copy: False leaves None in place of arrays.

    Raises:
        CheckpointError: a leaf is neither array nor JSON; the message names its path.
    """
    return _freeze(tree, path, memo, copy, 0)


def _freeze(tree: Tree, path: str, memo: Memo, copy: bool, depth: int) -> Tree:
    kind = type(tree)
    if depth > _DEEPEST:
        raise CheckpointError(f"{path} contains itself, or is nested more than {_DEEPEST} levels deep")
    if kind in SCALARS:
        return tree
    if kind in SEQUENCES:
        return kind(_freeze(value, f"{path}[{index}]", memo, copy, depth + 1) for index, value in enumerate(tree))
    if kind in MAPPINGS:
        for key in tree:
            _check_key(key, path)
        return kind({key: _freeze(value, f"{path}[{key!r}]", memo, copy, depth + 1) for key, value in tree.items()})
    return _freeze_leaf(tree, path, memo, copy)


def _freeze_leaf(leaf: Any, path: str, memo: Memo, copy: bool) -> Array | Symbol | None:
    for adapter in active():
        try:
            key = adapter.key(leaf)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
        if key is not None:
            if (adapter.name, key) not in memo:
                memo[adapter.name, key] = (leaf, adapter.pack(leaf) if copy else None)
            return memo[adapter.name, key][1]
    kind = type(leaf)
    raise CheckpointError(f"{path} is a {kind.__module__}.{kind.__qualname__}, which is neither an array nor JSON")


def _check_key(key: object, path: str) -> None:
    if type(key) is tuple:
        for part in key:
            _check_key(part, path)
    elif type(key) not in SCALARS:
        raise CheckpointError(f"{path} has the key {key!r} of type {type(key).__qualname__}, which is not JSON")


def thaw(tree: Tree, memo: dict[int, Any]) -> Tree:
    """A live tree in host memory that shares nothing with the frozen one; leaves that were tied are one object again.

    Raises:
        CheckpointError: it holds arrays of a framework that is not imported.
    """
    if isinstance(tree, Array | Symbol):
        if id(tree) not in memo:
            adapter = next((adapter for adapter in active() if adapter.name == tree.source), None)
            if adapter is None:
                raise CheckpointError(
                    f"The checkpoint holds arrays of {tree.source}, which is not imported: "
                    f"write `import {tree.source}` before the objects are tracked or restored."
                )
            memo[id(tree)] = adapter.unpack(tree)
        return memo[id(tree)]
    if type(tree) in SEQUENCES:
        return type(tree)(thaw(value, memo) for value in tree)
    if type(tree) in MAPPINGS:
        return type(tree)({key: thaw(value, memo) for key, value in tree.items()})
    return tree


def leaves(tree: Tree) -> Iterator[Any]:
    """Everything in a tree that is no container."""
    if type(tree) in SEQUENCES:
        for value in tree:
            yield from leaves(value)
    elif type(tree) in MAPPINGS:
        for value in tree.values():
            yield from leaves(value)
    else:
        yield tree


def put(saved: Tree, current: Tree, *, in_place: bool) -> Tree:
    """The saved tree, its arrays moved to where those of the current tree live.

    Args:
        saved: a live tree that nobody else holds.
        current: what the object holds now; it may differ in structure.
        in_place: put it into the containers and arrays of `current`, wherever these agree.
    """
    kind = type(saved)
    alike = kind is type(current)
    if kind in MAPPINGS:
        now = current if alike else {}
        filled = {key: put(value, now.get(key), in_place=in_place) for key, value in saved.items()}
        if not (alike and in_place):
            return kind(filled)
        current.clear()
        for key, value in filled.items():
            current[key] = value
        return current
    if kind in SEQUENCES:
        now = current if alike else ()
        padded = (*now[: len(saved)], *[None] * (len(saved) - len(now)))
        values = [put(value, held, in_place=in_place) for value, held in zip(saved, padded, strict=True)]
        if not (alike and in_place and kind is list):
            return kind(values)
        current[:] = values
        return current
    for adapter in active():
        if is_array(saved) and adapter.key(saved) is not None:
            return adapter.put(saved, current, in_place=in_place)
    return saved


def inherit(saved: Tree, current: Tree, path: str, *, weights_only: bool) -> Tree:
    """The current tree with the arrays of a parent's: scalars and everything that the parent lacks stay.

    Where the current tree is still empty (or None) and the parent's holds arrays alone, as the moments of an optimiser
    before its first step, the parent's are taken.

    Args:
        saved: the parent's live tree.
        current: what the object holds now; it is not changed.
        path: what the tree is called in messages.
        weights_only: take floating point and complex arrays only; whole numbers may be positions or random states.

    Raises:
        CheckpointError: a shape does not fit.
    """
    is_empty = current is None or (type(current) is type(saved) in SEQUENCES and not current)
    if is_empty and _only_arrays(saved, weights_only):
        return saved
    if is_array(saved) and is_array(current) and _is_wanted(saved, weights_only):
        check_shape(path, saved.shape, current.shape)
        return saved
    if type(saved) in MAPPINGS and type(current) is type(saved):
        merged = {
            key: inherit(saved[key], value, f"{path}[{key!r}]", weights_only=weights_only) if key in saved else value
            for key, value in current.items()
        }
        new = {key: value for key, value in saved.items() if key not in current and _only_arrays(value, weights_only)}
        return type(current)(merged | new)
    if type(saved) in SEQUENCES and type(current) is type(saved) and len(current) == len(saved):
        pairs = enumerate(zip(saved, current, strict=True))
        return type(current)(inherit(a, b, f"{path}[{i}]", weights_only=weights_only) for i, (a, b) in pairs)
    return current


def check_shape(path: str, saved: tuple[int, ...], current: tuple[int, ...]) -> None:
    """Raise CheckpointError, with the cure, if two shapes differ."""
    if tuple(saved) != tuple(current):
        raise CheckpointError(
            f"{path} has shape {tuple(current)} here and {tuple(saved)} in the checkpoint: build the object with the "
            f"parameters the checkpoint was made with, or do not track it."
        )


def is_array(leaf: object) -> TypeGuard[Any]:
    """Whether a live leaf is an array of some framework, scalars with an axis-less shape like np.float64 excepted."""
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype") and not isinstance(leaf, np.generic)


def _is_wanted(leaf: Any, weights_only: bool) -> bool:
    return not weights_only or "float" in str(leaf.dtype) or "complex" in str(leaf.dtype)


def _only_arrays(tree: Tree, weights_only: bool) -> bool:
    found = list(leaves(tree))
    return bool(found) and all(is_array(leaf) and _is_wanted(leaf, weights_only) for leaf in found)
