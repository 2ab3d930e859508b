"""A plan carried out: the new arrays of the target, and what there is to report about each."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from foretell.transfer._layers import Array, Described, Tensor
from foretell.transfer._match import heads
from foretell.transfer._operation import Operation, Status
from foretell.transfer._report import TensorReport
from foretell.transfer._resize import apply, identity

_SEVERITY: tuple[Status, ...] = (
    "exact", "renamed", "transposed", "reshaped", "remapped", "interpolated", "sliced", "expanded", "initialised",
    "refused",
)  # fmt: skip


def build(
    operations: list[Operation],
    natives: Mapping[str, Array],
    own: Mapping[str, Array],
    source: Described,
    target: Described,
    symmetry: tuple[int, float],
) -> tuple[dict[str, Array], tuple[TensorReport, ...]]:
    """The arrays to write, by name, and a report on every tensor of the target.

    Args:
        operations: the plan.
        natives: tensors of the source, by name.
        own: tensors of the target, by name; not changed.
        source: the description of the source.
        target: that of the target.
        symmetry: seed and noise of what breaks the symmetry between replicas.
    """
    planned: dict[str, list[Operation]] = {}
    for operation in operations:
        planned.setdefault(operation.slot.native, []).append(operation)
    chosen = _tied(planned, target)
    values: dict[str, Array] = {}
    rng = np.random.default_rng(symmetry[0])
    for name in dict.fromkeys(chosen.values()):
        for operation in planned.get(name, ()):
            if operation.content == "own":
                continue
            if name not in values:
                values[name] = own[name].copy()
            operation.slot.write(values[name], _value(operation, natives, own, (rng, symmetry[1])))
    head_paths = heads(target)
    reports = tuple(
        _report(tensor, planned.get(name, []), chosen[tensor.holder], natives, source, head_paths)
        for name, tensor in target.tensors.items()
    )
    return values, reports


def _tied(planned: Mapping[str, list[Operation]], target: Described) -> dict[str, str]:
    """Of each memory, under which of its names it is written: the first for which the source has something."""
    names: dict[str, list[str]] = {}
    for name, tensor in target.tensors.items():
        names.setdefault(tensor.holder, []).append(name)
    return {
        holder: next((one for one in same if any(op.content != "own" for op in planned.get(one, ()))), holder)
        for holder, same in names.items()
    }


def _value(
    operation: Operation,
    natives: Mapping[str, Array],
    own: Mapping[str, Array],
    symmetry: tuple[np.random.Generator, float],
) -> Array:
    slot = operation.slot
    if operation.content == "identity":
        return identity(slot.shape)
    if operation.content == "zeros":
        return np.zeros(slot.shape, np.float32)
    arrays = [one.read(natives) for one in operation.sources]
    summed = arrays[0] if len(arrays) == 1 else np.sum(arrays, axis=0)
    result = apply(summed, operation.steps, slot.read(own), *symmetry)
    if operation.factor != 1.0:
        result = result * operation.factor
    return result.reshape(slot.shape)


def _report(
    tensor: Tensor, planned: list[Operation], written: str, natives: Mapping[str, Array], source: Described,
    head_paths: set[str],
) -> TensorReport:  # fmt: skip
    worst = max(planned, key=lambda one: _SEVERITY.index(one.status), default=None)
    sources = tuple(dict.fromkeys(slot.native for one in planned for slot in one.sources))
    filled = round(sum(one.share * np.prod(one.slot.shape) for one in planned))
    status: Status = worst.status if worst else "initialised"
    evidence = worst.evidence if worst else "it belongs to no layer"
    confidence = min((one.confidence for one in planned), default=0.0)
    if tensor.name != written:
        status, evidence = "re-tied", f"shares its memory with {written}" + _lost(sources, written, natives, source)
        if any(step.is_input for one in planned for step in one.steps):
            evidence += "; widths changed, and it cannot serve both uses: the scale of what reads it is not kept"
        filled = 0
    return TensorReport(
        tensor.name, status, sources, tensor.shape, tuple(source.tensors[name].shape for name in sources), tensor.size,
        int(filled), tensor.buffer, any(one.layer in head_paths for one in planned), confidence, evidence,
        worst.force if worst and status != "re-tied" else "",
    )  # fmt: skip


def _lost(sources: tuple[str, ...], written: str, natives: Mapping[str, Array], source: Described) -> str:
    """A warning where the source has two different tensors for what the target ties."""
    other = source.tensors.get(written)
    if other is None or len(sources) != 1 or source.tensors[sources[0]].holder == other.holder:
        return ""
    same = natives[sources[0]].shape == other.shape and np.array_equal(natives[sources[0]], natives[written])
    return "" if same else f"; the source's {sources[0]} is another tensor and was not used"
