"""What equal weights do not make equal: settings of paired layers that change their outputs."""

from __future__ import annotations

from collections.abc import Iterator

from foretell.transfer._layers import Described
from foretell.transfer._match import Pairs
from foretell.transfer._operation import Scene


def notes(source: Described, target: Described, pairs: Pairs, scene: Scene) -> Iterator[str]:
    for layer in target.layers:
        other = pairs[layer.path].source if layer.path in pairs else None
        if other is None:
            continue
        ours, theirs = layer.settings, other.settings
        if "eps" in ours and "eps" in theirs and ours["eps"] != theirs["eps"]:
            yield f"{layer.path}: eps is {ours['eps']:g} here and {theirs['eps']:g} in the source: outputs differ."
        strided = any(n > 1 for n in _numbers(ours.get("stride", 1)))
        if (
            strided
            and ("same" in (ours.get("padding"), theirs.get("padding")))
            and source.framework != target.framework
        ):
            yield (
                f"{layer.path}: padding 'same' with a stride pads one side more in Keras and both sides equally "
                "in torch; pad by hand to make outputs equal."
            )
        _, two = scene.channels.get(layer.path, (0, 0))
        width = layer.width("in") or 0
        turned = "flatten" in ours or "flatten" in theirs
        if {source.framework, target.framework} == {"torch", "keras"} and two and width > two and not turned:
            yield (
                f"{layer.path}: it seems to read a flattened map of {two} channels, which Keras and torch flatten in "
                "different orders, and the graph does not say how: check it with a probe."
            )


def _numbers(value: object) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,) if isinstance(value, int) else ()
