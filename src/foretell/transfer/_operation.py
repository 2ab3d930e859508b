"""What a plan is made of: what the user allows, and what becomes of one slot of the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, final

from foretell.transfer._layers import Described, Slot
from foretell.transfer._resize import Step

Status = Literal[
    "exact", "renamed", "transposed", "reshaped", "remapped", "sliced", "expanded", "interpolated", "re-tied",
    "initialised", "refused",
]  # fmt: skip
Labels = tuple[Sequence[str], Sequence[str]]
Grid = tuple[tuple[int, int], tuple[int, int]]
Content = Literal["source", "zeros", "identity", "own"]


@final
@dataclass(frozen=True, slots=True)
class Policy:
    """What the user allows and knows; see `map_weights`."""

    pairs: Mapping[str, str | None] = field(default_factory=dict)
    classes: Labels | None = None
    vocab: Labels | None = None
    grid: Grid | None = None
    resize: bool = False
    allow_by_shape: bool = False


@final
@dataclass(frozen=True, slots=True)
class Operation:
    """What one slot of the target becomes.

    Args:
        layer: path of its layer.
        slot: the slot.
        status: in a word.
        content: what it is made of; "own" leaves it as it is.
        sources: the slots of the source whose sum it is made of.
        steps: what then becomes of its axes.
        factor: what it is multiplied by at last.
        confidence: in the pair, in [0, 1].
        evidence: why.
        force: what would map it, if it is not.
        share: share of its elements that come from the source.
    """

    layer: str
    slot: Slot
    status: Status
    content: Content = "own"
    sources: tuple[Slot, ...] = ()
    steps: tuple[Step, ...] = ()
    factor: float = 1.0
    confidence: float = 0.0
    evidence: str = ""
    force: str = ""
    share: float = 0.0


class Conflict(Exception):
    """An axis that cannot be made to fit: the reason, and what would force it."""

    def __init__(self, reason: str, force: str = "", status: Status = "refused") -> None:
        self.reason, self.force, self.status = reason, force, status


@final
@dataclass(frozen=True, slots=True)
class Scene:
    """What a slot's plan depends on besides its pair."""

    source: Described
    target: Described
    policy: Policy
    heads: frozenset[str]
    channels: Mapping[str, tuple[int, int]]
    """Of each dense layer of either model that reads a feature map: channels in the source's and the target's map."""
    reader: str | None
