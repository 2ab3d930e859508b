"""Sources that are no live model: dicts of arrays, safetensors, torch's own files, checkpoints and trials."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import safetensors

from foretell.checkpoint import Checkpoint, load_tensors
from foretell.errors import did_you_mean
from foretell.transfer import TransferError, _keras, _torch, _trials
from foretell.transfer._layers import Array, Axis, Described, Layer, Slot, Tensor, axis, thirds, weight_axes
from foretell.transfer._names import normalised
from foretell.trial import Trial

_DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"},
    **{"BOOL": "?", "U16": "<u2", "U32": "<u4", "U64": "<u8"},
}
_TORCH_FILES = {".pt", ".pth", ".bin", ".ckpt"}
_WRAPPED = ("state_dict", "model_state_dict", "model", "module")
_AVERAGED = ("state_dict_ema", "model_ema", "ema", "ema_state_dict")
_NORM_ROLES = {"gamma": "weight", "beta": "bias", "running_mean": "mean", "running_var": "variance"} | {
    "num_batches_tracked": "counter"
}


@final
@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Weights to start from, and what is known of them.

    Args:
        name: where they are from.
        kind: "trial", "checkpoint", "file", "folder", "model" or "arrays".
        weights: what `map_weights` reads: the model itself, or arrays by name.
        params: the configuration of the trial.
        value: of the trial, in the units of its study; None if unknown.
        step: epochs behind the weights; None if unknown.
    """

    name: str
    kind: str
    weights: Any = field(repr=False)
    params: Mapping[str, Any] = field(default_factory=dict)
    value: float | None = None
    step: int | None = None

    @property
    def arrays(self) -> dict[str, Array]:
        """Its tensors as NumPy arrays by name; of a Keras model by the paths of its variables."""
        if _keras.is_model(self.weights):
            return {name: _keras.to_numpy(variable) for name, variable in _keras.variables(self.weights).items()}
        if _torch.is_module(self.weights):
            return {name: _torch.to_numpy(tensor) for name, tensor in _torch.tensors(self.weights).items()}
        return dict(self.weights)


def arrays(source: Any) -> dict[str, Array] | None:
    """The tensors of a source that is no live model, by name; None if it is none of the kinds known here.

    Raises:
        TransferError: it cannot be read, or not without running code from it, or it says two things.
    """
    if _trials.is_trial(source):
        source = _trials.find(source)
    if isinstance(source, Trial):
        if source.checkpoint is None:
            raise TransferError(
                f"{source} left no weights: track the model, run.track(model=model), and let its study keep more than "
                "those of its best trial, keep_checkpoints=4."
            )
        source = source.checkpoint
    if isinstance(source, Checkpoint):
        return _of_model(load_tensors(source.folder, source.digest))
    if isinstance(source, str | os.PathLike):
        return _read(Path(source))
    return _flat(source) if isinstance(source, Mapping) else None


def _of_model(found: dict[str, Array]) -> dict[str, Array]:
    """The tensors of the object named "model", or of the only one that is no optimizer."""
    objects: dict[str, dict[str, Array]] = {}
    for key, array in found.items():
        name, _, rest = key.partition("/")
        if rest and "/" not in rest:  # the state of an optimiser lies deeper
            objects.setdefault(name, {})[rest] = array
    if "model" in objects:
        return objects["model"]
    if len(objects) != 1:
        raise TransferError(f"The checkpoint has no object 'model'. {did_you_mean('model', objects)} Track it as that.")
    return next(iter(objects.values()))


def _read(path: Path) -> dict[str, Array]:
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        if not files:
            raise TransferError(f"There is no *.safetensors in {path}: save the model as safetensors.")
        return {name: array for file in files for name, array in _safetensors(file).items()}
    if not path.is_file():
        raise TransferError(f"There is no file {path}: give the path of a *.safetensors, or of a folder of them.")
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if path.suffix not in _TORCH_FILES:
        raise TransferError(f"{path} is no *.safetensors: load the model with its own library, and pass the model.")
    torch: Any = sys.modules.get("torch")
    if torch is None:
        raise TransferError(f"{path} is a file of torch: import torch first, or convert it to safetensors.")
    try:
        return _flat(torch.load(path, map_location="cpu", weights_only=True))
    except TransferError:
        raise
    except Exception as error:  # torch raises pickle's own errors, which are of many kinds
        raise TransferError(
            f"{path} holds more than tensors, and reading that could run code, so it is not read "
            f"({type(error).__name__}). If you trust it, load it yourself and pass its state_dict."
        ) from error


