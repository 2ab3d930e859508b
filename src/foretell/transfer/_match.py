"""Which layer of the source belongs to which of the target: by name, by renamed prefix, by place in the order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from foretell.errors import did_you_mean
from foretell.transfer import TransferError
from foretell.transfer._layers import WEIGHTED, Described, Layer
from foretell.transfer._names import forced, likeness, names_a_head, normalised, renamings

CERTAIN, NORMALISED, RENAMED, PLACED, AMBIGUOUS, SHAPED = 1.0, 0.98, 0.9, 0.7, 0.5, 0.3
"""Confidence in a pair, by what it rests on; not a probability."""

_SAME, _OTHER, _ANCHOR = 10.0, 1.0, 1000.0
_KIN = {"matrix": {"linear", "embedding"}, "conv": {"conv_transpose"}, "norm": {"batchnorm"}}
"""What a file cannot tell apart: by names and shapes alone, a matrix may be a table of embeddings."""


@final
@dataclass(frozen=True, slots=True)
class Pair:
    """A layer of the source for one of the target; no layer if the user wants none."""

    source: Layer | None
    confidence: float
    evidence: str


Pairs = dict[str, Pair]
Form = tuple[str, tuple[tuple[str, tuple[int, ...]], ...]]


def match(source: Described, target: Described, pairs: Mapping[str, str | None]) -> Pairs:
    """Pair the layers: what the user forces, then names, then renamed prefixes, then the order of the layers.

    Raises:
        TransferError: `pairs` names what is not there.
    """
    found = _forced(source, target, pairs)
    _by_name(source, target, found)
    _by_prefix(source, target, found)
    _by_place(source, target, found)
    return found


def _free(source: Described, target: Described, found: Pairs) -> tuple[list[Layer], list[Layer]]:
    used = {pair.source.path for pair in found.values() if pair.source}
    sources = [layer for layer in source.layers if layer.path not in used]
    return sources, [layer for layer in target.layers if layer.path not in found]


def akin(one: Layer, other: Layer) -> bool:
    """Whether two layers are of one kind, as far as that is known."""
    kinds = {one.kind, other.kind}
    return len(kinds) == 1 or any(kinds - {kind} <= kin for kind, kin in _KIN.items() if kind in kinds)


def _forced(source: Described, target: Described, pairs: Mapping[str, str | None]) -> Pairs:
    by_path = {layer.path: layer for layer in source.layers}
    found, used = {}, set()
    for layer in target.layers:
        wish = forced(layer.path, pairs)
        if wish is None:
            continue
        prefix, path = wish
        used.add(prefix)
        if path is None:
            found[layer.path] = Pair(None, CERTAIN, f"pairs={{{prefix!r}: None}}")
        elif path in by_path:
            found[layer.path] = Pair(by_path[path], CERTAIN, f"pairs={{{prefix!r}: {pairs[prefix]!r}}}")
        else:
            raise TransferError(f"pairs asks for {path!r} for {layer.path!r}. {did_you_mean(path, by_path)}")
    for prefix in pairs:
        if prefix not in used:
            raise TransferError(f"pairs names {prefix!r}. {did_you_mean(prefix, (one.path for one in target.layers))}")
    return found


def _by_name(source: Described, target: Described, found: Pairs) -> None:
    sources, targets = _free(source, target, found)
    exact = {layer.path: layer for layer in sources if not layer.unnamed}
    plain: dict[str, list[Layer]] = {}
    for layer in exact.values():
        plain.setdefault(normalised(layer.path), []).append(layer)
    numbers = _Numbers(_numbered(target.layers), _numbered(source.layers))
    proposals: Pairs = {}
    for layer in targets:
        if layer.unnamed:
            continue
        same = plain.get(normalised(layer.path), [])
        if layer.path in exact:
            proposals[layer.path] = Pair(exact[layer.path], CERTAIN, "same name")
        elif len(same) == 1:
            proposals[layer.path] = Pair(same[0], NORMALISED, f"same name but for wrappers: {same[0].path}")
    for layer in targets:
        pair = proposals.get(layer.path)
        if pair is None or pair.source is None or not akin(layer, pair.source):
            continue
        numbered = normalised(layer.path).rpartition(".")[2].isdigit()
        doubtful = numbered and layer.shapes != pair.source.shapes and not numbers.settled(layer.path)
        if doubtful or numbers.shifted(layer.path):
            continue
        found[layer.path] = pair


Content = set[tuple[str, tuple[str, ...]]]
"""What a numbered child is made of: the rest of each layer's path, and the roles of its tensors."""


@final
@dataclass(frozen=True, slots=True)
class _Numbers:
    """The containers of both models whose children have numbers for names, by their normalised paths."""

    mine: Mapping[str, Mapping[int, Content]]
    yours: Mapping[str, Mapping[int, Content]]

    def shifted(self, path: str) -> bool:
        """Whether the numbers in a name may mean different layers, as one was inserted before them."""
        return any(not self._agree(container, until) for container, until in _containers(path))

    def settled(self, path: str) -> bool:
        """Whether all containers on the way have the same children: then a number means the same in both."""
        return all(self._agree(container, None) for container, _ in _containers(path))

    def _agree(self, container: str, until: int | None) -> bool:
        if container not in self.yours:
            return True
        mine, yours = (
            {number: content for number, content in children.items() if until is None or number <= until}
            for children in (self.mine[container], self.yours[container])
        )
        return mine.keys() == yours.keys() and not any(_differs(mine[number], yours[number]) for number in mine)


def _containers(path: str) -> Iterator[tuple[str, int]]:
    parts = normalised(path).split(".")
    for place, part in enumerate(parts):
        if part.isdigit():
            yield ".".join(parts[:place]), int(part)


