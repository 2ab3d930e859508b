"""Torch modules as data, and arrays back into them. Torch is reached only where the user imported it."""

from __future__ import annotations

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
    thirds,
    weight_axes,
)  # fmt: skip

FUSED = {"qkv", "Wqkv", "c_attn", "in_proj", "qkv_proj", "query_key_value"}
"""Names of linear layers that compute query, key and value at once."""
_QKV = {"q", "k", "v", "q_proj", "k_proj", "v_proj", "query", "key", "value", "q_lin", "k_lin", "v_lin"}
_OUT = {"out_proj", "o_proj", "c_proj", "proj", "dense", "out_lin", "to_out"}
_HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head")
_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}
_NORM_ROLES = {"running_mean": "mean", "running_var": "variance", "num_batches_tracked": "counter"}


def is_module(value: object) -> bool:
    """Whether this is a torch.nn.Module."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def is_tensor(value: object) -> bool:
    """Whether this is a torch.Tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def to_numpy(tensor: Any) -> Array:
    """A copy in host memory; bfloat16 and 8-bit floats become float32, without loss."""
    torch: Any = sys.modules["torch"]
    plain = tensor.detach()
    if plain.is_floating_point() and plain.dtype not in (torch.float16, torch.float32, torch.float64):
        plain = plain.float()
    return np.array(plain.cpu().resolve_conj().resolve_neg().numpy(), order="C")


def tensors(model: Any) -> dict[str, Any]:
    """The named tensors of a module that can be read, those that share memory under each of their names.

    Raises:
        TransferError: some have no values yet.
    """
    torch: Any = sys.modules["torch"]
    found = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not isinstance(tensor, torch.Tensor):
            continue
        if torch.nn.parameter.is_lazy(tensor):
            raise TransferError(f"{name} has no shape yet: run one batch through the model first.")
        if tensor.is_meta:
            raise TransferError(f"{name} is on the meta device and has no values: model.to_empty(device='cpu') first.")
        if tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_nested:
            found[name] = tensor
    return found


def describe(model: Any) -> Described:
    """The layers of a module, in the order they were registered."""
    live = tensors(model)
    parameters = {id(parameter) for parameter in model.parameters()}
    holders: dict[tuple[Any, ...], str] = {}
    kept = {}
    for name, tensor in live.items():
        memory = (str(tensor.device), tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        holder = holders.setdefault(memory, name) if tensor.numel() else name
        number = "f" if tensor.is_floating_point() else "c" if tensor.is_complex() else "i"
        kept[name] = Tensor(name, tuple(tensor.shape), id(tensor) not in parameters, holder, number)
    layers = tuple(
        layer
        for path, module in model.named_modules(remove_duplicate=False)
        for layer in _layers(model, path, module, kept)
        if layer.slots
    )
    notes = () if len(kept) == len(model.state_dict()) else ("Values that are no plain tensors were left out.",)
    return Described("torch", layers, kept, notes)


def write(model: Any, arrays: Mapping[str, Array]) -> None:
    """Copy arrays into the module's tensors, in place, so that what is tied stays tied."""
    torch: Any = sys.modules["torch"]
    live = tensors(model)
    with torch.no_grad():
        for name, array in arrays.items():
            live[name].copy_(torch.from_numpy(np.array(array, order="C")).reshape(live[name].shape))


def run(model: Any, batch: Any) -> Array:
    """The model's output for a batch in evaluation mode; a model with several outputs gives its logits, or its first.

    Args:
        model: the module; its modes are as before afterwards.
        batch: an array or tensor; a tuple of them; or a dict of them by argument.
    """
    torch: Any = sys.modules["torch"]
    like = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), torch.empty(0))

    def tensor(value: Any) -> Any:
        given = value if isinstance(value, torch.Tensor) else torch.as_tensor(np.asarray(value))
        return given.to(like.device, like.dtype if given.is_floating_point() else given.dtype)

    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            if isinstance(batch, Mapping):
                output = model(**{name: tensor(value) for name, value in batch.items()})
            else:
                output = model(*map(tensor, batch if isinstance(batch, tuple) else (batch,)))
    finally:
        for module, mode in modes.items():
            module.training = mode
    return to_numpy(_first(output))


def _first(output: Any) -> Any:
    if is_tensor(output):
        return output
    for name in ("logits", "last_hidden_state"):
        if is_tensor(getattr(output, name, None)):
            return getattr(output, name)
    values = list(output.values()) if isinstance(output, Mapping) else list(output)
    return _first(values[0])


def _layers(model: Any, path: str, module: Any, kept: Mapping[str, Tensor]) -> Iterator[Layer]:
    """The layers of which one module consists, without its children."""
    nn: Any = sys.modules["torch"].nn
    own = [*module._parameters, *module._buffers]
    names = {name: f"{path}.{name}" if path else name for name in own}
    names = {name: full for name, full in names.items() if full in kept}
    if isinstance(module, nn.RNNBase):
        yield from _recurrent(path, module, names, kept)
    elif isinstance(module, nn.MultiheadAttention):
        yield from _attention(path, module, names, kept)
    elif isinstance(module, nn.Linear) or (type(module).__name__ == "Conv1D" and "weight" in names):
        yield from _linear(model, path, not isinstance(module, nn.Linear), names, kept)
    else:
        kind, groups = _kind(module, nn)
        slots = []
        for name, full in names.items():
            is_norm = kind in ("batchnorm", "norm")
            role = _NORM_ROLES.get(name, {"gamma": "weight", "beta": "bias"}.get(name, name)) if is_norm else name
            shape = kept[full].shape
            axes = weight_axes(kind, shape, groups) if name == "weight" or kind not in ("conv", "conv_transpose") else (
                *(axis("out", length) for length in shape),)  # fmt: skip
            slots.append(Slot(role, _rows_first(axes, full), full))
        yield Layer(path, kind, tuple(slots), settings=_settings(module))


