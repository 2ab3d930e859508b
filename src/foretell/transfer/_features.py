"""Frozen features of a live model: what its head reads, and what it answers, batch by batch."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from foretell.transfer import TransferError, _keras, _torch
from foretell.transfer._layers import Array
from foretell.transfer._match import heads

_BATCH = 128


@final
@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What a model makes of the data.

    Args:
        features: (n, d).
        outputs: (n, k), or None if the model has no head.
        parameters: how many weights it has.
        seconds: a thousand samples take.
    """

    features: Array
    outputs: Array | None
    parameters: int
    seconds: float


def is_model(value: object) -> bool:
    """Whether `see` takes it."""
    return _keras.is_model(value) or _torch.is_module(value)


def see(model: Any, inputs: Any) -> Seen:
    """Run a model over data in evaluation mode; its weights and modes stay as they are.

    Args:
        model: a torch module or a Keras model.
        inputs: (n, ...) array or tensor, in the model's layout.

    Raises:
        TransferError: it cannot be run on them.
    """
    began = time.perf_counter()
    try:
        found, parameters = _see_keras(model, inputs) if _keras.is_model(model) else _see_torch(model, inputs)
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise TransferError(
            f"The model cannot be run on the inputs ({what}): give Candidate(model, prepare=function) with a function "
            "that brings the inputs into the form that the model takes."
        ) from error
    seconds = (time.perf_counter() - began) * 1000 / max(len(inputs), 1)
    features = np.concatenate([one.reshape(len(one), -1) for one, _ in found])
    outputs = [two.reshape(len(two), -1) for _, two in found if two is not None]
    return Seen(features, np.concatenate(outputs) if outputs else None, parameters, seconds)


def _batches(inputs: Any) -> Iterator[Any]:
    for begin in range(0, len(inputs), _BATCH):
        yield inputs[begin : begin + _BATCH]


def _head(described: Any) -> str | None:
    """Path of the last layer, if it is a head by name or place."""
    paths = heads(described)
    return next((layer.path for layer in reversed(described.layers) if layer.path in paths), None)


def _see_torch(model: Any, inputs: Any) -> tuple[list[tuple[Array, Array | None]], int]:
    path, found, seen = _head(_torch.describe(model)), list[tuple[Array, Array | None]](), dict[str, Any]()
    hook = None
    if path:
        head = model.get_submodule(path)
        hook = head.register_forward_pre_hook(lambda _, given: seen.update(features=given[0]))
    try:
        for batch in _batches(inputs):
            seen.clear()
            outputs = _torch.run(model, batch)
            found.append((_torch.to_numpy(seen["features"]), outputs) if "features" in seen else (outputs, None))
    finally:
        if hook is not None:
            hook.remove()
    return found, sum(parameter.numel() for parameter in model.parameters())


def _see_keras(model: Any, inputs: Any) -> tuple[list[tuple[Array, Array | None]], int]:
    keras: Any = sys.modules["keras"]
    path = _head(_keras.describe(model))
    layers = {name: layer for layer, name, _ in _keras.walk(model, "")}
    inside = None
    if path and getattr(model, "inputs", None) and path in layers:
        inside = keras.Model(model.inputs, [layers[path].input, model.outputs[0]])
    found: list[tuple[Array, Array | None]] = []
    for batch in _batches(inputs):
        if inside is None:
            found.append((_keras.run(model, batch), None))
        else:
            pair = inside(keras.ops.convert_to_tensor(batch), training=False)
            features, outputs = (_keras.to_numpy(one.detach() if hasattr(one, "detach") else one) for one in pair)
            found.append((features, outputs))
    return found, int(model.count_params())