def _numbered(layers: tuple[Layer, ...]) -> dict[str, dict[int, Content]]:
    found: dict[str, dict[int, Content]] = {}
    for layer in layers:
        plain = normalised(layer.path)
        for container, number in _containers(plain):
            rest = plain[len(f"{container}.{number}" if container else str(number)) :].lstrip(".")
            content = (rest, tuple(sorted(layer.shapes)))
            found.setdefault(container, {}).setdefault(number, set()).add(content)
    return found


def _differs(mine: Content, yours: Content) -> bool:
    """Whether two numbered children are made of different things; one of them may have a bias or a layer more."""
    if {name for name, _ in mine} == {""} == {name for name, _ in yours}:
        return bool((set(min(mine)[1]) ^ set(min(yours)[1])) - {"bias"})
    return {name for name, _ in mine}.isdisjoint(name for name, _ in yours)


def _by_prefix(source: Described, target: Described, found: Pairs) -> None:
    numbers = _Numbers(_numbered(target.layers), _numbered(source.layers))
    sources, targets = _free(source, target, found)
    named = [layer for layer in sources if not layer.unnamed], [layer for layer in targets if not layer.unnamed]
    for ours, theirs in renamings(*named):
        sources, targets = _free(source, target, found)
        by_path = {layer.path: layer for layer in sources}
        for layer in targets:
            parts = tuple(layer.path.split("."))
            if parts[: len(ours)] != ours:
                continue
            other = by_path.get(".".join((*theirs, *parts[len(ours) :])))
            if other is None or not akin(layer, other) or (ours == theirs and numbers.shifted(layer.path)):
                continue
            if layer.path.rpartition(".")[2].isdigit() and layer.shapes != other.shapes:
                continue
            renamed = f"{'.'.join(theirs) or 'the root'} there is {'.'.join(ours) or 'the root'} here"
            found[layer.path] = Pair(other, RENAMED, f"renamed prefix: {renamed}")


def _by_place(source: Described, target: Described, found: Pairs) -> None:
    """Pair what is left in order, such that as much as possible agrees in kind and shape.

    Source: Needleman and Wunsch, 1970: alignment by dynamic programming, with no cost for gaps.
    """
    sources, targets = _free(source, target, found)
    if not sources or not targets:
        return
    score = _scores(source, target, found)
    early, late = _align(score), _align(score[::-1, ::-1])
    rows, columns = score.shape
    late = {rows - 1 - row: columns - 1 - column for row, column in late.items()}
    for row, column in early.items():
        layer, other = target.layers[row], source.layers[column]
        if layer.path in found:
            continue
        certain = late.get(row) == column
        same = layer.shapes == other.shapes
        words = "same place in the order of layers, same kind" + (" and shapes" if same else "")
        if not certain:
            words += "; another place would do as well"
        found[layer.path] = Pair(other, PLACED if certain and same else AMBIGUOUS, words)


def _scores(source: Described, target: Described, found: Pairs) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    columns = {layer.path: column for column, layer in enumerate(source.layers)}
    free, _ = _free(source, target, found)
    forms = [(columns[other.path], other, _form(other), _parts(other)) for other in free]
    known: dict[tuple[Form, Form], float] = {}
    score = np.zeros((len(target.layers), len(source.layers)))
    for row, layer in enumerate(target.layers):
        pair, mine, parts = found.get(layer.path), _form(layer), _parts(layer)
        if pair is not None:
            if pair.source is not None:
                score[row, columns[pair.source.path]] = _ANCHOR
            continue
        for column, other, yours, others in forms:
            if (mine, yours) not in known:  # most layers of a network have one of a few forms
                known[mine, yours] = _value(layer, other) if akin(layer, other) else 0.0
            value = known[mine, yours]
            score[row, column] = value + likeness(parts, others) if value and parts and others else value
    return score


def _form(layer: Layer) -> Form:
    return layer.kind, tuple(layer.shapes.items())


def _parts(layer: Layer) -> tuple[str, ...]:
    return () if layer.unnamed else tuple(normalised(layer.path).split("."))


def _value(layer: Layer, other: Layer) -> float:
    """How well two layers of a kind fit by their shapes; a bias that one of them lacks does not matter."""
    mine, yours = layer.shapes, other.shapes
    if layer.kind == "other" and mine != yours:
        return 0.0
    both = mine.keys() & yours.keys()
    return _SAME if both and all(mine[role] == yours[role] for role in both) else _OTHER


def _align(score: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> dict[int, int]:
    rows, columns = score.shape
    best = np.zeros((rows + 1, columns + 1))
    for row in range(rows):
        diagonal = np.where(score[row] > 0, best[row, :-1] + score[row], -1.0)
        best[row + 1, 1:] = np.maximum.accumulate(np.maximum(diagonal, best[row, 1:]))
    pairs = {}
    row, column = rows, columns
    while row and column:
        here = best[row, column]
        if score[row - 1, column - 1] > 0 and here == best[row - 1, column - 1] + score[row - 1, column - 1]:
            row, column = row - 1, column - 1
            pairs[row] = column
        elif here == best[row - 1, column]:
            row -= 1
        else:
            column -= 1
    return pairs


def heads(described: Described) -> set[str]:
    """Paths of the last layer with a weight, unless it pools, and of those whose names say that they are a head."""
    weighted = [layer for layer in described.layers if layer.kind in WEIGHTED]
    return {layer.path for layer in weighted if names_a_head(layer.path)} | {
        layer.path for layer in weighted[-1:] if "pooler" not in layer.path
    }