def _safetensors(path: Path) -> dict[str, Array]:
    try:
        found = safetensors.deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except Exception as error:
        raise TransferError(f"{path} cannot be read as safetensors ({error}): copy it anew.") from error
    return {name: _array(name, tensor) for name, tensor in found}


def _array(name: str, tensor: Mapping[str, Any]) -> Array:
    shape, dtype = tensor["shape"], tensor["dtype"]
    if dtype == "BF16":
        wide = np.frombuffer(tensor["data"], "<u2").astype("<u4") << 16
        return np.asarray(wide).view(np.float32).reshape(shape)
    if dtype not in _DTYPES:
        raise TransferError(f"{name} is of the type {dtype}, which NumPy lacks: convert it to F32 or BF16 first.")
    return np.frombuffer(tensor["data"], _DTYPES[dtype]).reshape(shape)


def _flat(content: Any) -> dict[str, Array]:
    """The tensors of a dict, or of the one dict of tensors within it."""
    if not isinstance(content, Mapping):
        raise TransferError(f"The source is a {type(content).__name__} and no dict of tensors: pass a state_dict.")
    found = {
        str(name): _torch.to_numpy(value) if _torch.is_tensor(value) else value
        for name, value in content.items()
        if _torch.is_tensor(value) or isinstance(value, np.ndarray)
    }
    inner = [name for name in _WRAPPED if isinstance(content.get(name), Mapping)]
    averaged = [name for name in _AVERAGED if isinstance(content.get(name), Mapping)]
    if not found and inner and averaged:
        raise TransferError(
            f"The source holds raw weights ({inner[0]!r}) and averaged ones ({averaged[0]!r}): pass the dict you mean."
        )
    if not found and inner + averaged:
        return _flat(content[(inner + averaged)[0]])
    return found


def describe(found: Mapping[str, Array], like: Described) -> Described:
    """A dict of tensors as layers. What names and shapes cannot tell is read as in the target's layer of that name.

    Args:
        found: arrays by name, in the layout of torch's layers; read as the target's where that is a torch model.
        like: the target.

    Raises:
        TransferError: there are no tensors, or adapters that were not merged.
    """
    if not found:
        raise TransferError("The source holds no tensors: pass a model, a state_dict or a *.safetensors.")
    adapters = next((name for name in found if "lora_" in name), None)
    if adapters:
        raise TransferError(
            f"The source has adapters that are not merged ({adapters}): model.merge_and_unload() first."
        )
    tensors = {
        name: Tensor(name, array.shape, name.endswith(("running_mean", "running_var", "num_batches_tracked")), name,
                     array.dtype.kind)
        for name, array in found.items()
    }  # fmt: skip
    modules: dict[str, dict[str, Array]] = {}
    for name, array in found.items():
        path, _, leaf = name.rpartition(".")
        modules.setdefault(path, {})[leaf] = array
    templates = _templates(like)
    layers = []
    for path, leaves in modules.items():
        template = _template(path, leaves, templates)
        layers += _read_like(path, leaves, *template) if template else _guess(path, leaves)
    return Described("file", tuple(layers), tensors)


def _templates(like: Described) -> dict[str, list[Layer]]:
    """The target's layers by the module that holds their tensors."""
    found: dict[str, list[Layer]] = {}
    if like.framework == "torch":
        for layer in like.layers:
            found.setdefault(layer.slots[0].native.rpartition(".")[0], []).append(layer)
    return found


def _template(
    path: str, leaves: Mapping[str, Array], templates: Mapping[str, list[Layer]]
) -> tuple[str, list[Layer]] | None:
    """The module whose name ends most alike and whose tensors have the same names and numbers of axes."""
    mine, best, longest = normalised(path).split("."), None, 0
    for other, layers in templates.items():
        theirs = normalised(other).split(".")
        slots = {slot.native.rpartition(".")[2]: slot for layer in layers for slot in layer.slots}
        if not (slots.keys() & leaves.keys()):
            continue
        same = 0
        while same < min(len(mine), len(theirs)) and mine[-1 - same] == theirs[-1 - same]:
            same += 1
        enough = same == len(mine) == len(theirs) or (same and not mine[-1].isdigit())
        if (
            enough
            and same > longest
            and all(_same_axes(slots[leaf], leaves[leaf]) for leaf in slots.keys() & leaves.keys())
        ):
            best, longest = (other, layers), same
    return best