def _rows_first(axes: tuple[Axis, ...], name: str) -> tuple[Axis, ...]:
    """In a table of positions, the last axis but one counts them."""
    if len(axes) < 2 or not holds_positions(name):
        return axes
    return *axes[:-2], Axis("rows", axes[-2].parts), axes[-1]


def _kind(module: Any, nn: Any) -> tuple[str, int]:
    if isinstance(module, nn.modules.conv._ConvNd):
        return ("conv_transpose" if module.transposed else "conv"), module.groups
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return "batchnorm", 1
    if isinstance(module, nn.LayerNorm | nn.GroupNorm) or type(module).__name__.endswith(("RMSNorm", "LayerNorm")):
        return "norm", 1
    return ("embedding" if isinstance(module, nn.Embedding | nn.EmbeddingBag) else "other"), 1


def _settings(module: Any) -> dict[str, Any]:
    found = {name: getattr(module, name) for name in ("eps", "stride", "groups", "dilation") if hasattr(module, name)}
    return found | ({"padding": module.padding} if hasattr(module, "padding") else {})


def _linear(
    model: Any, path: str, is_turned: bool, names: Mapping[str, str], kept: Mapping[str, Tensor]
) -> Iterator[Layer]:
    last = path.rpartition(".")[2]
    turn: View | None = np.transpose if is_turned else None
    shape = kept[names["weight"]].shape
    out, inside = reversed(shape) if is_turned else shape
    if last in FUSED and out == 3 * inside:
        for part, letter in enumerate("qkv"):
            yield _third(path, letter, part, turn, names, inside, _head_count(model, path))
        return
    heads = _head_count(model, path) if last in _QKV | _OUT else None
    out_parts = (heads, out // heads) if last in _QKV and heads and out % heads == 0 else (out,)
    in_parts = (heads, inside // heads) if last in _OUT and heads and inside % heads == 0 else (inside,)
    slots = [Slot("weight", (axis("out", *out_parts), axis("in", *in_parts)), names["weight"], turn)]
    if "bias" in names:
        slots.append(Slot("bias", (axis("out", *out_parts),), names["bias"]))
    yield Layer(path, "linear", tuple(slots))


def _third(
    path: str, letter: str, part: int, turn: View | None, names: Mapping[str, str], width: int, heads: int | None
) -> Layer:
    third = thirds(part)
    view: View = third if turn is None else lambda native: third(np.transpose(native))
    parts = (heads, width // heads) if heads and width % heads == 0 else (width,)
    slots = [Slot("weight", (axis("out", *parts), axis("in", width)), names["weight"], view)]
    if "bias" in names:
        slots.append(Slot("bias", (axis("out", *parts),), names["bias"], third))
    return Layer(f"{path}.{letter}", "linear", tuple(slots))


def _head_count(model: Any, path: str) -> int | None:
    """The number of attention heads, of the nearest module above that says it, or whose child does."""
    parts = path.split(".")[:-1]
    for depth in (len(parts), len(parts) - 1):
        if depth < 0:
            break
        above = model.get_submodule(".".join(parts[:depth]))
        for module in (above, *above.children()):
            for name in _HEADS:
                if isinstance(getattr(module, name, None), int):
                    return int(getattr(module, name))
    return None


def _attention(path: str, module: Any, names: Mapping[str, str], kept: Mapping[str, Tensor]) -> Iterator[Layer]:
    """Query, key and value as three linear layers; the module's out_proj is a child of its own."""
    parts = (module.num_heads, module.embed_dim // module.num_heads)
    prefix = f"{path}." if path else ""
    for part, letter in enumerate("qkv"):
        fused, third = "in_proj_weight" in names, thirds(part)
        name = names["in_proj_weight"] if fused else names[f"{letter}_proj_weight"]
        axes = (axis("out", *parts), axis("in", kept[name].shape[1]))
        slots = [Slot("weight", axes, name, third if fused else None)]
        if "in_proj_bias" in names:
            slots.append(Slot("bias", (axis("out", *parts),), names["in_proj_bias"], third))
        if f"bias_{letter}" in names:
            full = names[f"bias_{letter}"]
            slots.append(Slot("extra", weight_axes("other", kept[full].shape), full))
        yield Layer(f"{prefix}{letter}", "linear", tuple(slots))


def _recurrent(path: str, module: Any, names: Mapping[str, str], kept: Mapping[str, Tensor]) -> Iterator[Layer]:
    """Each layer and each direction of a recurrent module as a cell of its own."""
    gates = _GATES[module.mode]
    kind = module.mode.lower() if gates > 1 else "rnn"
    prefix = f"{path}." if path else ""
    for number in range(module.num_layers):
        for suffix in (f"_l{number}", f"_l{number}_reverse")[: 1 + module.bidirectional]:
            slots = []
            for role in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"):
                full = names.get(role + suffix)
                if full is None:
                    continue
                shape = kept[full].shape
                axes = (axis("out", gates, shape[0] // gates), *(axis("in", length) for length in shape[1:]))
                if role == "weight_hr":
                    axes = weight_axes("linear", shape)
                slots.append(Slot(role, axes, full))
            yield Layer(prefix + suffix.removeprefix("_"), kind, tuple(slots))
