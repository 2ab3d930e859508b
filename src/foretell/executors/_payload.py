"""A training function as bytes: packed in the user's process, unpacked in the process that trains.

The bytes live in memory that is shared by inheritance, never in a file that could be named. Large arrays lie beside the
pickle, not in it, so that every attempt maps them instead of copying them.
"""

from __future__ import annotations

import dis
import functools
import importlib
import io
import json
import mmap
import os
import pickle
import pickletools
import struct
import sys
import tempfile
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, final

import cloudpickle
import numpy as np

from foretell.errors import FunctionError

_OUT_OF_BAND = 16 * 1024  # bytes; below this a copy is cheaper than a page fault
_ALIGNMENT = 64  # bytes; a cache line, and enough for every vector instruction
_LENGTH = struct.Struct("<Q")
_WRAPPED = ("the function", "the method")
_LOADING = ContextVar("loading", default=False)


@final
@dataclass(frozen=True, slots=True)
class Payload:
    """A packed function: its pickle, the large buffers beside it, and the modules it is likely to need."""

    code: bytes
    buffers: tuple[memoryview, ...]
    modules: tuple[str, ...]


def pack(function: Callable[..., Any]) -> Payload:
    """The function as bytes, with everything of `__main__` that it uses.

    Args:
        function: any callable: a function, lambda, closure, method, partial or callable instance.

    Raises:
        FunctionError: if something it uses cannot be sent; names the variable that holds it.
    """
    if _LOADING.get():
        raise FunctionError(
            "a module that the training function needs starts a study whenever it is imported. "
            "Put that call into a function, or under `if __name__ == '__main__':`."
        )
    buffers: list[memoryview] = []
    running = _running_modules()
    try:
        code = _dump(function, buffers, running)
    except Exception as error:
        raise _explanation(function, error, running) from error
    # A module whose body still runs must not be imported: its body would start the study again.
    unfinished = {module.__name__ for module in running}
    modules = tuple(name for name in _modules_named_in(code) if name not in unfinished)
    return Payload(code, tuple(buffers), modules)


def unpack(payload: Payload) -> Callable[..., Any]:
    """The function again; its large arrays are the payload's own memory."""
    with loading():
        # These bytes are the coordinator's own and come through memory inherited from it.
        function: Callable[..., Any] = pickle.loads(payload.code, buffers=payload.buffers)  # noqa: S301
    return function


@contextmanager
def loading() -> Iterator[None]:
    """While a training process imports the user's modules: none of them may start trainings of its own."""
    token = _LOADING.set(True)
    try:
        yield
    finally:
        _LOADING.reset(token)


def to_memory(payload: Payload) -> int:
    """A file descriptor of nameless memory that holds the payload; the caller closes it."""
    parts = [memoryview(payload.code), *payload.buffers]
    head = json.dumps({"modules": payload.modules, "sizes": [part.nbytes for part in parts]}).encode()
    descriptor = anonymous_file()
    with open(descriptor, "wb", closefd=False) as file:
        file.write(_LENGTH.pack(len(head)) + head)
        for part in parts:
            file.seek(_aligned(file.tell()))
            file.write(part)
    return descriptor


def from_memory(descriptor: int) -> Payload:
    """The payload in a descriptor made by `to_memory`, mapped: writing to it changes this process's view only."""
    view = memoryview(mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE))
    end = _LENGTH.size + _LENGTH.unpack_from(view)[0]
    head = json.loads(bytes(view[_LENGTH.size : end]))
    parts = []
    for size in head["sizes"]:
        start = _aligned(end)
        end = start + size
        parts.append(view[start:end])
    return Payload(bytes(parts[0]), tuple(parts[1:]), tuple(head["modules"]))


