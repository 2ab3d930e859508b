"""Keras models as data, and arrays back into them. Keras is reached only where the user imported it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from foretell.transfer import TransferError
from foretell.transfer._layers import (
    Array,
    Axis,
    Described,
    Layer,
    Slot,
    Tensor,
    View,
    axis,
    holds_positions,
    regrouped,
    weight_axes,
)  # fmt: skip

_ROLES = {
    **{"kernel": "weight", "gamma": "weight", "scale": "weight", "beta": "bias", "embeddings": "weight"},
    **{
        "moving_mean": "mean",
        "moving_variance": "variance",
        "depthwise_kernel": "weight",
        "pointwise_kernel": "weight",
    },
    **{"recurrent_kernel": "weight_hh"},
}
_NORMS = {"LayerNormalization": "norm", "RMSNormalization": "norm", "GroupNormalization": "norm"}
_CELLS = {"LSTMCell": ("lstm", 4), "GRUCell": ("gru", 3), "SimpleRNNCell": ("rnn", 1)}
_FLAT = ("Dropout", "Activation", "ReLU", "LeakyReLU", "ELU", "Softmax", "GaussianNoise", "BatchNormalization")
_GRU_TO_TORCH = (1, 0, 2)
"""Keras has the gates z, r, h; torch r, z, n."""


def is_model(value: object) -> bool:
    """Whether this is a Keras layer or model."""
    keras = sys.modules.get("keras")
    return keras is not None and hasattr(keras, "Layer") and isinstance(value, keras.Layer)


def variables(model: Any) -> dict[str, Any]:
    """All variables but the states of random generators, by the path of names that leads to them."""
    return {name: variable for _, _, own in walk(model, "") for name, variable in own.items()}


def to_numpy(variable: Any) -> Array:
    """A copy in host memory; bfloat16 becomes float32, without loss."""
    keras: Any = sys.modules["keras"]
    array = np.array(keras.ops.convert_to_numpy(variable), order="C")
    return array.astype(np.float32) if array.dtype.kind == "V" or array.dtype.name == "bfloat16" else array


def describe(model: Any) -> Described:
    """The layers of a model; `model.layers` has them in the order of the graph.

    Raises:
        TransferError: the model has not been built.
    """
    if not getattr(model, "built", True) or not model.weights:
        raise TransferError(f"The Keras model {model.name!r} has no weights yet: call it on one batch, or build it.")
    kept, holders, layers = {}, dict[int, str](), []
    turned = _flattened(model)
    trainable = {id(variable) for layer, _, _ in walk(model, "") for variable in layer._trainable_variables}
    for layer, path, own in walk(model, ""):
        for name, variable in own.items():
            holder = holders.setdefault(id(variable), name)
            number = "f" if "float" in str(variable.dtype) else "i"
            kept[name] = Tensor(name, tuple(variable.shape), id(variable) not in trainable, holder, number)
        layers += [one for one in _layers(layer, path, own, turned) if one.slots]
    return Described("keras", tuple(layers), kept)


def write(model: Any, arrays: Mapping[str, Array]) -> None:
    """Assign arrays to the model's variables."""
    live = variables(model)
    for name, array in arrays.items():
        live[name].assign(np.asarray(array).astype(np.float32) if array.dtype == np.float64 else array)


def run(model: Any, batch: Any) -> Array:
    """The model's output for a batch in inference mode; of several outputs, the first."""
    keras: Any = sys.modules["keras"]
    if isinstance(batch, Mapping):
        output = model({name: keras.ops.convert_to_tensor(value) for name, value in batch.items()}, training=False)
    elif isinstance(batch, tuple):
        output = model([keras.ops.convert_to_tensor(value) for value in batch], training=False)
    else:
        output = model(keras.ops.convert_to_tensor(batch), training=False)
    while isinstance(output, list | tuple | dict):
        output = next(iter(output.values() if isinstance(output, dict) else output))
    if hasattr(output, "detach"):
        output = output.detach()
    return np.asarray(keras.ops.convert_to_numpy(output))


