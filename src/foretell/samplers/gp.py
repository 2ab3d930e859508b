"""A Gaussian process over configurations proposes where improvement is expected most.

What it is fitted to comes from one function, `targets`; the rest is arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from foretell.context import Context
from foretell.errors import StudyError
from foretell.events import Ended
from foretell.numerics.acquisition import log_expected_improvement
from foretell.numerics.gp import Posterior, Prior, condition, fit
from foretell.numerics.kernels import Layout, squared_distances
from foretell.record import FoldEvent, Observed, Record
from foretell.samplers import Belief
from foretell.samplers._beliefs import Beliefs
from foretell.space import Choice, Space
from foretell.trial import State

__all__ = ["GP"]

Array = NDArray[np.float64]

_GROWTH = 1.3  # more values before the hyperparameters are fitted again
_KNEE = 3.0  # beyond so many distances of the median from the best, losses count by their logarithm
_WORST = 3.0  # scaled loss beyond which it no longer matters how bad a trial was
_PARENTS, _DECAY = 8, 0.35  # near candidates descend from the best, the first most often
_STARTS, _ROUNDS, _FIRST_STEP = 5, 10, 0.1  # local refinement
_MOST_PLACES = 1024  # a number with more values than this is treated as continuous
_SAME, _APART = 1e-6, 0.05  # least spacing from any trial, and from a pending one, of which nothing is known yet
_CHUNK = 64  # candidates looked at together
_FIT_POINTS = 200  # values that a fit of the hyperparameters sees: it costs their number cubed, many times


@final
@dataclass(frozen=True)
class GP:
    """Expected improvement under a Gaussian process, maximised over far and near candidates and refined locally.

    Trials without a value count as if they will get what the process expects of them; failed ones as bad.

    Args:
        n_start: values before the process is asked; random draws until then.
        random_share: of later proposals that are random draws all the same, in [0, 1]: no model is always right.
        candidates: half of them anywhere in the space, half around the best trials.
        spacing: least distance from earlier trials in the unit cube, for 7 dimensions; it grows as their root.
        max_points: values the process sees: the better half of them the best, the others spread over the rest.
        beliefs: by parameter, where its best value is expected; they weigh proposals at first and fade.

    Source: Ament et al., NeurIPS 2023 (the acquisition); Hvarfner et al., ICML 2024 (the prior).
    """

    n_start: int = 8
    random_share: float = 0.1
    candidates: int = 500
    spacing: float = 1e-3
    max_points: int = 300
    beliefs: Mapping[str, Belief] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.n_start < 2:
            raise StudyError(f"n_start={self.n_start} leaves nothing to learn from: use 2 or more.")
        if not 0.0 <= self.random_share <= 1.0:
            raise StudyError(f"random_share={self.random_share} is no share: use a number from 0 to 1.")
        if self.candidates < 2 or self.max_points < self.n_start:
            raise StudyError(
                f"candidates={self.candidates} and max_points={self.max_points} are too few: "
                f"use 2 candidates and {self.n_start} points (n_start) or more."
            )

    def init(self, space: Space) -> _Memory:
        """Nothing seen."""
        return _Memory(_Cube.of(space), due=self.n_start)

    def update(self, state: _Memory, event: FoldEvent) -> _Memory:
        """Note how far every trial was seen, and at which moments the hyperparameters are due."""
        state.note(event)
        return state

    def suggest(self, record: Record, context: Context) -> dict[str, Any]:
        """A random draw at first and now and then, else where the improvement expected is highest."""
        space, rng = context.space, context.rng
        memory: _Memory = record.state(self)
        seen = targets(record, context, memory.bad)
        explores = rng.random() < self.random_share
        beliefs = Beliefs.of(space, self.beliefs)
        if not len(space) or len(seen.trials) < self.n_start or not np.isfinite(seen.losses).any() or explores:
            return beliefs.sample(space, len(record), rng)
        search = self._search(record, context, memory, seen, beliefs)
        for row in search.ranked(self.candidates, rng):
            params = space.decode(row)
            if space.feasible(params):
                return params
        return space.sample(rng)

    def _search(self, record: Record, context: Context, memory: _Memory, seen: Targets, beliefs: Beliefs) -> _Search:
        """The posterior given all that was seen, and given that pending trials get what is expected of them."""
        cube, theta = memory.cube, self._theta(record, context, memory)
        chosen = _chosen(seen, self.max_points)
        known = cube.snap(record.encoded.array[seen.trials[chosen]])
        y, noise = _standardised(_scaled(seen), chosen)
        points = cube.embed(known)
        posterior = condition(theta, points, y, noise, layout=cube.layout)
        incumbent = float(posterior.predict(points)[0].min())
        pending = [
            trial
            for trial in dict.fromkeys((*record.running, *record.paused, *record.ready))
            if not math.isfinite(record.losses[trial]) and trial not in memory.bad
        ]
        if pending:
            ahead = cube.embed(cube.snap(record.encoded.array[pending]))
            believed = posterior.predict(ahead)[0]
            posterior = posterior.extended(ahead, believed, np.zeros(len(pending)))
            incumbent = min(incumbent, float(believed.min()))
        apart = np.full(len(record), max(self.spacing, _SAME))
        apart[pending] = max(self.spacing, _APART)
        return _Search(
            space=context.space,
            cube=cube,
            posterior=posterior,
            incumbent=incumbent,
            parents=known.rows[np.argsort(y, kind="stable")[:_PARENTS]],
            tried=cube.embed(cube.snap(record.encoded.array)),
            apart=apart * math.sqrt(len(cube.places) / 7.0),
            beliefs=beliefs,
            trials=len(record),
        )

    def _theta(self, record: Record, context: Context, memory: _Memory) -> Array:
        """The hyperparameters, fitted to what was known when they were last due.

        They depend on the events alone, not on when the sampler was asked: a study taken up again goes on the same way.
        Each fit begins anew: one that began from the last would stay in a mode that the first few values suggested.
        """
        if memory.theta is None:
            cube = memory.cube
            seen = targets(record, context, memory.bad_then, memory.steps_then)
            if not np.isfinite(seen.losses).any():  # all that was known then is being trained again
                seen = targets(record, context, memory.bad)
            chosen = _chosen(seen, min(self.max_points, _FIT_POINTS))
            y, noise = _standardised(_scaled(seen), chosen)
            points = cube.embed(cube.snap(record.encoded.array[seen.trials[chosen]]))
            memory.theta = fit(points, y, noise, layout=cube.layout, prior=Prior(cube.dimensions))
        return memory.theta


class Targets(NamedTuple):
    """What the process is fitted to.

    Args:
        trials: (n,) their numbers.
        losses: (n,) what each is worth; infinity for a trial that failed or diverged.
        sd: (n,) how uncertain that is.
    """

    trials: NDArray[np.int64]
    losses: Array
    sd: Array


def targets(
    record: Record, context: Context, bad: frozenset[int] | set[int], steps: dict[int, int] | None = None
) -> Targets:
    """What every trial is worth: its loss now.

    Args:
        record: of the study.
        context: of the decision.
        bad: trials that failed, diverged or were not finite when last seen; those with a finite value count by that.
        steps: to look back: the step each trial had been seen at; others count as unknown.
    """
    losses = record.losses.array
    if steps is not None:
        losses = np.full(len(losses), np.inf)
        for trial, step in steps.items():
            losses[trial] = _loss_at(record, trial, step)
    good = np.flatnonzero(np.isfinite(losses))
    failed = np.array(sorted(trial for trial in bad if not math.isfinite(losses[trial])), np.int64)
    trials = np.concatenate((good, failed))
    return Targets(trials, np.concatenate((losses[good], np.full(len(failed), np.inf))), np.zeros(len(trials)))


def _loss_at(record: Record, trial: int, step: int) -> float:
    curve = record.curves[trial]
    best = record.value_mode == "best" or (record.value_mode == "auto" and record.tracked[trial])
    if not best or not len(curve):
        return curve.at(step)
    return float(curve.best_so_far[max(0, int(np.searchsorted(curve.steps, step, side="right")) - 1)])


def _scaled(seen: Targets) -> Targets:
    """Losses as 0 for the best, 1 at three times the median's distance from it, and logarithmic above that.

    How bad a bad trial is must not hide the differences between good ones; a failed trial is as bad as the worst.
    """
    finite = seen.losses[np.isfinite(seen.losses)]
    low, middle = float(finite.min()), float(np.median(finite))
    width = _KNEE * (middle - low)
    if width <= 1e-12 * max(abs(low), abs(middle)):  # most are equally good: the others tell the scale
        width = float(finite.max()) - low or float(seen.sd.max()) or 1.0
    ratio = (seen.losses - low) / width
    above = np.maximum(ratio, 1.0)
    scaled = np.where(ratio <= 1.0, ratio, 1.0 + np.log(above))
    worst = min(_WORST, float(scaled[np.isfinite(scaled)].max()))
    return Targets(seen.trials, np.minimum(scaled, worst), seen.sd / width / above)


def _standardised(scaled: Targets, index: NDArray[np.int64]) -> tuple[Array, Array]:
    y = scaled.losses[index]
    spread = float(y.std()) or 1.0
    return (y - y.mean()) / spread, (scaled.sd[index] / spread) ** 2


def _chosen(seen: Targets, most: int) -> NDArray[np.int64]:
    """Which of the targets the process sees: all, or the best half and an even choice of the others."""
    if len(seen.trials) <= most:
        return np.arange(len(seen.trials))
    order = np.argsort(seen.losses, kind="stable")
    best, others = order[: most // 2], np.sort(order[most // 2 :])
    spread = others[np.linspace(0, len(others) - 1, most - len(best)).round().astype(np.int64)]
    return np.sort(np.concatenate((best, spread)))


@final
@dataclass(slots=True)
class _Memory:
    """The fold: which trials were seen how far, now and when the hyperparameters were last due.

    Args:
        cube: of the space.
        due: number of values at which the hyperparameters are fitted again.
        steps: the step each trial was seen at.
        bad: trials that failed, diverged or were not finite when last seen.
        steps_then: `steps` when they were last due.
        bad_then: `bad` when they were last due.
        theta: the hyperparameters of that moment, once somebody asked for them.
    """

    cube: _Cube
    due: int
    steps: dict[int, int] = field(default_factory=dict)
    bad: set[int] = field(default_factory=set)
    steps_then: dict[int, int] = field(default_factory=dict)
    bad_then: frozenset[int] = frozenset()
    theta: Array | None = None

    def note(self, event: FoldEvent) -> None:
        """Fold one event."""
        if isinstance(event, Observed):
            if math.isfinite(event.loss):
                self.steps[event.trial] = event.step
                self.bad.discard(event.trial)
            else:
                self.bad.add(event.trial)
        elif isinstance(event, Ended) and event.state in (State.FAILED, State.DIVERGED):
            self.steps.pop(event.trial, None)
            self.bad.add(event.trial)
        elif isinstance(event, Ended) and event.state is State.CANCELLED:
            self.steps.pop(event.trial, None)
            self.bad.discard(event.trial)
        else:
            return
        count = len(self.steps) + len(self.bad)
        if count >= self.due and self.steps:
            self.due = math.ceil(_GROWTH * count)
            self.steps_then, self.bad_then, self.theta = dict(self.steps), frozenset(self.bad), None


class _Rows(NamedTuple):
    """Points of the unit cube that configurations have: (n, d) each."""

    rows: Array
    codes: NDArray[np.int64]
    active: NDArray[np.bool_]


@final
@dataclass(frozen=True, slots=True)
class _Cube:
    """The unit cube of a space, for many points at once.

    Args:
        layout: of the kernel.
        places: per dimension, where its values lie if they are few, else None.
        edges: per dimension, what parts the values from each other.
        needs: per dimension, the (dimension, code) pairs of choices that make it active.
    """

    layout: Layout
    places: tuple[Array | None, ...]
    edges: tuple[Array | None, ...]
    needs: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def dimensions(self) -> float:
        """How many are active in a draw from the prior, on average."""
        shares = [np.diff(np.zeros(0) if edges is None else edges, prepend=0.0, append=1.0) for edges in self.edges]
        return float(sum(math.prod([shares[parent][code] for parent, code in needs]) for needs in self.needs))

    @classmethod
    def of(cls, space: Space) -> _Cube:
        """The cube of a space."""
        places, edges, needs, options = [], [], [], []
        index = {(dimension.condition, dimension.name): dimension for dimension in space.dimensions}
        branches: dict[Any, int] = {}
        for dimension in space.dimensions:
            condition_ = dimension.condition
            parameter: Any = dimension.parameter
            unordered = isinstance(parameter, Choice) and not parameter.ordered
            count = parameter.grid_size(None)
            few = count is not None and (count <= _MOST_PLACES or isinstance(parameter, Choice))
            at = [parameter.to_unit(parameter.grid_value(i, None)) for i in range(count if few and count else 0)]
            places.append(np.array(at) if few else None)
            edges.append(_edges(at, isinstance(parameter, Choice)) if few else None)
            options.append(len(at) if unordered else 0)
            if condition_:
                branches.setdefault(condition_, len(branches))
            parents = [index[condition_[:depth], name] for depth, (name, _) in enumerate(condition_)]
            needs.append(
                tuple(
                    (parent.index, parent.parameter.options.index(option))
                    for parent, (_, option) in zip(parents, condition_, strict=True)
                    if isinstance(parent.parameter, Choice)
                )
            )
        layout = Layout(tuple(options), tuple(branches.get(d.condition, -1) for d in space.dimensions))
        return cls(layout, tuple(places), tuple(edges), tuple(needs))

    def snap(self, cube: Array) -> _Rows:
        """The encoded configurations at points of the cube."""
        rows = np.array(cube)
        codes = np.zeros(rows.shape, np.int64)
        active = np.ones(rows.shape, np.bool_)
        for dimension, (places, edges) in enumerate(zip(self.places, self.edges, strict=True)):
            if places is not None and edges is not None:
                codes[:, dimension] = np.searchsorted(edges, rows[:, dimension], side="right")
                rows[:, dimension] = places[codes[:, dimension]]
        for dimension, needs in enumerate(self.needs):
            for parent, code in needs:
                active[:, dimension] &= codes[:, parent] == code
        rows[~active] = 0.5
        return _Rows(rows, codes, active)

    def embed(self, rows: _Rows) -> Array:
        """The points that the kernel sees."""
        return self.layout.embed(rows.rows, rows.codes, rows.active)

    def near(self, parents: _Rows, step: Array, chance: float, rng: np.random.Generator) -> Array:
        """A point near each parent: some coordinates moved by about its step, options drawn anew.

        Args:
            parents: (n, d).
            step: (n,) sd of the moves.
            chance: of each coordinate to be moved; one is moved at least.
        """
        shape = parents.rows.shape
        moved = rng.random(shape) < chance
        moved[np.arange(shape[0]), rng.integers(shape[1], size=shape[0])] = True
        fresh = rng.random(shape)
        points = parents.rows + step[:, None] * rng.standard_normal(shape)
        for dimension, places in enumerate(self.places):
            if self.layout.options[dimension]:
                points[:, dimension] = fresh[:, dimension]
            elif places is not None:
                away = points[:, dimension] - parents.rows[:, dimension]
                points[:, dimension] = self._shift(dimension, parents.codes[:, dimension], away)
        points = np.where(moved, reflected(points), parents.rows)
        # What a parent does not use has no place to stay near to.
        return np.where(parents.active, points, fresh)

    def moves(self, base: _Rows, step: Array, rng: np.random.Generator) -> Array:
        """(n, 3d, d): along every coordinate up and down, and as many in all directions at once."""
        count, dims = base.rows.shape
        points = np.repeat(base.rows[:, None, :], 3 * dims, axis=1)
        for dimension, places in enumerate(self.places):
            for sign, slot in ((1.0, dimension), (-1.0, dims + dimension)):
                if self.layout.options[dimension]:
                    assert places is not None
                    codes = base.codes[:, dimension] + rng.integers(1, max(2, len(places)), size=count)
                    points[:, slot, dimension] = places[codes % len(places)]
                elif places is not None:
                    points[:, slot, dimension] = self._shift(dimension, base.codes[:, dimension], sign * step)
                else:
                    points[:, slot, dimension] += sign * step
        numbers = np.array([not options for options in self.layout.options])
        away = rng.standard_normal((count, dims, dims)) * (0.7 * step[:, None, None]) * numbers
        points[:, 2 * dims :] += away
        return reflected(points)

    def _shift(self, dimension: int, codes: NDArray[np.int64], away: Array) -> Array:
        """Places that lie so far away, but at least one value."""
        places = self.places[dimension]
        assert places is not None
        last = len(places) - 1
        jump = np.sign(away) * np.maximum(1.0, np.round(np.abs(away) * len(places)))
        to = np.abs(codes + jump.astype(np.int64))
        return np.asarray(places[np.clip(np.where(to > last, 2 * last - to, to), 0, last)])


def reflected(points: Array) -> Array:
    """Points outside the unit cube, by at most its width, mirrored at the walls they crossed."""
    return np.asarray(1.0 - np.abs(1.0 - np.abs(np.clip(points, -1.0, 2.0))))


def _edges(places: list[float], is_choice: bool) -> Array:
    """What parts neighbouring values: an option's place is the middle of its share, a number's edges lie half-way."""
    edges: list[float] = []
    for place, following in pairwise(places):
        edges.append(2.0 * place - (edges[-1] if edges else 0.0) if is_choice else 0.5 * (place + following))
    return np.array(edges)


@final
@dataclass(frozen=True, slots=True)
class _Search:
    """The search for the point where the improvement expected is highest."""

    space: Space
    cube: _Cube
    posterior: Posterior
    incumbent: float
    parents: Array
    tried: Array
    apart: Array
    beliefs: Beliefs
    trials: int

    def ranked(self, candidates: int, rng: np.random.Generator) -> Iterator[Array]:
        """Points that are far enough from earlier trials, best first."""
        dims, half = len(self.cube.places), candidates // 2
        far = self.beliefs.draw(candidates - half, self.trials, rng)
        ranks = np.minimum(rng.geometric(_DECAY, half) - 1, len(self.parents) - 1)
        step = np.exp(rng.uniform(math.log(0.01), math.log(0.3), half))
        near = self.cube.near(self.cube.snap(self.parents[ranks]), step, max(0.3, 2.0 / dims), rng)
        pool = self.cube.snap(np.vstack((far, near))).rows
        pool = pool[self.feasible(pool)]
        worth = self.worth(pool)
        order = np.argsort(-worth, kind="stable")
        refined, gains = self.refined(pool[order[:_STARTS]], worth[order[:_STARTS]], rng)
        rows = np.vstack((refined, pool))[np.argsort(-np.concatenate((gains, worth)), kind="stable")]
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            gaps = squared_distances(self.cube.embed(self.cube.snap(part)), self.tried)
            yield from part[(gaps > self.apart**2).all(axis=1)]

    def worth(self, rows: Array) -> Array:
        """The logarithm of the expected improvement at snapped rows, weighed by what the user believes."""
        mean, sd = self.posterior.predict(self.cube.embed(self.cube.snap(rows)))
        gain = log_expected_improvement(mean, sd, self.incumbent)
        return (
            gain + self.beliefs.log_weight(self.beliefs.axes.snap(rows), self.trials) if self.beliefs.density else gain
        )

    def feasible(self, rows: Array) -> NDArray[np.bool_]:
        """Which rows meet the constraints."""
        if not self.space.constraints:
            return np.ones(len(rows), np.bool_)
        return np.array([self.space.feasible(self.space.decode(row)) for row in rows], np.bool_)

    def refined(self, rows: Array, worth: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Where a pattern search from each row ends, and what that is worth."""
        count, dims = rows.shape
        step = np.full(count, _FIRST_STEP)
        for _ in range(_ROUNDS):
            moves = self.cube.snap(self.cube.moves(self.cube.snap(rows), step, rng).reshape(-1, dims)).rows
            values = self.worth(moves)
            tempting = np.flatnonzero(values > np.repeat(worth, 3 * dims))
            values[tempting[~self.feasible(moves[tempting])]] = -np.inf
            best = values.reshape(count, 3 * dims).argmax(axis=1) + 3 * dims * np.arange(count)
            better = values[best] > worth
            rows = np.where(better[:, None], moves[best], rows)
            worth = np.where(better, values[best], worth)
            step = np.where(better, step, 0.5 * step)
        return rows, worth