def anonymous_file() -> int:
    """A descriptor of memory without a name, or where that does not exist, of a temporary file already unlinked."""
    if sys.platform == "linux":
        return os.memfd_create("foretell")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _aligned(position: int) -> int:
    return -(-position // _ALIGNMENT) * _ALIGNMENT


@final
class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle offers no other way to add a reduction
    """cloudpickle, with tensors on the CPU as shared buffers and tensors elsewhere refused."""

    storages: dict[int, np.ndarray[Any, Any]]

    def reducer_override(self, value: Any) -> Any:
        tensor_type = getattr(sys.modules.get("torch"), "Tensor", None)
        if tensor_type is not None and isinstance(value, tensor_type):
            if _is_elsewhere(value):
                raise pickle.PicklingError(f"a tensor on {value.device}")
            if _is_plain(value):
                array = self._storage(value)
                place = value.storage_offset(), tuple(value.size()), value.stride()
                return _rebuild_tensor, (array, value.dtype, *place)
        return cloudpickle.Pickler.reducer_override(self, value)

    def _storage(self, tensor: Any) -> np.ndarray[Any, Any]:
        """The tensor's whole storage, always the same array for the same storage, so that views stay views."""
        torch = sys.modules["torch"]
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.storages:
            self.storages[storage.data_ptr()] = torch.empty(0, dtype=torch.uint8, device="cpu").set_(storage).numpy()
        return self.storages[storage.data_ptr()]


def _is_elsewhere(tensor: Any) -> bool:
    return bool(tensor.is_cuda) or tensor.device.type not in ("cpu", "meta")


def _is_plain(tensor: Any) -> bool:
    """Whether a tensor is its numbers and nothing else; whatever is not goes torch's own way."""
    torch = sys.modules["torch"]
    if type(tensor) is not torch.Tensor or tensor.device.type != "cpu" or tensor.layout is not torch.strided:
        return False
    special = tensor.requires_grad or tensor.is_inference() or tensor.is_quantized or tensor.is_conj()
    if special or tensor.is_neg() or tensor.__dict__:
        return False
    size = int(tensor.untyped_storage().nbytes())
    return size > 0 and size % tensor.element_size() == 0


def _rebuild_tensor(array: np.ndarray[Any, Any], dtype: Any, offset: int, size: Any, stride: Any) -> Any:
    torch = importlib.import_module("torch")
    storage = torch.from_numpy(array).untyped_storage()
    return torch.empty(0, dtype=dtype, device="cpu").set_(storage, offset, size, stride)


def _dump(value: object, buffers: list[memoryview], running: Sequence[types.ModuleType]) -> bytes:
    def in_band(buffer: pickle.PickleBuffer) -> bool:
        if memoryview(buffer).nbytes < _OUT_OF_BAND:
            return True
        buffers.append(buffer.raw())
        return False

    file = io.BytesIO()
    with ExitStack() as stack:
        for module in running:
            if module.__name__ not in cloudpickle.list_registry_pickle_by_value():
                cloudpickle.register_pickle_by_value(module)
                stack.callback(cloudpickle.unregister_pickle_by_value, module)
        pickler = _Pickler(file, protocol=5, buffer_callback=in_band)
        pickler.storages = {}
        pickler.dump(value)
    return file.getvalue()


def _running_modules() -> list[types.ModuleType]:
    """The modules, other than `__main__`, whose body is being run by this very call."""
    running = []
    frame: types.FrameType | None = sys._getframe()
    while frame is not None:
        module = sys.modules.get(frame.f_globals.get("__name__", ""))
        if frame.f_code.co_name == "<module>" and module is not None and module.__name__ != "__main__":
            running.append(module)
        frame = frame.f_back
    return running


def _modules_named_in(code: bytes) -> list[str]:
    """The loaded modules that occur among the pickle's strings, in the order in which they were first imported."""
    strings = {argument for _, argument, _ in pickletools.genops(code) if isinstance(argument, str)}
    return [name for name in list(sys.modules) if name in strings and not name.startswith("_")]


def _explanation(function: object, error: Exception, running: Sequence[types.ModuleType]) -> FunctionError:
    name = _name(function)
    place = "the function" if name.startswith("the ") else name
    path = _path_to_culprit(function, running, {id(function)})
    if not path:
        return FunctionError(
            f"{name} cannot be sent to a training process: {error}. "
            f"Create what it needs inside {place}, or use workers=0."
        )
    uses = ", in it ".join(f"{label} ({_kind(value)})" for label, value in path)
    message = f"{name} uses {uses}, which cannot be sent to a training process. "
    return FunctionError(f"{message}{_cure(path[-1][1], place)}, or use workers=0.")


def _name(function: object) -> str:
    if isinstance(function, functools.partial):
        return _name(function.func)
    name = getattr(function, "__qualname__", None)
    if name is None:
        return f"the {type(function).__name__} instance"
    short = name.rpartition("<locals>.")[2]
    return "the lambda" if short == "<lambda>" else str(short)


def _kind(value: Any) -> str:
    tensor_type = getattr(sys.modules.get("torch"), "Tensor", None)
    if tensor_type is not None and isinstance(value, tensor_type):
        return f"{type(value).__name__} on {'cuda' if value.is_cuda else value.device}"
    return type(value).__name__


def _cure(value: Any, place: str) -> str:
    tensor_type = getattr(sys.modules.get("torch"), "Tensor", None)
    if tensor_type is not None and isinstance(value, tensor_type) and _is_elsewhere(value):
        return f"Keep it on the CPU and move it to the device inside {place}"
    verb = "Open" if hasattr(value, "fileno") else "Create"
    return f"{verb} it inside {place}"


def _path_to_culprit(
    value: object, running: Sequence[types.ModuleType], seen: set[int]
) -> list[tuple[str, object]] | None:
    """From what the value uses down to the innermost part that cannot be pickled."""
    for label, part in _parts(value):
        if id(part) in seen:
            continue
        seen.add(id(part))
        try:
            _dump(part, [], running)
        except Exception:
            deeper = _path_to_culprit(part, running, seen) or []
            # The user knows a partial or a method by the name of its function: that is no step of the way.
            return deeper if deeper and label in _WRAPPED else [(label, part), *deeper]
    return None


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """What a value is made of, as far as pickling it by value would follow, with a name for each part."""
    match value:
        case types.FunctionType():
            yield from _parts_of_function(value)
        case types.MethodType():
            yield "the object", value.__self__
            yield _WRAPPED[1], value.__func__
        case functools.partial():
            yield _WRAPPED[0], value.func
            yield from ((f"the argument {i}", part) for i, part in enumerate(value.args))
            yield from ((f"the argument {name!r}", part) for name, part in value.keywords.items())
        case dict():
            yield from ((f"the item {key!r}", part) for key, part in value.items())
        case list() | tuple() | set() | frozenset():
            yield from ((f"the item {i}", part) for i, part in enumerate(value))
        case types.ModuleType():
            pass
        case _:
            members = getattr(value, "__dict__", {})
            what = "the member" if isinstance(value, type) else "the attribute"
            yield from ((f"{what} {name!r}", part) for name, part in members.items() if not name.startswith("__"))
            if not isinstance(value, type):
                yield "the class", type(value)


def _parts_of_function(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    for name in _global_names(function.__code__):
        if name in function.__globals__:
            yield f"the global {name!r}", function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"the variable {name!r} of the enclosing function", cell.cell_contents
        except ValueError:  # the cell is still empty
            continue
    yield from ((f"the default {i} of an argument", part) for i, part in enumerate(function.__defaults__ or ()))
    yield from ((f"the default of {name!r}", part) for name, part in (function.__kwdefaults__ or {}).items())
    yield from ((f"the attribute {name!r}", part) for name, part in function.__dict__.items())


def _global_names(code: types.CodeType) -> dict[str, None]:
    """The globals that a function and the functions inside it read, in the order of their first use."""
    names: dict[str, None] = {}
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_GLOBAL":
            names[instruction.argval] = None
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names
