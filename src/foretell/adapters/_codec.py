"""Frozen trees as JSON and safetensors, exactly: what is read equals what was written, in value and in type."""

from __future__ import annotations

import base64
import json
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast, final

import numpy as np
import safetensors
from numpy.typing import NDArray

from foretell.adapters import Array, Symbol, Tree
from foretell.adapters._trees import MAPPINGS

Entry = dict[str, Any]
"""How JSON names an array: {"~array": key in the file of tensors, "source": ..., "dtype": ..., "shape": [...]}."""

_LARGEST_SAFE_INTEGER = 2**53
_MAPPING_NAMES: dict[str, type] = {"~dict": dict, "~ordered_dict": OrderedDict, "~counter": Counter}

_FILE_DTYPES: dict[str, tuple[str, int, tuple[int, ...]]] = {
    **{"bool": ("BOOL", 1, ()), "uint8": ("U8", 1, ()), "int8": ("I8", 1, ())},
    **{"float8_e5m2": ("F8_E5M2", 1, ()), "float8_e4m3fn": ("F8_E4M3", 1, ())},
    **{"int16": ("I16", 2, ()), "uint16": ("U16", 2, ()), "float16": ("F16", 2, ()), "bfloat16": ("BF16", 2, ())},
    **{"int32": ("I32", 4, ()), "uint32": ("U32", 4, ()), "float32": ("F32", 4, ())},
    **{"int64": ("I64", 8, ()), "uint64": ("U64", 8, ()), "float64": ("F64", 8, ())},
    **{"complex32": ("F16", 2, (2,)), "complex64": ("F32", 4, (2,)), "complex128": ("F64", 8, (2,))},
}
"""Element type, its bytes and extra axes in the file; complex numbers are pairs; what is not listed becomes bytes."""


@final
class Encoder:
    """Turns frozen trees into JSON values and collects their arrays, each once."""

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}
        self.aliases: dict[str, str] = {}
        self._keys: dict[int, str] = {}
        self._taken = {"__metadata__"}  # safetensors keeps this name for itself

    def encode(self, tree: Tree, path: str) -> Any:
        """The JSON value of a tree; arrays are replaced by their key, `path` and the names on the way joined by "/"."""
        if isinstance(tree, list | tuple):
            values = [self.encode(value, f"{path}/{index}") for index, value in enumerate(tree)]
            return values if isinstance(tree, list) else {"~tuple": values}
        if isinstance(tree, Array):
            return {"~array": self._key(tree, path), "source": tree.source, "dtype": tree.dtype, "shape": [*tree.shape]}
        if isinstance(tree, Symbol):
            return {"~symbol": [tree.source, tree.kind, tree.text]}
        if type(tree) in MAPPINGS:
            return self._encode_mapping(tree, path)
        return _encode_scalar(tree)

    def _encode_mapping(self, tree: Tree, path: str) -> Any:
        if type(tree) is dict and all(isinstance(key, str) and not key.startswith("~") for key in tree):
            return {key: self.encode(value, f"{path}/{key}") for key, value in tree.items()}
        name = next(name for name, kind in _MAPPING_NAMES.items() if kind is type(tree))
        return {name: [[self.encode(key, path), self.encode(value, f"{path}/{key}")] for key, value in tree.items()]}

    def _key(self, array: Array, path: str) -> str:
        free = path
        number = 2
        while free in self._taken:
            free, number = f"{path}~{number}", number + 1
        self._taken.add(free)
        if id(array) in self._keys:
            self.aliases[free] = self._keys[id(array)]
        else:
            self._keys[id(array)] = free
            self.arrays[free] = array
        return self._keys[id(array)]


def _encode_scalar(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"~bytes": base64.b64encode(value).decode("ascii")}
    if isinstance(value, int) and abs(value) > _LARGEST_SAFE_INTEGER:
        return {"~int": hex(value)}
    if isinstance(value, float) and not math.isfinite(value):
        return {"~float": repr(value)}
    return value


def decode(value: Any, array: Callable[[Entry], Array]) -> Tree:
    """The frozen tree of a JSON value; `array` finds the array of an entry."""
    if isinstance(value, list):
        return [decode(item, array) for item in value]
    if not isinstance(value, dict):
        return value
    tag = next(iter(value), "")
    if tag == "~array":
        return array(value)
    if not tag.startswith("~"):
        return {key: decode(item, array) for key, item in value.items()}
    content = value[tag]
    if tag in _MAPPING_NAMES:
        pairs = {decode(key, array): decode(item, array) for key, item in content}
        return _MAPPING_NAMES[tag](pairs)
    readers: dict[str, Callable[[Any], Any]] = {
        "~int": lambda text: int(text, 16),
        "~float": float,
        "~bytes": base64.b64decode,
        "~tuple": lambda items: tuple(decode(item, array) for item in items),
        "~symbol": lambda parts: Symbol(*parts),
    }
    return readers[tag](content)


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays as one safetensors file that other programs can read.

    The format is fixed, but the library's way of writing raw bytes changed in 0.8 and takes no older form: so the few
    lines it needs are here, and no array is copied on the way.

    Source: https://github.com/huggingface/safetensors, "Format".
    """
    header: dict[str, Entry] = {}
    widths = {key: _FILE_DTYPES.get(array.dtype, ("U8", 1, ()))[1] for key, array in arrays.items()}
    ordered = sorted(arrays, key=lambda key: -widths[key])  # the widest first, so that every element lies aligned
    end = 0
    for key in ordered:
        array = arrays[key]
        code, _, axes = _FILE_DTYPES.get(array.dtype, ("U8", 1, ()))
        shape = [*array.shape, *axes] if array.dtype in _FILE_DTYPES else [array.data.size]
        header[key] = {"dtype": code, "shape": shape, "data_offsets": [end, end + array.data.size]}
        end += array.data.size
    text = json.dumps(header).encode("ascii")
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for key in ordered:
            file.write(arrays[key].data.data)


def read_arrays(content: bytes) -> dict[str, NDArray[np.uint8]]:
    """The bytes of every tensor in a safetensors file, (nbytes,) uint8, read-only, by key."""
    found = {}
    for key, tensor in safetensors.deserialize(content):  # type: ignore[no-untyped-call]
        found[key] = np.frombuffer(cast("bytes", tensor["data"]), np.uint8)
        found[key].setflags(write=False)
    return found


def as_numpy(array: Array) -> NDArray[Any]:
    """An array of any framework as a new NumPy one; bfloat16 becomes float32, without loss.

    Raises:
        TypeError: NumPy has no such element type and none that holds its values.
    """
    if array.dtype == "bfloat16":
        return (array.data.view("<u2").astype("<u4") << 16).view(np.float32).reshape(array.shape)
    return array.data.copy().view(np.dtype(array.dtype)).reshape(array.shape)
