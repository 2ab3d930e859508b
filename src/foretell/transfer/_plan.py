"""What to do with every slot of the target, as data: nothing here reads or changes a model."""

from __future__ import annotations

import math
from dataclasses import replace

from foretell.transfer import TransferError
from foretell.transfer._axes import head_factor, steps
from foretell.transfer._blocks import deepen
from foretell.transfer._layers import WEIGHTED, Described, Layer, Slot, holds_positions
from foretell.transfer._match import CERTAIN, SHAPED, Pair, Pairs, heads, match
from foretell.transfer._notes import notes
from foretell.transfer._operation import Conflict, Labels, Operation, Policy, Scene, Status
from foretell.transfer._resize import Step


def plan(source: Described, target: Described, policy: Policy) -> tuple[list[Operation], tuple[str, ...]]:
    """One operation for every slot of the target, and notes on what equal weights do not make equal.

    Raises:
        TransferError: the policy names layers that are not there, or labels that do not fit.
    """
    pairs = match(source, target, policy.pairs)
    maps = _feature_maps(target, pairs, source)
    scene = Scene(source, target, policy, frozenset(heads(target)), maps, _reader(target))
    operations = [
        _operation(layer, slot, pairs.get(layer.path), scene) for layer in target.layers for slot in layer.slots
    ]
    for name, labels in (("classes", policy.classes), ("vocab", policy.vocab)):
        _check_used(name, labels, operations)
    operations = deepen(operations, target, pairs, policy)
    return _by_shape(operations, source, policy), (*source.notes, *notes(source, target, pairs, scene))


def _check_used(name: str, labels: Labels | None, operations: list[Operation]) -> None:
    lengths = {len(step.rows) for operation in operations for step in operation.steps}
    if labels is not None and len(labels[1]) not in lengths:
        what = "head that has as many outputs" if name == "classes" else "table that has as many rows"
        raise TransferError(
            f"{name} has {len(labels[0])} names of the source and {len(labels[1])} of the target, and no pair of "
            f"layers has a {what} on both sides: see that both lists are complete and in the order of the rows."
        )


def _reader(target: Described) -> str | None:
    """The layer that reads the data, unless it reads tokens: its inputs are features, and no width of the network."""
    kinds = (*WEIGHTED, "lstm", "gru", "rnn", "embedding")
    first = next((one for one in target.layers if one.kind in kinds and not holds_positions(one.path)), None)
    return None if first is None or first.kind == "embedding" else first.path


def _feature_maps(target: Described, pairs: Pairs, source: Described) -> dict[str, tuple[int, int]]:
    """Of each dense layer of the target: the widths of the layers before it and before its pair."""

    def before(described: Described) -> dict[str, int]:
        found, width = {}, 0
        for layer in described.layers:
            if layer.kind == "linear":
                found[layer.path] = width
                width = 0
            elif layer.kind.startswith("conv"):
                groups = layer.width("groups") is not None and layer.slots[0].axes[0].role == "in"
                width = (layer.width("out") or 0) if not groups else 0
        return found

    ours, theirs = before(target), before(source)
    both = {path: pair.source.path for path, pair in pairs.items() if pair.source}
    return {path: (theirs[other], ours[path]) for path, other in both.items() if path in ours and other in theirs}


def _operation(layer: Layer, slot: Slot, pair: Pair | None, scene: Scene) -> Operation:
    keep = Operation(layer.path, slot, "initialised")
    if pair is None:
        return replace(keep, evidence="nothing in the source matches it", force=f"pairs={{{layer.path!r}: '...'}}")
    if pair.source is None:
        return replace(keep, evidence=pair.evidence, confidence=CERTAIN)
    mismatch = _settings_forbid(layer, pair.source) or _numbers_forbid(slot, pair.source, scene)
    if mismatch:
        return replace(keep, status="refused", evidence=mismatch, confidence=pair.confidence)
    sources = _sources(slot, pair.source)
    if sources is None:
        has_bias = slot.role == "bias" and layer.kind in (*WEIGHTED, "lstm", "gru", "rnn")
        if has_bias and layer.slot("weight"):
            return replace(keep, content="zeros", evidence=f"{pair.source.path} has no bias: zero", confidence=CERTAIN)
        lacking = f"{pair.source.path or 'the source'} has no {slot.role}"
        return replace(keep, evidence=lacking, force=f"pairs={{{layer.path!r}: '...'}}")
    if not sources:
        return replace(keep, content="zeros", evidence="the source keeps one bias, and the other half of it is zero",
                       confidence=pair.confidence, status="reshaped", share=1.0)  # fmt: skip
    try:
        changes, words = steps(layer, slot, sources[0], scene)
    except Conflict as conflict:
        return replace(keep, status=conflict.status, evidence=conflict.reason, force=conflict.force,
                       sources=sources, confidence=pair.confidence)  # fmt: skip
    status = _status(slot, sources, changes, scene)
    evidence = "; ".join((pair.evidence, *words))
    keep = replace(keep, status=status, content="source", sources=sources, evidence=evidence)
    factor = head_factor(layer, slot, sources[0])
    return replace(keep, steps=changes, confidence=pair.confidence, share=_share(changes), factor=factor)


