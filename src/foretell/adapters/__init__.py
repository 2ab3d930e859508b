"""How the state of the user's objects is reached, whatever framework made them.

An adapter knows one framework: which objects it handles, how to read their state, how to put it back, and how to turn
one of its arrays into plain bytes and back. A built-in one serves NumPy and Python; each other is the `ADAPTER` of
`integrations/<framework>.py`, and is loaded only if `<framework>` is in `sys.modules` already:
foretell imports no framework that the user did not.

A `Tree` is what an object's state is made of: dicts, lists, tuples and JSON scalars (also bytes, infinities and
integers of any size), with arrays at its leaves. It is *live* when an adapter gives it (the leaves are the framework's
own and may share memory with the object) and *frozen* inside a snapshot (the leaves are `Array` and `Symbol`, copied to
host memory).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, cast, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Adapter", "Array", "Kind", "Symbol", "Tree", "active", "find"]

Tree: TypeAlias = Any
"""A nested state; Python's types cannot say "a dict of these" without getting in the way of every use."""

Kind = Literal["resume", "inherit"]
"""`resume` restores everything; `inherit` arrays and optimiser moments, never rates, schedule position or RNG."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Array:
    """An array of any framework, copied to host memory; leaves that shared memory share one `Array`.

    Args:
        source: name of the adapter that made it and can unmake it.
        dtype: the framework's name of the element type, as "float32" or "bfloat16".
        shape: lengths of the axes; () for a scalar.
        data: (nbytes,) uint8, read-only: the elements in C order, little-endian.
    """

    source: str
    dtype: str
    shape: tuple[int, ...]
    data: NDArray[np.uint8]


@final
@dataclass(frozen=True, slots=True)
class Symbol:
    """A small value that JSON lacks and a short text can carry, such as a device, an element type or a NumPy scalar.

    Args:
        source: name of the adapter that made it and can unmake it.
        kind: what it is, in the adapter's words.
        text: the value.
    """

    source: str
    kind: str
    text: str


class Adapter(Protocol):
    """One framework: the state of its objects, its random numbers, its arrays."""

    @property
    def name(self) -> str:
        """The framework's import name; stored with every leaf."""

    def handles(self, value: object) -> bool:
        """Whether `state` and `restore` take this object."""

    def state(self, value: Any) -> Tree:
        """The object's live state; raises CheckpointError with the reason if it has none that can be kept."""

    def restore(self, value: Any, tree: Tree, kind: Kind) -> str | None:
        """Put a live state back; returns in words what was left alone and might be missed, or None.

        Raises:
            CheckpointError: a shape does not fit; the message names the array and both shapes.
        """

    def rng_state(self) -> Tree | None:
        """The live state of the framework's global random numbers, or None if it has none."""

    def set_rng_state(self, tree: Tree) -> str | None:
        """Put the global random numbers back; returns in words what could not be, or None."""

    def key(self, leaf: object) -> Hashable | None:
        """None if the leaf is not of this framework; otherwise equal keys mean the same memory, read the same way.

        Raises:
            CheckpointError: it is of this framework, but cannot be copied; the message is the reason.
        """

    def pack(self, leaf: Any) -> Array | Symbol:
        """A copy of a leaf that has a key."""

    def unpack(self, packed: Array | Symbol) -> Any:
        """A fresh leaf in host memory, equal bit for bit to the one that was packed."""

    def put(self, saved: Any, current: object, *, in_place: bool) -> Any:
        """`saved` moved to where `current` lives; if `in_place` and both agree, `current` itself, overwritten."""


_FRAMEWORKS = ("keras", "torch")  # whose integrations expose an ADAPTER; the others wrap what these two hold


def active() -> tuple[Adapter, ...]:
    """The adapters of all imported frameworks; the built-in one, which takes anything with a state_dict, comes last."""
    loaded = [name for name in _FRAMEWORKS if sys.modules.get(name) is not None]
    modules = [importlib.import_module(f"foretell.integrations.{name}") for name in loaded]
    plain = importlib.import_module("foretell.adapters._plain")
    return tuple(cast("Adapter", module.ADAPTER) for module in (*modules, plain) if hasattr(module, "ADAPTER"))


def find(value: object) -> Adapter | None:
    """The first active adapter that handles this object, or None."""
    return next((adapter for adapter in active() if adapter.handles(value)), None)
