"""Names of layers: what wrappers add to them, and what a renamed prefix does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from foretell.transfer._layers import Layer

_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "base_layer"}
_LEADING = ("model", "base_model", "net", "network", "backbone")
_HEADS = {"head", "heads", "head_dist", "classifier", "lm_head", "score", "logits", "predictions", "cls", "fc_out"}

Path = tuple[str, ...]


def normalised(path: str) -> str:
    """A path without what wrappers put into it: data parallelism, compilation, adapters, a `self.model`."""
    parts = [part for part in path.split(".") if part not in _WRAPPERS]
    while len(parts) > 1 and parts[0] in _LEADING:
        parts = parts[1:]
    return ".".join(parts)


def names_a_head(path: str) -> bool:
    """Whether a path says that it belongs to a head."""
    return not _HEADS.isdisjoint(path.split("."))


def likeness(one: Path, two: Path) -> float:
    """Share of the parts of two normalised paths that agree, in [0, 1], the last part counting double."""
    common = len(set(one) & set(two)) + (one[-1] == two[-1])
    return common / (max(len(one), len(two)) + 1)


def renamings(sources: Iterable[Layer], targets: Iterable[Layer]) -> list[tuple[Path, Path]]:
    """Pairs of prefixes (of the target, of the source) under which layers of equal shapes agree, the most common first.

    A prefix that explains one layer alone proves nothing and is left out.
    """
    by_end: dict[str, list[tuple[Path, Layer]]] = {}
    for layer in sources:
        parts = tuple(layer.path.split("."))
        by_end.setdefault(parts[-1], []).append((parts, layer))
    votes: Counter[tuple[Path, Path]] = Counter()
    for layer in targets:
        parts = tuple(layer.path.split("."))
        for other, candidate in by_end.get(parts[-1], []):
            if candidate.shapes != layer.shapes:
                continue
            same = 0
            while same < min(len(parts), len(other)) and parts[-1 - same] == other[-1 - same]:
                same += 1
            votes[parts[: len(parts) - same], other[: len(other) - same]] += 1
    ranked = sorted(votes.items(), key=lambda item: (-item[1], len(item[0][0]) + len(item[0][1])))
    return [prefixes for prefixes, count in ranked if count > 1]


def forced(path: str, pairs: Mapping[str, str | None]) -> tuple[str, str | None] | None:
    """What the user's longest matching prefix makes of a path: (the prefix, the path in the source or None)."""
    for prefix in sorted(pairs, key=len, reverse=True):
        if path == prefix or path.startswith(f"{prefix}."):
            into = pairs[prefix]
            return prefix, None if into is None else into + path[len(prefix) :]
    return None