def _same_axes(slot: Slot, array: Array) -> bool:
    return slot.view is not None or len(slot.axes) == array.ndim


def _read_like(path: str, leaves: Mapping[str, Array], other: str, layers: list[Layer]) -> list[Layer]:
    result = []
    for layer in layers:
        ending = layer.path[len(other) :].lstrip(".")
        slots = []
        for slot in layer.slots:
            leaf = slot.native.rpartition(".")[2]
            if leaf in leaves:
                array = leaves[leaf] if slot.view is None else slot.view(leaves[leaf])
                axes = tuple(
                    _resized(one, length, layer.kind) for one, length in zip(slot.axes, array.shape, strict=True)
                )
                slots.append(replace(slot, axes=axes, native=f"{path}.{leaf}" if path else leaf))
        if slots:
            name = ".".join(part for part in (path, ending) if part)
            result.append(replace(layer, path=name, slots=tuple(slots), settings={}))
    return result


def _resized(one: Axis, length: int, kind: str) -> Axis:
    if one.length == length:
        return one
    gates = one.parts[0] if kind in ("lstm", "gru") and len(one.parts) == 2 else 1
    return axis(one.role, gates, length // gates) if gates > 1 and length % gates == 0 else axis(one.role, length)


def _guess(path: str, leaves: Mapping[str, Array]) -> list[Layer]:
    """Layers from the names and shapes of their tensors alone."""
    prefix = f"{path}." if path else ""
    rest = dict(leaves)
    layers = _fused(path, rest) + _cells(path, rest)
    weight = rest.get("weight", rest.get("gamma"))
    if weight is not None:
        kind = {1: "norm", 2: "matrix"}.get(weight.ndim, "conv")
        kind = "batchnorm" if "running_mean" in rest else kind
        slots = []
        for leaf, array in rest.items():
            role = _NORM_ROLES.get(leaf, leaf)
            axes = weight_axes(kind if role == "weight" else "norm", array.shape)
            slots.append(Slot(role, axes, prefix + leaf))
        layers.append(Layer(path, kind, tuple(slots)))
    elif rest:
        slots = [Slot(leaf, weight_axes("other", array.shape), prefix + leaf) for leaf, array in rest.items()]
        layers.append(Layer(path, "other", tuple(slots)))
    return layers


def _fused(path: str, rest: dict[str, Array]) -> list[Layer]:
    """Query, key and value of a tensor that holds all three, in the layout of a linear layer."""
    leaf = path.rpartition(".")[2]
    weight = "in_proj_weight" if "in_proj_weight" in rest else "weight" if leaf in _torch.FUSED else ""
    array = rest.get(weight)
    if array is None or array.ndim != 2 or array.shape[0] != 3 * array.shape[1]:
        return []
    bias = weight.replace("weight", "bias")
    prefix = f"{path}." if path else ""
    layers = []
    for part, letter in enumerate("qkv"):
        width = array.shape[1]
        slots = [Slot("weight", (axis("out", width), axis("in", width)), prefix + weight, thirds(part))]
        if bias in rest:
            slots.append(Slot("bias", (axis("out", width),), prefix + bias, thirds(part)))
        layers.append(Layer(prefix + letter, "linear", tuple(slots)))
    rest.pop(weight)
    rest.pop(bias, None)
    return layers


def _cells(path: str, rest: dict[str, Array]) -> list[Layer]:
    """The cells of a recurrent module of torch; how many gates there are, the shapes say."""
    cells: dict[str, dict[str, str]] = {}
    for leaf in [leaf for leaf in rest if "_l" in leaf and leaf.startswith(("weight_", "bias_"))]:
        role, _, suffix = leaf.partition("_l")
        cells.setdefault(f"l{suffix}", {})[role] = leaf
    prefix = f"{path}." if path else ""
    layers = []
    for name, leaves in cells.items():
        if "weight_hh" not in leaves:
            continue
        rows, width = rest[leaves["weight_hh"]].shape
        slots = []
        for role, leaf in leaves.items():
            length, *others = rest.pop(leaf).shape
            axes = (axis("out", rows // width, length // (rows // width)), *(axis("in", one) for one in others))
            slots.append(Slot(role, axes, prefix + leaf))
        kind = {4: "lstm", 3: "gru"}.get(rows // width, "rnn")
        layers.append(Layer(prefix + name, kind, tuple(slots)))
    return layers
