"""Covariance matrix adaptation: the numbers of a space follow a normal distribution that moves to where losses fall.

What has no direction to move in, unordered choices and the parameters of branches, is drawn like the best trials.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

import numpy as np
from cmaes import CMA

from foretell.context import Context
from foretell.errors import StudyError
from foretell.events import Ended, Opened, Started
from foretell.numerics.parzen import Array, fitted
from foretell.record import FoldEvent, Observed, Record
from foretell.samplers import Belief
from foretell.samplers._beliefs import Beliefs
from foretell.samplers._ranking import Ranking, weights
from foretell.space import Choice, Dimension, Space
from foretell.trial import State

__all__ = ["CMAES"]

_TRIES = 100
_LARGEST = 1e150  # of a loss: differences must not overflow
_REPORTED = {State.DONE, State.STOPPED, State.PAUSED}


@final
@dataclass(frozen=True)
class CMAES:
    """Draws from a normal distribution over the numbers, which takes a step whenever a population of trials has ended.

    A trial counts once, by its loss when it first ended or was paused; one that failed is worse than all others. It
    counts also if the distribution has moved since it was drawn: with many workers all have, and leaving them out costs
    more than what they tell of earlier places.

    Args:
        n_start: values before the other parameters are drawn like the best trials; random draws until then.
        sd: of the first distribution in each number, in shares of its range.
        population: trials that make one step; 4 + 3 ln(numbers) if left out, and twice as many after each restart.
        beliefs: what the user thinks of the best values, by parameter: there the search begins.

    Source: Hansen, The CMA Evolution Strategy: A Tutorial, 2016; Auger and Hansen, CEC 2005 (the restarts).
    """

    n_start: int = 10
    sd: float = 0.2
    population: int | None = None
    beliefs: Mapping[str, Belief] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.n_start < 2:
            raise StudyError(f"n_start={self.n_start} leaves nothing to learn from: use 2 or more.")
        if not 0.0 < self.sd <= 1.0:
            raise StudyError(f"sd={self.sd} is no share of a range: use a number above 0, 1 at most.")
        if self.population is not None and self.population < 4:
            raise StudyError(f"population={self.population} is too small to learn from: use 4 or more.")

    def init(self, space: Space) -> _Memory:
        """The distribution lies in the middle, or where the user believes."""
        beliefs = Beliefs.of(space, self.beliefs)
        numbers = [dimension.index for dimension in space.dimensions if _moves(dimension)]
        middle = np.full(len(space), 0.5) if beliefs.density is None else beliefs.density.centres.rows[0]
        return _Memory(beliefs, _Evolution.begun(numbers, middle[numbers], self.sd, self.population))

    def update(self, state: _Memory, event: FoldEvent) -> _Memory:
        """Note what became of the trials, in the order it happened."""
        state.ranking.note(event)
        state.note(event)
        return state

    def suggest(self, record: Record, context: Context) -> dict[str, Any]:
        """A draw that is feasible and new; a random one if there is none among many."""
        space, rng = context.space, context.rng
        memory: _Memory = record.state(self)
        memory.learn(record)
        if len(space):
            seed = int(rng.integers(2**32))
            for row in memory.others(record, self.n_start, rng):
                row[memory.evolution.numbers] = memory.evolution.drawn(seed)
                params = space.decode(row)
                if memory.ranking.is_new(params) and space.feasible(params):
                    return params
                seed = int(rng.integers(2**32))
        return space.sample(rng)


def _moves(dimension: Dimension) -> bool:
    """Whether a dimension has a direction, and every configuration a place on it."""
    parameter = dimension.parameter
    return not dimension.condition and (not isinstance(parameter, Choice) or parameter.ordered)


@final
@dataclass(slots=True)
class _Evolution:
    """The normal distribution, and what it will learn from next.

    Args:
        numbers: dimensions it moves in.
        normal: None without any.
        sd: of it where it begins.
        pool: (point, loss) for the next step.
        restarts: how often it began anew.
    """

    numbers: list[int]
    normal: CMA | None
    sd: float
    pool: list[tuple[Array, float]] = field(default_factory=list)
    restarts: int = 0

    @classmethod
    def begun(cls, numbers: list[int], mean: Array, sd: float, population: int | None) -> _Evolution:
        """Around a mean."""
        return cls(numbers, _normal(mean, sd, population) if numbers else None, sd)

    def drawn(self, seed: int) -> Array:
        """(numbers,) a draw, which changes nothing but the generator that it was given."""
        if self.normal is None:
            return np.zeros(0)
        self.normal.reseed_rng(seed)
        return np.asarray(self.normal.ask())

    def learn(self, point: Array, loss: float) -> None:
        """Count a trial; with the last of a population, take a step, or begin anew where there is none left to take."""
        if self.normal is None:
            return
        self.pool.append((point, min(max(loss, -_LARGEST), _LARGEST)))
        if len(self.pool) < self.normal.population_size:
            return
        self.normal.tell(list(self.pool))
        self.pool.clear()
        if self.normal.should_stop():
            self.restarts += 1
            anywhere = np.random.default_rng(self.restarts).random(len(self.numbers))
            self.normal = _normal(anywhere, self.sd, 2 * self.normal.population_size)


def _normal(mean: Array, sd: float, population: int | None) -> CMA:
    bounds = np.tile([0.0, 1.0], (len(mean), 1))
    return CMA(mean=np.array(mean), sigma=sd, bounds=bounds, population_size=population, seed=0)


class _End(NamedTuple):
    """A trial's first end: its losses then, and which of them a record counts."""

    trial: int
    last: float
    best: float
    tracked: bool


