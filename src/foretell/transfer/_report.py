"""What became of every tensor of the target: an object, a text and JSON."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, final

from foretell.transfer._operation import Status

_MISSING = ("initialised", "refused")
_SHOWN = 40  # rows of the text: what went well is counted, what did not is listed


@final
@dataclass(frozen=True, slots=True)
class TensorReport:
    """One tensor of the target.

    Args:
        name: in the target.
        status: "exact", "renamed", "transposed" (another layout), "reshaped", "remapped" (rows by label), "sliced",
            "expanded", "interpolated", "re-tied" (it shares its memory with another), "initialised" (the source has
            nothing for it) or "refused" (it has, but it was not used).
        sources: names in the source.
        shape: in the target.
        source_shapes: one for each of `sources`.
        elements: how many it has.
        filled: how many of them come from the source.
        buffer: whether it is a statistic and no weight.
        head: whether it belongs to a head, and not to the backbone.
        confidence: in the pair, in [0, 1]; not a probability.
        evidence: why.
        force: the argument of `map_weights` that would map it; empty if it is mapped.
    """

    name: str
    status: Status
    sources: tuple[str, ...]
    shape: tuple[int, ...]
    source_shapes: tuple[tuple[int, ...], ...]
    elements: int
    filled: int
    buffer: bool
    head: bool
    confidence: float
    evidence: str
    force: str

    @property
    def mapped(self) -> bool:
        """Whether anything of it comes from the source."""
        return self.status not in _MISSING

    def __str__(self) -> str:
        held = " + ".join(
            f"{name} {_shape(shape)}" for name, shape in zip(self.sources, self.source_shapes, strict=True)
        )
        row = f"{self.status:<12} {self.name} {_shape(self.shape)}" + (f" <- {held}" if held else "")
        row += f"  [{self.confidence:.2f}] {self.evidence}"
        return row + (f"\n{'':<13}to force it: {self.force}" if self.force else "")


@final
@dataclass(frozen=True, slots=True)
class Totals:
    """How much of the target comes from the source: tensors and elements, of all there are."""

    tensors: int
    all_tensors: int
    elements: int
    all_elements: int

    @property
    def share(self) -> float:
        """Of the elements; 1 if there are none."""
        return self.elements / self.all_elements if self.all_elements else 1.0

    def __str__(self) -> str:
        return (
            f"{self.tensors} of {self.all_tensors} tensors, {self.elements:,} of {self.all_elements:,} elements "
            f"({self.share:.1%})"
        )


@final
@dataclass(frozen=True, slots=True)
class Check:
    """Both models on a probe batch, in evaluation mode.

    Args:
        error: the largest absolute difference of their outputs; NaN if they cannot be compared.
        relative: the same over the largest absolute output of the source.
        outputs: what was compared, in words.
    """

    error: float
    relative: float
    outputs: str

    def __str__(self) -> str:
        if math.isnan(self.error):
            return f"probe: {self.outputs}"
        return f"probe: outputs differ by at most {self.error:.2g} (relative {self.relative:.2g}), {self.outputs}"


@final
@dataclass(frozen=True, slots=True)
class MappingReport:
    """What `map_weights` did.

    Args:
        tensors: one for each tensor of the target, in its order.
        unused: names of tensors of the source that went nowhere.
        source_elements: elements of the source's tensors, and how many of them are in tensors that were used.
        notes: what equal weights do not make equal, and other things worth knowing.
        check: the comparison on a probe batch; None if there was no probe.
        seed: of the numbers that break the symmetry between replicas.
        applied: whether the target was written to.
    """

    tensors: tuple[TensorReport, ...]
    unused: tuple[str, ...]
    source_elements: tuple[int, int]
    notes: tuple[str, ...]
    check: Check | None
    seed: int
    applied: bool

    def __getitem__(self, name: str) -> TensorReport:
        """The report on a tensor of the target."""
        return next(tensor for tensor in self.tensors if tensor.name == name)

    @property
    def weights(self) -> Totals:
        """Of what is trained; what is tied counts once."""
        return _totals(one for one in self.tensors if not one.buffer)

    @property
    def buffers(self) -> Totals:
        """Of statistics and counters."""
        return _totals(one for one in self.tensors if one.buffer)

    @property
    def backbone(self) -> Totals:
        """Of the weights outside the head."""
        return _totals(one for one in self.tensors if not one.buffer and not one.head)

    @property
    def counts(self) -> dict[str, int]:
        """Tensors by status."""
        return dict(Counter(tensor.status for tensor in self.tensors))

    def __str__(self) -> str:
        counted = ", ".join(f"{count} {status}" for status, count in sorted(self.counts.items()))
        lines = [f"Tensors: {counted}" + ("" if self.applied else " (nothing was written)")]
        lines += [f"weights: {self.weights}", f"buffers: {self.buffers}", f"backbone: {self.backbone}"]
        used, present = self.source_elements[1], self.source_elements[0]
        lines.append(f"source: {used:,} of {present:,} elements used, {len(self.unused)} tensors unused")
        lines += [str(self.check)] if self.check else []
        lines += [f"note: {note}" for note in self.notes]
        told = [tensor for tensor in self.tensors if tensor.status not in ("exact", "re-tied")]
        told.sort(key=lambda tensor: tensor.mapped)
        lines += [str(tensor) for tensor in told[:_SHOWN]]
        if len(told) > _SHOWN:
            lines.append(f"... and {len(told) - _SHOWN} more in report.tensors")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data: the fields, and the totals under their names."""
        totals = {name: _plain(getattr(self, name)) for name in ("weights", "buffers", "backbone")}
        return _plain(self) | totals | {"counts": self.counts}  # type: ignore[no-any-return]


def _totals(tensors: Any) -> Totals:
    counted = [tensor for tensor in tensors if tensor.status != "re-tied"]
    mapped = [tensor for tensor in counted if tensor.mapped]
    elements = sum(tensor.filled for tensor in counted)
    return Totals(len(mapped), len(counted), elements, sum(tensor.elements for tensor in counted))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _shape(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"
