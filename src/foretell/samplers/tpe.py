"""Tree-structured Parzen estimator: proposes what resembles the good trials and not the others.

One mixture over the whole tree of a space stands for the good trials, one for the others. Only dimensions that both a
point and a kernel use tell how near they are, so branches need no estimators of their own, and what a branch shares
with the others is learned from all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, final

import numpy as np

from foretell.context import Context
from foretell.errors import StudyError
from foretell.numerics.parzen import fitted
from foretell.record import FoldEvent, Record
from foretell.samplers import Belief
from foretell.samplers._beliefs import Beliefs
from foretell.samplers._ranking import Ranking, weights
from foretell.space import Space

__all__ = ["TPE"]


@final
@dataclass(frozen=True)
class TPE:
    """The candidate, of some drawn like the good trials, that is likelier among them than among the others.

    Good is the best tenth of the trials, 25 at most; what is pending or failed counts among the others.

    Args:
        n_start: values before anything is learned; random draws until then.
        random_share: of later proposals that are random draws all the same, in [0, 1]: the mixtures draw together, and
            where they first did need not be the best place.
        candidates: to choose from.
        max_kernels: of trials that are not good: of more, an even choice over their ranks; and of pending ones.
        beliefs: what the user thinks of the best values, by parameter.

    Source: Bergstra et al., NeurIPS 2011; Falkner et al., ICML 2018 (one multivariate mixture); Watanabe, 2023
        (arXiv 2304.11127: what each part contributes).
    """

    n_start: int = 10
    random_share: float = 0.1
    candidates: int = 24
    max_kernels: int = 100
    beliefs: Mapping[str, Belief] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("n_start", 2), ("candidates", 1), ("max_kernels", 1)):
            if getattr(self, name) < least:
                raise StudyError(f"{name}={getattr(self, name)} leaves nothing to learn from: use {least} or more.")

        if not 0.0 <= self.random_share <= 1.0:
            raise StudyError(f"random_share={self.random_share} is no share: use a number from 0 to 1.")

    def init(self, space: Space) -> _Memory:
        """Nothing seen."""
        return _Memory(Ranking(), Beliefs.of(space, self.beliefs))

    def update(self, state: _Memory, event: FoldEvent) -> _Memory:
        """Note which configurations there are, and which trials have changed."""
        state.ranking.note(event)
        return state

    def suggest(self, record: Record, context: Context) -> dict[str, Any]:
        """A draw from the prior at first, then the best candidate that is feasible and new."""
        space, rng = context.space, context.rng
        memory: _Memory = record.state(self)
        ranking, beliefs = memory
        ranking.refresh(record)
        seen, good = len(ranking.ranked), ranking.good
        explores = rng.random() < self.random_share
        if not len(space) or seen < self.n_start or not good or explores:
            return beliefs.sample(space, seen, rng)
        rows, axes = record.encoded.array, beliefs.axes
        likely = fitted(axes, axes.snap(rows.take(good, axis=0)), weights(len(good)))
        unlikely = fitted(axes, axes.snap(rows.take(self._others(ranking, len(good)), axis=0)))
        drawn = likely.sample(self.candidates, rng)
        worth = likely.log_density(drawn) - unlikely.log_density(drawn) + beliefs.log_weight(drawn, seen)
        for best in np.argsort(-worth, kind="stable"):
            params = space.decode(drawn.rows[best])
            if ranking.is_new(params) and (not space.constraints or space.feasible(params)):
                return params
        return space.sample(rng)

    def _others(self, ranking: Ranking, good: int) -> list[int]:
        """The kernels of the denominator; pending trials are taken for bad ones, so that nobody repeats them."""
        rest = len(ranking.ranked) - good
        kept = min(rest, self.max_kernels)
        spread = [ranking.ranked[good + index * rest // kept][1] for index in range(kept)]
        return spread + list(islice(reversed(ranking.pending), self.max_kernels))


class _Memory(NamedTuple):
    """The fold, and what the user believes of this space."""

    ranking: Ranking
    beliefs: Beliefs
