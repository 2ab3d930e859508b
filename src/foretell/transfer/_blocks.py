"""Blocks that the target has beyond the source's: made to pass their input on, so that the function is kept."""

from __future__ import annotations

from dataclasses import replace

from foretell.transfer._layers import WEIGHTED, Described, Layer
from foretell.transfer._match import CERTAIN, Pairs
from foretell.transfer._operation import Content, Operation, Policy

_BRANCH_ENDS = {"out_proj", "o_proj", "c_proj", "fc2", "linear2", "down_proj", "wo", "out_lin", "lin2", "proj"}


def deepen(operations: list[Operation], target: Described, pairs: Pairs, policy: Policy) -> list[Operation]:
    """Make the blocks that the target has beyond the source's pass their input on."""
    if not policy.resize:
        return operations
    fresh = _extra_blocks(target, pairs)
    result = []
    for operation in operations:
        block = next((layers for layers in fresh if operation.layer in {layer.path for layer in layers}), None)
        action = _identity(operation, block) if block else None
        if action is None:
            result.append(operation)
        else:
            content, words = action
            result.append(replace(operation, content=content, evidence=words, force="", confidence=CERTAIN))
    return result


def _extra_blocks(target: Described, pairs: Pairs) -> list[list[Layer]]:
    """Numbered children none of whose layers has a source, in containers where some have."""
    blocks: dict[str, list[Layer]] = {}
    for layer in target.layers:
        parts = layer.path.split(".")
        for place, part in enumerate(parts):
            if part.isdigit():
                blocks.setdefault(".".join(parts[: place + 1]), []).append(layer)
    filled = {path for path, pair in pairs.items() if pair.source}
    containers = {
        path.rpartition(".")[0] for path, layers in blocks.items() if any(one.path in filled for one in layers)
    }
    new = [path for path, layers in blocks.items() if not any(one.path in filled for one in layers)]
    outer = [path for path in new if path.rpartition(".")[0] in containers]
    return [blocks[path] for path in outer]


def _identity(operation: Operation, block: list[Layer]) -> tuple[Content, str] | None:
    """What makes one slot's block an identity: zero at the end of each residual branch, or a weight that passes on."""
    weighted = [layer for layer in block if layer.kind in WEIGHTED]
    shape = operation.slot.shape
    if len(weighted) == 1 and weighted[0].path == operation.layer:
        if operation.slot.role == "bias":
            return "zeros", "a new layer that passes its input on"
        is_square = len(shape) > 1 and shape[0] == shape[1] and all(length % 2 for length in shape[2:])
        return ("identity", "a new layer that passes its input on; exact behind a ReLU") if is_square else None
    if len(weighted) < 2 or operation.slot.role not in ("weight", "bias"):
        return None
    ends = {layer.path for layer in weighted if _ends_a_branch(layer.path)}
    norms = [layer.path for layer in block if layer.kind == "batchnorm"]
    last = ends or set(norms[-1:])
    if operation.layer not in last:
        return None
    return "zeros", "a new block whose residual branch begins at zero"


def _ends_a_branch(path: str) -> bool:
    return path.rpartition(".")[2] in _BRANCH_ENDS or path.endswith("output.dense")