@final
@dataclass(slots=True)
class _Memory:
    """The fold.

    Args:
        beliefs: of the user, about this space.
        evolution: of the numbers.
        ranking: of all trials.
        losses: (last, best) of the trials that have not ended.
        tracked: those of them whose best weights are kept.
        ends: that the distribution has not learned yet, in their order.
        told: trials that it has, or will.
    """

    beliefs: Beliefs
    evolution: _Evolution
    ranking: Ranking = field(default_factory=Ranking)
    losses: dict[int, tuple[float, float]] = field(default_factory=dict)
    tracked: set[int] = field(default_factory=set)
    ends: list[_End] = field(default_factory=list)
    told: set[int] = field(default_factory=set)

    def note(self, event: FoldEvent) -> None:
        """Fold one event."""
        if isinstance(event, Opened) and event.tracked:
            self.tracked.add(event.trial)
        elif isinstance(event, Started) and event.step == 0:
            self.losses.pop(event.trial, None)
        elif isinstance(event, Observed) and event.trial not in self.told:
            loss = event.loss if math.isfinite(event.loss) else math.inf
            self.losses[event.trial] = (loss, min(loss, self.losses.get(event.trial, (loss, loss))[1]))
        elif isinstance(event, Ended) and event.trial not in self.told:
            failed = event.state in (State.FAILED, State.DIVERGED)
            if failed or (event.state in _REPORTED and event.trial in self.losses):
                last, best = (math.inf, math.inf) if failed else self.losses[event.trial]
                self.ends.append(_End(event.trial, last, best, event.trial in self.tracked))
                self.told.add(event.trial)
                self.losses.pop(event.trial, None)

    def learn(self, record: Record) -> None:
        """Let the distribution take the steps that have come due."""
        self.ranking.refresh(record)
        for end in self.ends:
            by_best = record.value_mode == "best" or (record.value_mode == "auto" and end.tracked)
            point = record.encoded.array[end.trial, self.evolution.numbers]
            self.evolution.learn(point, end.best if by_best else end.last)
        self.ends.clear()

    def others(self, record: Record, n_start: int, rng: np.random.Generator) -> Array:
        """(tries, d) draws of which the parameters count that the distribution does not move."""
        axes, good, seen = self.beliefs.axes, self.ranking.good, len(self.ranking.ranked)
        if len(self.evolution.numbers) == len(axes):
            return np.full((_TRIES, len(axes)), 0.5)
        if seen < n_start or not good:
            return self.beliefs.draw(_TRIES, seen, rng)
        best = axes.snap(record.encoded.array.take(good, axis=0))
        return fitted(axes, best, weights(len(good))).sample(_TRIES, rng).rows