def _settings_forbid(layer: Layer, other: Layer) -> str:
    if layer.kind == other.kind == "gru" and False in (
        layer.settings.get("reset_after", True), other.settings.get("reset_after", True)
    ) and layer.settings != other.settings:  # fmt: skip
        return "a GRU with reset_after=False computes something else, which no rearrangement makes equal"
    ours, theirs = layer.settings.get("groups", 1), other.settings.get("groups", 1)
    if ours != theirs and layer.kind.startswith("conv") and 1 in (ours, theirs) and layer.shapes != other.shapes:
        return f"{theirs} groups there, {ours} here"
    return ""


def _numbers_forbid(slot: Slot, other: Layer, scene: Scene) -> str:
    held = other.slot(slot.role)
    if held is None:
        return ""
    ours, theirs = scene.target.tensors[slot.native].number, scene.source.tensors[held.native].number
    return "" if (ours == "f") == (theirs == "f") else "integers are no weights: dequantise the source first"


def _sources(slot: Slot, other: Layer) -> tuple[Slot, ...] | None:
    """The slots whose sum is this one; none for zeros; None if the source lacks it."""
    same = other.slot(slot.role)
    if same is not None:
        return (same,)
    halves = tuple(half for half in (other.slot("bias_ih"), other.slot("bias_hh")) if half)
    if slot.role == "bias" and len(halves) == 2:
        return halves
    whole = other.slot("bias")
    if other.kind in ("lstm", "rnn") and whole is not None:
        return {"bias_ih": (whole,), "bias_hh": ()}.get(slot.role)
    return None


def _share(steps: tuple[Step, ...]) -> float:
    rows = next((step.rows for step in steps if step.how == "rows"), ())
    return sum(row >= 0 for row in rows) / len(rows) if rows else 1.0


def _status(slot: Slot, sources: tuple[Slot, ...], steps: tuple[Step, ...], scene: Scene) -> Status:
    hows = {step.how for step in steps}
    if hows & {"take", "channels"}:
        return "expanded" if any(math.prod(step.target) > math.prod(step.source) for step in steps) else "sliced"
    if "positions" in hows:
        return "interpolated"
    if "cut" in hows:
        return "sliced"
    if "rows" in hows:
        return "remapped"
    native, held = scene.target.tensors[slot.native].shape, scene.source.tensors[sources[0].native].shape
    if len(sources) > 1:
        return "reshaped"
    if (slot.view is None) != (sources[0].view is None) or native != held:
        return "transposed" if len(native) > 1 and len(native) == len(held) else "reshaped"
    return "exact" if slot.native == sources[0].native else "renamed"


def _by_shape(operations: list[Operation], source: Described, policy: Policy) -> list[Operation]:
    """Last: what is still without a source takes the next unused slot of its shape, if the user consents."""
    used = {slot.native for operation in operations for slot in operation.sources if operation.content == "source"}
    free = [(layer, slot) for layer in source.layers for slot in layer.slots if slot.native not in used]
    result = []
    for planned in operations:
        operation, slot = planned, planned.slot
        lost = operation.content == "own" and not operation.sources and operation.confidence < CERTAIN
        same = [pair for pair in free if lost and pair[1].shape == slot.shape and _same_role(pair, slot)]
        if not same:
            result.append(operation)
            continue
        name = same[0][1].native
        if policy.allow_by_shape:
            free.remove(same[0])
            words = f"{name} has the same shape and role, and nothing else speaks for it"
            operation = replace(operation, status="renamed", content="source", sources=(same[0][1],), force="",
                                confidence=SHAPED, evidence=words, share=1.0)  # fmt: skip
        else:
            words = f"{operation.evidence}; {name} has its shape"
            within = operation.layer == same[0][0].path
            force = "allow_by_shape=True" if within else f"pairs={{{operation.layer!r}: {same[0][0].path!r}}}"
            operation = replace(operation, evidence=words, force=force)
        result.append(operation)
    return result


def _same_role(pair: tuple[Layer, Slot], slot: Slot) -> bool:
    return pair[1].role == slot.role or (pair[0].kind == "other" and len(slot.shape) > 0)
