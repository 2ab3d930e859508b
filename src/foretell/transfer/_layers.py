"""A model as data: layers of a known kind, and their tensors in one common layout, whatever the framework.

The common layout is PyTorch's: (out, in, ...) for dense layers and convolutions, gates in the order of torch.nn. A
`Slot` is one array in that layout; its `view` says how it is cut out of the tensor that holds it. A view only
rearranges elements, so its inverse needs no code: send the positions through it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
View = Callable[[Array], Array]

WEIGHTED = ("linear", "conv", "conv_transpose", "matrix")
"""Kinds of layers that multiply by a matrix; "matrix" is one in a file, which may also be an embedding."""


@final
@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a slot.

    Args:
        role: "out" and "in" are widths of the network; "groups" is the input width within each group of a grouped
            convolution; "space" is a kernel, "rows" are tokens, positions or states, "other" is not known.
        parts: factors of the length, outermost first: (4, 32) for the gates of an LSTM, (heads, size) for attention.
    """

    role: str
    parts: tuple[int, ...]

    @property
    def length(self) -> int:
        """The product of the parts."""
        return math.prod(self.parts)


@final
@dataclass(frozen=True, slots=True)
class Slot:
    """One array of a layer, in the common layout.

    Args:
        role: "weight", "bias", "mean" ...
        axes: what each axis means.
        native: name of the tensor that holds it.
        view: how it is cut out of that tensor; None if it is that tensor.
    """

    role: str
    axes: tuple[Axis, ...]
    native: str
    view: View | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape in the common layout."""
        return tuple(axis.length for axis in self.axes)

    def read(self, natives: Mapping[str, Array]) -> Array:
        """The slot's elements, out of the tensor that holds them."""
        native = natives[self.native]
        return native if self.view is None else self.view(native)

    def write(self, native: Array, value: Array) -> None:
        """Put elements into the tensor that holds them, which is in C order."""
        if self.view is None:
            native[...] = value
            return
        positions = self.view(np.arange(native.size).reshape(native.shape))
        native.reshape(-1)[positions.reshape(-1)] = value.reshape(-1)


@final
@dataclass(frozen=True, slots=True)
class Layer:
    """One layer.

    Args:
        path: its name from the model's root, parts joined by dots.
        kind: what it is: "linear", "conv", "conv_transpose", "batchnorm", "norm", "embedding", "lstm", "gru", "rnn",
            "other"; from a file of tensors also "matrix".
        slots: its arrays.
        unnamed: whether the name was made up by the framework, from the class and a counter.
        settings: what else decides its output, as eps, stride or padding.
    """

    path: str
    kind: str
    slots: tuple[Slot, ...]
    unnamed: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def slot(self, role: str) -> Slot | None:
        """The slot of a role, or None."""
        return next((slot for slot in self.slots if slot.role == role), None)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each role; a counter of batches says nothing about a layer."""
        return {slot.role: slot.shape for slot in self.slots if slot.role != "counter"}

    def width(self, role: str) -> int | None:
        """Length of the weight's axis of this role, or None."""
        weight = self.slot("weight")
        axes = weight.axes if weight else ()
        return next((axis.length for axis in axes if axis.role == role), None)


@final
@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as its framework has it.

    Args:
        name: with the path of its layer.
        shape: as its framework has it.
        buffer: whether it is a statistic or a counter, and no weight.
        holder: the name under which the same memory was met first.
        number: "f" if it holds real numbers, else NumPy's letter for its kind.
    """

    name: str
    shape: tuple[int, ...]
    buffer: bool
    holder: str
    number: str = "f"

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@final
@dataclass(frozen=True, slots=True)
class Described:
    """A model as data. `framework` is "torch", "keras" or "file"; `layers` stand in the order they were built."""

    framework: str
    layers: tuple[Layer, ...]
    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()


def axis(role: str, *parts: int) -> Axis:
    """An axis from its role and the factors of its length."""
    return Axis(role, tuple(int(part) for part in parts))


def weight_axes(kind: str, shape: tuple[int, ...], groups: int = 1) -> tuple[Axis, ...]:
    """The axes of a weight in the common layout, by the kind of its layer."""
    if kind in ("linear", "matrix") and len(shape) == 2:
        return axis("out", shape[0]), axis("in", shape[1])
    if kind in ("conv", "conv_transpose"):
        inside = "in" if groups == 1 else "groups"
        first, second = ("out", inside) if kind == "conv" else ("in", "out" if groups == 1 else "groups")
        return axis(first, shape[0]), axis(second, shape[1]), *(axis("space", length) for length in shape[2:])
    if kind == "embedding" and len(shape) == 2:
        return axis("rows", shape[0]), axis("out", shape[1])
    if kind in ("batchnorm", "norm", "linear"):
        return tuple(axis("out", length) for length in shape)
    return tuple(axis("out" if place == len(shape) - 1 else "other", length) for place, length in enumerate(shape))


def holds_positions(name: str) -> bool:
    """Whether a name is that of a table of positions."""
    last = name.lower().split(".")[-2:]
    known = ("wpe", "pos", "pos_emb", "pos_embed", "pos_embedding", "embed_positions", "position_ids_table")
    return any(part in known or part.startswith(("position_emb", "positional_emb", "pos_emb")) for part in last)


def thirds(part: int) -> View:
    """The view of the query (0), key (1) or value (2) in a tensor that holds all three, one after another."""
    return lambda fused: fused[len(fused) // 3 * part : len(fused) // 3 * (part + 1)]


def regrouped(gates: tuple[int, ...], view: View | None = None) -> View:
    """The view that puts the gates along axis 0 into another order, after another view."""

    def reorder(native: Array) -> Array:
        array = native if view is None else view(native)
        split = array.reshape(len(gates), -1, *array.shape[1:])
        return split[list(gates)].reshape(array.shape)

    return reorder