def walk(layer: Any, path: str) -> Iterator[tuple[Any, str, dict[str, Any]]]:
    """Every layer with its path and its own variables; layers of one name are told apart by number."""
    own: dict[str, Any] = {}
    for variable in [*layer._trainable_variables, *layer._non_trainable_variables]:
        if "seed_generator" not in variable.path:
            own[f"{path}.{variable.name}" if path else variable.name] = variable
    yield layer, path, own
    taken: set[str] = set()
    for child in getattr(layer, "_layers", []):
        name, number = child.name, 1
        while name in taken:
            name, number = f"{child.name}~{number}", number + 1
        taken.add(name)
        yield from walk(child, f"{path}.{name}" if path else name)


def _flattened(model: Any) -> dict[int, tuple[int, ...]]:
    """Dense layers (by id) that read a flattened feature map, with its shape (height, width, channels)."""
    found = {}
    for layer, _, _ in walk(model, ""):
        if type(layer).__name__ != "Dense":
            continue
        above = _parent(layer)
        while above is not None and type(above).__name__ in _FLAT:
            above = _parent(above)
        if above is not None and type(above).__name__ in ("Flatten", "Reshape"):
            shape = tuple(above.input.shape)[1:]
            channels_last = getattr(above, "data_format", "channels_last") == "channels_last"
            if len(shape) > 1 and None not in shape and channels_last:
                found[id(layer)] = shape
    return found


def _parent(layer: Any) -> Any:
    """The layer before this one in a functional graph, if there is exactly one."""
    nodes = getattr(layer, "_inbound_nodes", [])
    parents = nodes[0].parent_nodes if len(nodes) >= 1 else []
    return parents[0].operation if len(parents) == 1 else None


def _unnamed(layer: Any) -> bool:
    """Whether Keras made the name up, from the class and a counter of the session."""
    snake = re.sub(r"(?<!^)(?=[A-Z][a-z])|(?<=[a-z0-9])(?=[A-Z])", "_", type(layer).__name__).lower()
    plain = layer.name.replace("_", "")
    return re.fullmatch(rf"{snake.replace('_', '')}\d*", plain) is not None


def _layers(layer: Any, path: str, own: Mapping[str, Any], turned: Mapping[int, tuple[int, ...]]) -> Iterator[Layer]:
    if not own:
        return
    kind, unnamed = type(layer).__name__, _unnamed(layer)
    names = {variable.name: name for name, variable in own.items()}
    shapes = {name: tuple(variable.shape) for name, variable in own.items()}
    if kind in _CELLS:
        yield _cell(layer, path, names, shapes)
        return
    if kind.startswith("SeparableConv"):
        depth, point = names["depthwise_kernel"], names["pointwise_kernel"]
        yield Layer(f"{path}.depthwise", "conv", (_depthwise(depth, shapes[depth]),), unnamed)
        slots = [_weight("conv", point, shapes[point], _backwards)]
        slots += [Slot("bias", (axis("out", *shapes[names["bias"]]),), names["bias"])] if "bias" in names else []
        yield Layer(f"{path}.pointwise", "conv", tuple(slots), unnamed)
        return
    if kind == "EinsumDense":
        yield _einsum(path, names, shapes, unnamed)
        return
    kind = _kind(kind)
    slots = []
    for name, full in names.items():
        role = _ROLES.get(name, name)
        if role == "weight" and type(layer).__name__.startswith("DepthwiseConv"):
            slots.append(_depthwise(full, shapes[full]))
        elif role == "weight" and kind in ("linear", "conv", "conv_transpose"):
            flat = turned.get(id(layer)) if kind == "linear" else None
            slots.append(_weight(kind, full, shapes[full], _backwards if flat is None else _unflatten(flat)))
        else:
            axes = weight_axes("norm" if role == "bias" else kind, shapes[full])
            slots.append(Slot(role, _rows_first(axes, full, kind), full))
    settings = _settings(layer) | ({"flatten": turned[id(layer)]} if id(layer) in turned else {})
    yield Layer(path, kind, tuple(slots), unnamed, settings)


def _kind(name: str) -> str:
    if name == "Dense":
        return "linear"
    if re.fullmatch(r"(Depthwise)?Conv[123]D", name):
        return "conv"
    if re.fullmatch(r"Conv[123]DTranspose", name):
        return "conv_transpose"
    if name == "BatchNormalization":
        return "batchnorm"
    return "embedding" if name == "Embedding" else _NORMS.get(name, "other")


