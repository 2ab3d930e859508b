"""PyTorch: modules, optimisers, rate schedulers, gradient scalers, generators and tensors, for checkpoints."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import torch

from foretell.adapters import Array, Kind, Symbol, Tree
from foretell.adapters._trees import check_shape
from foretell.errors import CheckpointError

__all__ = ["ADAPTER"]

_METADATA = "~metadata"
"""Key of a module's format versions: an attribute of its state_dict, which a tree cannot hold otherwise."""
_CLASS, _SHAPES = "~class", "~shapes"
"""Keys under which an optimiser says whose moments these are, and the shapes of its parameters."""

_NOT_MOMENTS = {"foreach", "fused", "maximize", "differentiable", "capturable", "nesterov", "decoupled_weight_decay"}
"""Settings of an optimiser that change how it computes, but not which moments it keeps."""


@final
@dataclass(frozen=True, slots=True)
class Torch:
    """Everything of PyTorch that has a state; other objects with a state_dict of tensors are the plain adapter's."""

    name: Final = "torch"

    def handles(self, value: object) -> bool:
        """Modules, optimisers, schedulers, scalers, generators, and bare tensors."""
        return isinstance(value, _HANDLED)

    def state(self, value: Any) -> Tree:
        """The state_dict, and with it what loading it elsewhere needs to know."""
        if isinstance(value, torch.Tensor):
            return value
        if isinstance(value, torch.Generator):
            return value.get_state()
        tree = value.state_dict()
        if isinstance(value, torch.nn.Module) and hasattr(tree, "_metadata"):
            versions = {prefix: dict(entry) for prefix, entry in tree._metadata.items()}
            return OrderedDict([*tree.items(), (_METADATA, versions)])
        if _is_optimizer(value, tree):
            shapes = {index: tuple(parameter.shape) for index, parameter in _parameters(value, tree)}
            return {**tree, _CLASS: _class_name(value), _SHAPES: shapes}
        return tree

    def restore(self, value: Any, tree: Tree, kind: Kind) -> str | None:
        """Through load_state_dict; what a child inherits is checked before anything of it is changed."""
        if isinstance(value, torch.Tensor):
            check_shape("the tensor", tree.shape, value.shape)
            if kind == "resume" and tree.dtype != value.dtype:
                raise CheckpointError(f"it is a tensor of {value.dtype} here and of {tree.dtype} in the checkpoint")
            with torch.no_grad():
                value.copy_(tree)
        elif isinstance(value, torch.nn.Module):
            _restore_module(value, tree, kind)
        elif isinstance(value, torch.optim.Optimizer) and _CLASS in tree:
            return _restore_optimizer(value, tree, kind)
        elif kind == "resume":
            (value.set_state if isinstance(value, torch.Generator) else value.load_state_dict)(tree)
        elif isinstance(value, torch.optim.Optimizer):
            return "its moments start anew, as its state_dict has a form of its own"
        return None

    def rng_state(self) -> Tree:
        """The CPU's global generator, and those of all CUDA devices if CUDA is in use."""
        in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if in_use else []}

    def set_rng_state(self, tree: Tree) -> str | None:
        """Put the global generators back, for as many devices as there are here."""
        torch.set_rng_state(tree["cpu"])
        saved = tree["cuda"]
        present = torch.cuda.device_count() if saved and torch.cuda.is_available() else 0
        for device, state in enumerate(saved[:present]):
            torch.cuda.set_rng_state(state, device)
        if present < len(saved):
            return f"the random numbers of {len(saved)} CUDA devices were saved and {present} are here"
        return None

    def key(self, leaf: object) -> Hashable | None:
        """Memory address, strides and type of a tensor; the text of a size, a device or a dtype."""
        if isinstance(leaf, torch.Size | torch.device | torch.dtype):
            return type(leaf).__name__, _symbol_text(leaf)
        if not isinstance(leaf, torch.Tensor):
            return None
        _check_dense(leaf)
        flags = leaf.is_conj(), leaf.is_neg()
        return str(leaf.device), leaf.data_ptr(), tuple(leaf.shape), leaf.stride(), str(leaf.dtype), flags

    def pack(self, leaf: Any) -> Array | Symbol:
        """The elements in C order, copied to host memory; a size, a device or a dtype becomes a symbol."""
        if not isinstance(leaf, torch.Tensor):
            return Symbol(self.name, type(leaf).__name__, _symbol_text(leaf))
        dtype = str(leaf.dtype).removeprefix("torch.")
        plain = leaf.detach().resolve_conj().resolve_neg()
        host = plain.to("cpu", copy=True, memory_format=torch.contiguous_format)
        data = host.reshape(-1).view(torch.uint8).numpy() if host.numel() else np.empty(0, np.uint8)
        data.setflags(write=False)
        return Array(self.name, dtype, tuple(leaf.shape), data)

    def unpack(self, packed: Array | Symbol) -> Any:
        """A new tensor in host memory, or the size, device or dtype."""
        if isinstance(packed, Symbol):
            return _from_symbol(packed)
        dtype = getattr(torch, packed.dtype)
        if not packed.data.size:
            return torch.empty(packed.shape, dtype=dtype)
        return torch.from_numpy(packed.data.copy()).view(dtype).reshape(packed.shape)

    def put(self, saved: Any, current: object, *, in_place: bool) -> Any:
        """Moves to the device of the current tensor; copies into it if shape and dtype agree."""
        if not isinstance(current, torch.Tensor):
            return saved
        if not in_place or current.shape != saved.shape or current.dtype != saved.dtype:
            return saved.to(current.device)
        with torch.no_grad():
            return current.copy_(saved)


