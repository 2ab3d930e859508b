"""The built-in adapter: NumPy, Python's own, containers of arrays, and anything with state_dict and load_state_dict."""

from __future__ import annotations

import random
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np

from foretell.adapters import Array, Kind, Symbol, Tree
from foretell.adapters._trees import MAPPINGS, check_shape, inherit, is_array, leaves, put
from foretell.errors import CheckpointError

_NAMED_KINDS = "biufc"
"""Kinds of dtypes whose name says all; times and fixed-width texts need their dtype string."""
_TEXT_AND_TIME_KINDS = "MmUS"


@final
@dataclass(frozen=True, slots=True)
class Plain:
    """NumPy arrays and generators, random.Random, dicts and lists of arrays, anything with a state_dict."""

    name: Final = "numpy"

    def handles(self, value: object) -> bool:
        """Arrays, generators, dicts, lists, and whatever has state_dict and load_state_dict."""
        return _has_state_dict(value) or isinstance(value, _IN_PLACE) or type(value) in (*MAPPINGS, list)

    def state(self, value: Any) -> Tree:
        """The state by the object's own words; arrays and containers are their own state."""
        if _has_state_dict(value):
            return value.state_dict()
        if isinstance(value, np.random.Generator):
            return value.bit_generator.state
        if isinstance(value, np.random.BitGenerator):
            return value.state
        if isinstance(value, np.random.RandomState):
            return value.get_state(legacy=False)
        if isinstance(value, random.SystemRandom):
            raise CheckpointError("the system's random numbers have no state: use random.Random(seed)")
        if isinstance(value, random.Random):
            return value.getstate()
        if isinstance(value, np.ndarray) and not value.flags.writeable:
            raise CheckpointError("it is a read-only array, which cannot be restored in place: track a copy of it")
        return value

    def restore(self, value: Any, tree: Tree, kind: Kind) -> str | None:
        """Arrays and containers are filled in place; generators are left alone when a parent's state is inherited."""
        if _has_state_dict(value):
            now = value.state_dict()
            if kind == "resume":
                value.load_state_dict(put(tree, now, in_place=False))
            elif any(is_array(leaf) for leaf in leaves(tree)):
                value.load_state_dict(put(inherit(tree, now, "its state", weights_only=True), now, in_place=False))
        elif isinstance(value, np.ndarray):
            check_shape("the array", tree.shape, value.shape)
            np.copyto(value, tree, casting="same_kind" if kind == "inherit" else "equiv")
        elif type(value) in (*MAPPINGS, list):
            if type(tree) is not type(value):
                raise CheckpointError(f"it is a {type(value).__name__} here and a {type(tree).__name__} there")
            put(tree if kind == "resume" else inherit(tree, value, "it", weights_only=False), value, in_place=True)
        elif kind == "resume":
            _set_generator(value, tree)
        return None

    def rng_state(self) -> Tree:
        """Python's `random` and NumPy's global generator."""
        return {"random": random.getstate(), "numpy": np.random.get_state(legacy=False)}

    def set_rng_state(self, tree: Tree) -> str | None:
        """Put both global generators back."""
        random.setstate(tree["random"])
        np.random.set_state(tree["numpy"])
        return None

    def key(self, leaf: object) -> Hashable | None:
        """Memory address, strides and type of an array; the value of a NumPy scalar."""
        if isinstance(leaf, np.generic):
            _check_dtype(leaf.dtype)
            return "scalar", leaf.dtype.str, leaf.tobytes()
        if not isinstance(leaf, np.ndarray):
            return None
        if type(leaf) not in (np.ndarray, np.memmap):
            raise CheckpointError(f"a {type(leaf).__name__} is more than its numbers: convert it with np.asarray")
        _check_dtype(leaf.dtype)
        return leaf.__array_interface__["data"][0], leaf.shape, leaf.strides, leaf.dtype.str

    def pack(self, leaf: Any) -> Array | Symbol:
        """The elements in C order and little-endian; a NumPy scalar becomes a symbol."""
        dtype = leaf.dtype.newbyteorder("<")
        name = dtype.name if dtype.kind in _NAMED_KINDS else dtype.str
        if isinstance(leaf, np.generic):
            return Symbol(self.name, name, leaf.astype(dtype).tobytes().hex())
        data = np.frombuffer(leaf.astype(dtype).tobytes(order="C"), np.uint8)
        return Array(self.name, name, leaf.shape, data)

    def unpack(self, packed: Array | Symbol) -> Any:
        """A new writable array, or the NumPy scalar."""
        if isinstance(packed, Symbol):
            return np.frombuffer(bytes.fromhex(packed.text), np.dtype(packed.kind))[0]
        dtype = np.dtype(packed.dtype)
        array = np.empty(packed.shape, dtype)
        array.reshape(-1).view(np.uint8)[:] = packed.data
        return array

    def put(self, saved: Any, current: object, *, in_place: bool) -> Any:
        """Copies into the current array if shape and type agree and it can be written."""
        if not (in_place and isinstance(current, np.ndarray) and current.flags.writeable):
            return saved
        if current.shape != saved.shape or current.dtype != saved.dtype:
            return saved
        np.copyto(current, saved)
        return current


ADAPTER: Final = Plain()

_IN_PLACE = (np.ndarray, np.random.Generator, np.random.BitGenerator, np.random.RandomState, random.Random)


def _has_state_dict(value: object) -> bool:
    return callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None))


def _set_generator(value: Any, tree: Tree) -> None:
    if isinstance(value, np.random.Generator):
        value.bit_generator.state = tree
    elif isinstance(value, np.random.BitGenerator):
        value.state = tree
    elif isinstance(value, np.random.RandomState):
        value.set_state(tree)
    else:
        value.setstate(tree)


def _check_dtype(dtype: np.dtype[Any]) -> None:
    is_extended = dtype.itemsize > {"f": 8, "c": 16}.get(dtype.kind, dtype.itemsize)
    if is_extended or dtype.kind not in _NAMED_KINDS + _TEXT_AND_TIME_KINDS:
        raise CheckpointError(f"an array of dtype {dtype} cannot be written: convert it, as with .astype(np.float64)")