def _rows_first(axes: tuple[Axis, ...], name: str, kind: str) -> tuple[Axis, ...]:
    if len(axes) < 2 or not (kind == "embedding" or holds_positions(name)):
        return axes
    return *axes[:-2], Axis("rows", axes[-2].parts), axes[-1]


def _settings(layer: Any) -> dict[str, Any]:
    found = {}
    for ours, theirs in (("eps", "epsilon"), ("stride", "strides"), ("padding", "padding"), ("groups", "groups")):
        if hasattr(layer, theirs):
            found[ours] = getattr(layer, theirs)
    return found


def _backwards(kernel: Array) -> Array:
    """(in, out) to (out, in), and (space ..., in, out) to (out, in, space ...); transposed kernels likewise."""
    places = kernel.ndim
    return np.transpose(kernel, (places - 1, places - 2, *range(places - 2)))


def _unflatten(shape: tuple[int, ...]) -> View:
    """The view of a dense kernel behind a Flatten: its inputs in the order (channels, height, width)."""

    def view(kernel: Array) -> Array:
        split = kernel.reshape(*shape, kernel.shape[-1])
        return np.moveaxis(split, (-1, -2), (0, 1)).reshape(kernel.shape[-1], -1)

    return view


def _weight(kind: str, name: str, shape: tuple[int, ...], view: View) -> Slot:
    common = view(np.empty(shape, np.bool_)).shape
    return Slot("weight", weight_axes(kind, common), name, view)


def _depthwise(name: str, shape: tuple[int, ...]) -> Slot:
    """(space ..., channels, multiplier) to (channels * multiplier, 1, space ...)."""
    space = shape[:-2]

    def view(kernel: Array) -> Array:
        moved = np.moveaxis(kernel, (-2, -1), (0, 1))
        return moved.reshape(-1, 1, *moved.shape[2:])

    return Slot("weight", weight_axes("conv", (shape[-2] * shape[-1], 1, *space), groups=2), name, view)


def _einsum(path: str, names: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]], unnamed: bool) -> Layer:
    """A projection of MultiHeadAttention: (in, heads, size), or (heads, size, out) on the way back."""
    kernel, bias = names["kernel"], names.get("bias")
    shape = shapes[kernel]
    if len(shape) != 3:
        slots = [Slot(name, weight_axes("other", shapes[full]), full) for name, full in names.items()]
        return Layer(path, "other", tuple(slots), unnamed)
    is_output = (bias is not None and len(shapes[bias]) == 1) or path.endswith("attention_output")
    if is_output:
        axes = (axis("out", shape[2]), axis("in", *shape[:2]))
        slots = [Slot("weight", axes, kernel, lambda native: native.reshape(-1, native.shape[-1]).T)]
    else:
        axes = (axis("out", *shape[1:]), axis("in", shape[0]))
        slots = [Slot("weight", axes, kernel, lambda native: native.reshape(native.shape[0], -1).T)]
    if bias is not None:
        slots.append(Slot("bias", axes[:1], bias, None if is_output else lambda native: native.reshape(-1)))
    return Layer(path, "linear", tuple(slots), unnamed)


def _cell(layer: Any, path: str, names: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> Layer:
    kind, gates = _CELLS[type(layer).__name__]
    turn: View = np.transpose
    view = regrouped(_GRU_TO_TORCH, turn) if kind == "gru" else turn
    slots = []
    for name, role in (("kernel", "weight_ih"), ("recurrent_kernel", "weight_hh")):
        shape = shapes[names[name]]
        slots.append(Slot(role, (axis("out", gates, shape[1] // gates), axis("in", shape[0])), names[name], view))
    if "bias" in names:
        shape, full = shapes[names["bias"]], names["bias"]
        order: View = regrouped(_GRU_TO_TORCH) if kind == "gru" else lambda native: native
        along = axis("out", gates, shape[-1] // gates)
        if len(shape) == 2:
            for row, role in enumerate(("bias_ih", "bias_hh")):
                slots.append(Slot(role, (along,), full, _row(row, order)))
        else:
            slots.append(Slot("bias", (along,), full, order if kind == "gru" else None))
    reset_after = {"reset_after": bool(layer.reset_after)} if kind == "gru" else {}
    return Layer(path, kind, tuple(slots), settings=reset_after)


def _row(row: int, order: View) -> View:
    return lambda native: order(native[row])
