"""The trials of a study ranked by their losses, as a fold: what samplers that look at ranks alone remember."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from functools import cache
from typing import Any, final

import numpy as np

from foretell.events import Created, Ended, Started
from foretell.numerics.parzen import Array
from foretell.record import FoldEvent, Observed, Record
from foretell.trial import State

_SHARE, _MOST = 0.1, 25


@final
@dataclass(slots=True)
class Ranking:
    """All trials of which something is known, and those of which nothing is known yet.

    A trial is worth its loss now, however far it was trained: those that a scheduler lets train on are those that fare
    well. One that failed, diverged or is not finite is worth infinity.

    Args:
        ranked: (loss, trial), best first.
        losses: those under which the trials are ranked.
        pending: trials of which nothing is known yet, oldest first.
        changed: trials that something happened to since they were ranked.
        tried: configurations there are.
    """

    ranked: list[tuple[float, int]] = field(default_factory=list)
    losses: dict[int, float] = field(default_factory=dict)
    pending: dict[int, None] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    tried: set[tuple[tuple[str, Any], ...]] = field(default_factory=set)

    def note(self, event: FoldEvent) -> None:
        """Fold one event."""
        if isinstance(event, Created):
            self.tried.add(tuple(event.params.items()))
            self.pending[event.trial] = None
        elif isinstance(event, Observed | Started | Ended):
            self.changed.add(event.trial)

    def refresh(self, record: Record) -> None:
        """Rank what has changed anew: the outcome depends on the record alone, not on when this was done last."""
        for trial in sorted(self.changed):
            old, new = self.losses.pop(trial, None), _loss(record, trial)
            if old is not None:
                del self.ranked[bisect_left(self.ranked, (old, trial))]
            if new is not None:
                self.losses[trial] = new
                insort(self.ranked, (new, trial))
            if new is not None or record.states[trial].ended:
                self.pending.pop(trial, None)
            elif trial not in self.pending:
                self.pending[trial] = None
        self.changed.clear()

    def is_new(self, params: dict[str, Any]) -> bool:
        """Whether no trial has this configuration."""
        return tuple(params.items()) not in self.tried

    @property
    def good(self) -> list[int]:
        """The best tenth of the trials, 25 at most, without failed ones; best first."""
        count = min(math.ceil(_SHARE * len(self.ranked)), _MOST)
        return [trial for loss, trial in self.ranked[:count] if loss < math.inf]


@cache
def weights(count: int) -> Array:
    """How much each of the good trials counts, the best first: logarithmic in its rank, 1 on average.

    Source: Hansen, The CMA Evolution Strategy: A Tutorial, 2016, equation 49.
    """
    raw = math.log(count + 0.5) - np.log(np.arange(1, count + 1))
    return np.asarray(raw / raw.mean())


def _loss(record: Record, trial: int) -> float | None:
    """What a trial is worth now; None if nothing is known of it."""
    loss: float = record.losses[trial]
    if math.isfinite(loss):
        return loss
    state = record.states[trial]
    if state in (State.FAILED, State.DIVERGED):
        return math.inf
    return None if state is State.CANCELLED or not len(record.curves[trial]) else math.inf
