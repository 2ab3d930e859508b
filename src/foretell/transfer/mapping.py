"""Carry the weights of one model into another, and report on every tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from foretell.transfer import TransferError, _files, _keras, _torch
from foretell.transfer._build import build
from foretell.transfer._layers import Array, Described
from foretell.transfer._operation import Grid, Labels, Policy
from foretell.transfer._plan import plan
from foretell.transfer._report import Check, MappingReport

__all__ = ["map_weights", "MappingReport"]

_LEAST_SHARE = 0.5  # of the backbone's elements: with less, most of the model starts from scratch


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Model:
    """A live model or a file: its description, a copy of its tensors, and the model itself if it can be run."""

    described: Described
    natives: dict[str, Array]
    live: Any


def map_weights(  # noqa: PLR0913 - what a mapping can be told, all of it by name
    source: Any,
    target: Any,
    *,
    pairs: Mapping[str, str | None] | None = None,
    classes: Labels | None = None,
    vocab: Labels | None = None,
    grid: Grid | None = None,
    resize: bool = False,
    allow_by_shape: bool = False,
    allow_partial: bool = False,
    noise: float = 0.01,
    seed: int = 0,
    probe: Any = None,
    dry_run: bool = False,
) -> MappingReport:
    """Copy what fits from a source into a target, adapt what nearly fits, and say of every tensor what became of it.

    Layers are paired by name (without what wrappers add), by a renamed prefix, by their place among layers of the same
    kind, and last, with consent, by shape alone. Layouts, orders of gates, and one or three tensors for query, key and
    value are translated between torch and Keras. If an error is raised, the target is as it was.

    Args:
        source: a torch module, a Keras model, a dict of arrays or tensors, the path of a *.safetensors or of a folder
            of them, a torch file that holds nothing but tensors, "study:name#number", a Trial, a Checkpoint, or what
            `source` returned.
        target: a torch module or a Keras model; written to in place.
        pairs: {path of a layer or prefix in the target: the same in the source, or None to leave it as it is}.
        classes: (names of the source's classes, names of the target's): rows of the head follow the names.
        vocab: (tokens of the source, tokens of the target): rows follow the tokens; new ones get the mean.
        grid: ((rows, columns) of the source's positions, (rows, columns) of the target's), if they are not square.
        resize: whether widths may be sliced (evenly, rescaled by the root of the fan-in's ratio) or replicated
            (Net2Net), and blocks that the target has more than the source may begin as identities.
        allow_by_shape: whether layers may be paired that have nothing in common but the shape.
        allow_partial: whether less than half of the backbone may be mapped.
        noise: relative spread between the weights that replicas share, >= 0; it keeps the function.
        seed: of that spread.
        probe: a batch in the source's layout: array, tuple, or dict of arrays by argument; or {"source": batch,
            "target": batch}. Both models are run on it, and the difference of their outputs is reported.
        dry_run: only report; the target is not written to.

    Raises:
        TransferError: nothing fits, or too little; or an argument names what is not there.

    Source: Xu et al., Initializing Models with Larger Ones, 2024 (slicing); Chen et al., Net2Net, 2016 (widening and
        deepening).
    """
    policy = Policy(pairs or {}, classes, vocab, grid, resize, allow_by_shape)
    _check(policy, noise)
    into = _model(target)
    if into is None:
        raise TransferError(
            f"The target is a {type(target).__name__}: give a torch module or a Keras model, its framework imported."
        )
    origin = _source(source, into.described)
    values, report = _mapped(origin, into, policy, (seed, noise))
    _check_share(report, allow_partial)
    if dry_run:
        return report
    return replace(report, check=_apply(origin, into, values, probe, classes), applied=True)


def _mapped(
    origin: _Model, into: _Model, policy: Policy, symmetry: tuple[int, float]
) -> tuple[dict[str, Array], MappingReport]:
    """The arrays to write, by name, and the report on a target that was not written to yet."""
    operations, notes = plan(origin.described, into.described, policy)
    values, tensors = build(operations, origin.natives, into.natives, origin.described, into.described, symmetry)
    used = {name for tensor in tensors if tensor.mapped for name in tensor.sources}
    present = origin.described.tensors
    sizes = {tensor.holder: tensor.size for tensor in present.values()}
    spent = sum(sizes[holder] for holder in {present[name].holder for name in used})
    unused = tuple(name for name, tensor in present.items() if not {name, tensor.holder} & used)
    elements = sum(sizes.values()), spent
    notes = *notes, *_bad(origin, used)
    return values, MappingReport(tensors, unused, elements, notes, None, symmetry[0], False)


def _check(policy: Policy, noise: float) -> None:
    if noise < 0:
        raise TransferError(f"noise={noise} must be a relative spread of 0 or more.")
    for name, labels in (("classes", policy.classes), ("vocab", policy.vocab)):
        _check_labels(name, labels)


def _check_labels(name: str, labels: Labels | None) -> None:
    if labels is None:
        return
    for side, of in zip(labels, ("source", "target"), strict=True):
        if isinstance(side, str) or not isinstance(side, Sequence):
            raise TransferError(f"{name} must be (names of the source, names of the target), each a list of texts.")
        if len(set(side)) != len(side):
            raise TransferError(f"{name} of the {of} has a label twice: rows are found by label, so give each once.")


def _model(value: Any) -> _Model | None:
    if _keras.is_model(value):
        described = _keras.describe(value)
        natives = {name: _keras.to_numpy(variable) for name, variable in _keras.variables(value).items()}
        return _Model(described, natives, value)
    if _torch.is_module(value):  # asked second, as a Keras model is one too where Keras runs on torch
        natives = {name: _torch.to_numpy(tensor) for name, tensor in _torch.tensors(value).items()}
        return _Model(_torch.describe(value), natives, value)
    return None


def _source(value: Any, like: Described) -> _Model:
    value = value.weights if isinstance(value, _files.Source) else value
    model = _model(value)
    if model is not None and not any("lora_" in name for name in model.natives):
        return model
    natives = model.natives if model else _files.arrays(value)
    if natives is None:
        raise TransferError(
            f"The source is a {type(value).__name__}: give a torch module, a Keras model, a state_dict, the path of a "
            "*.safetensors, a Trial or a Checkpoint."
        )
    return _Model(_files.describe(natives, like), natives, None)


def _bad(origin: _Model, used: set[str]) -> list[str]:
    bad = [name for name in sorted(used) if not np.isfinite(origin.natives[name]).all()]
    return [f"{name} of the source holds values that are not finite." for name in bad]


def _check_share(report: MappingReport, allow_partial: bool) -> None:
    if not any(tensor.mapped and not tensor.buffer for tensor in report.tensors):
        raise TransferError(
            "Nothing of the source fits the target, so nothing was written. The pairs that were tried:\n" + str(report)
        )
    share = report.backbone.share
    if share < _LEAST_SHARE and not allow_partial:
        raise TransferError(
            f"Only {share:.1%} of the backbone's elements come from the source, so nothing was written: force pairs as "
            f"the lines below say, or take it as it is with allow_partial=True.\n{report}"
        )


def _apply(origin: _Model, into: _Model, values: dict[str, Array], probe: Any, classes: Labels | None) -> Check | None:
    """Write, then compare on the probe; whatever fails, the target gets its own values back."""
    writer = _torch.write if into.described.framework == "torch" else _keras.write
    before = {name: into.natives[name] for name in values}
    expected = None if probe is None or origin.live is None else _run(origin, _batch(probe, "source", origin, into))
    try:
        writer(into.live, values)
        if probe is None:
            return None
        actual = _run(into, _batch(probe, "target", origin, into))
    except BaseException:
        writer(into.live, before)
        raise
    return _compare(expected, actual, classes)


def _run(model: _Model, batch: Any) -> Array:
    try:
        if model.described.framework == "torch":
            return _torch.run(model.live, batch)
        return _keras.run(model.live, batch)
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise TransferError(
            f"The probe batch cannot be run through the {model.described.framework} model ({what}): give what its call "
            'takes, or {"source": batch, "target": batch} if the two take different ones.'
        ) from error


def _batch(probe: Any, side: str, origin: _Model, into: _Model) -> Any:
    if isinstance(probe, Mapping) and probe.keys() == {"source", "target"}:
        return probe[side]
    frameworks = origin.described.framework, into.described.framework
    images = np.ndim(probe) == 4 and any(layer.kind.startswith("conv") for layer in into.described.layers)
    if side == "source" or not images or set(frameworks) != {"torch", "keras"}:
        return probe
    return np.ascontiguousarray(
        np.moveaxis(np.asarray(probe), *((1, -1) if into.described.framework == "keras" else (-1, 1)))
    )


def _compare(expected: Array | None, actual: Array, classes: Labels | None) -> Check:
    if not np.isfinite(actual).all():
        return Check(math.nan, math.nan, "the target's outputs are not finite")
    if expected is None:
        return Check(math.nan, math.nan, "the source cannot be run; the target's outputs are finite")
    words = "all outputs"
    if classes and (expected.shape[-1], actual.shape[-1]) == (len(classes[0]), len(classes[1])):
        both = [label for label in classes[1] if label in set(classes[0])]
        expected = expected[..., [list(classes[0]).index(label) for label in both]]
        actual = actual[..., [list(classes[1]).index(label) for label in both]]
        words = f"{len(both)} classes that both know"
    if expected.shape != actual.shape or not expected.size:
        return Check(math.nan, math.nan, f"outputs of shapes {expected.shape} and {actual.shape} cannot be compared")
    error = float(np.abs(expected.astype(np.float64) - actual).max())
    return Check(error, error / max(float(np.abs(expected).max()), 1e-30), words)