ADAPTER: Final = Torch()

_HANDLED = (
    *(torch.nn.Module, torch.Tensor, torch.Generator),
    *(torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler, torch.amp.GradScaler),
)


def _restore_module(module: torch.nn.Module, tree: Tree, kind: Kind) -> None:
    saved = OrderedDict(tree)
    versions = saved.pop(_METADATA, None)
    if kind == "inherit":
        now = module.state_dict()
        missing, unknown = sorted(now.keys() - saved.keys()), sorted(saved.keys() - now.keys())
        if missing or unknown:
            raise CheckpointError(
                f"its tensors have other names than the checkpoint's: only here {missing}, only there {unknown}. "
                "Build the object with the parameters the checkpoint was made with, or do not track it."
            )
        for name, tensor in now.items():
            if not isinstance(tensor, torch.Tensor):
                saved[name] = tensor
            elif not torch.nn.parameter.is_lazy(tensor):
                check_shape(repr(name), saved[name].shape, tensor.shape)
    if versions is not None:
        saved._metadata = versions  # type: ignore[attr-defined]
    module.load_state_dict(saved)


def _restore_optimizer(optimizer: torch.optim.Optimizer, tree: Tree, kind: Kind) -> str | None:
    saved = {key: value for key, value in tree.items() if key not in (_CLASS, _SHAPES)}
    now = optimizer.state_dict()
    parameters = dict(_parameters(optimizer, now))
    if kind == "inherit":
        if tree[_CLASS] != _class_name(optimizer) or _moments_kept(saved) != _moments_kept(now):
            return f"its moments start anew, as the checkpoint's are those of {tree[_CLASS]} with other settings"
        saved["param_groups"] = now["param_groups"]
    elif tree[_CLASS] != _class_name(optimizer):
        raise CheckpointError(f"it is {_class_name(optimizer)} here and {tree[_CLASS]} in the checkpoint")
    if len(parameters) != len(tree[_SHAPES]):
        raise CheckpointError(f"it has {len(parameters)} parameters here and {len(tree[_SHAPES])} in the checkpoint")
    for index, parameter in parameters.items():
        check_shape(f"its parameter {index}", tree[_SHAPES][index], parameter.shape)
    optimizer.load_state_dict(saved)
    if kind == "resume":
        _keep_precision(optimizer, parameters, saved["state"])
    return None


def _keep_precision(optimizer: torch.optim.Optimizer, parameters: dict[int, torch.Tensor], moments: Tree) -> None:
    # load_state_dict casts moments to the type of their parameter: float32 moments of bfloat16 weights would lose bits.
    for index, parameter in parameters.items():
        for name, value in moments.get(index, {}).items():
            held = optimizer.state[parameter].get(name)
            if isinstance(held, torch.Tensor) and isinstance(value, torch.Tensor) and held.dtype != value.dtype:
                optimizer.state[parameter][name] = value.to(held.device)


def _is_optimizer(value: object, tree: Tree) -> bool:
    return isinstance(value, torch.optim.Optimizer) and {"state", "param_groups"} <= tree.keys()


def _class_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _parameters(optimizer: torch.optim.Optimizer, tree: Tree) -> list[tuple[int, torch.Tensor]]:
    groups = zip(tree["param_groups"], optimizer.param_groups, strict=True)
    return [pair for packed, live in groups for pair in zip(packed["params"], live["params"], strict=True)]


def _moments_kept(tree: Tree) -> list[dict[str, bool]]:
    """Which moments each group keeps, as far as its settings tell: amsgrad, centered, any momentum, absent ones."""

    def decides(name: str, value: object) -> bool:
        return name not in _NOT_MOMENTS and (name == "momentum" or value is None or isinstance(value, bool))

    groups = tree["param_groups"]
    return [{name: bool(value) for name, value in group.items() if decides(name, value)} for group in groups]


def _check_dense(tensor: torch.Tensor) -> None:
    if torch.nn.parameter.is_lazy(tensor):
        raise CheckpointError("it has no shape yet: run one batch through the model before it is tracked")
    if tensor.is_meta:
        raise CheckpointError("it is on the meta device and has no values: load the weights before it is tracked")
    is_plain = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_nested
    if not is_plain or type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        raise CheckpointError(f"a {type(tensor).__name__} of layout {tensor.layout} is not a dense tensor")


def _symbol_text(leaf: Any) -> str:
    return ",".join(map(str, leaf)) if isinstance(leaf, torch.Size) else str(leaf).removeprefix("torch.")


def _from_symbol(symbol: Symbol) -> Any:
    if symbol.kind == "Size":
        return torch.Size([int(length) for length in symbol.text.split(",") if length])
    return torch.device(symbol.text) if symbol.kind == "device" else getattr(torch, symbol.text)
