"""What is special to the Gaussian-process sampler: where it looks, what it believes, what it forgets."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell import events
from foretell.context import Context
from foretell.errors import StudyError
from foretell.objective import Objective
from foretell.record import Record
from foretell.samplers.gp import GP, Targets, _chosen, _Cube, _scaled, targets
from foretell.space import Choice, Float, Int, Space
from foretell.trial import State

SQUARE = Space(x=Float(-2, 3), y=Float(1e-3, 1.0, log=True))
NESTED = Space(
    rate=Float(1e-4, 1.0, log=True),
    kind=Choice(
        {
            "a": {"depth": Int(1, 6), "inner": Choice({"p": {"width": Int(4, 900, log=True)}, "q": {}})},
            "b": {"depth": Float(0, 1, step=0.25)},
            "c": {},
        },
        weights=[1, 2, 3],
    ),
    size=Choice([16, 32, 64], ordered=True),
    seed=Int(0, 10**6),
)

Outcome = float | State


def propose(member: GP, record: Record, seed: int = 0) -> dict[str, Any]:
    context = Context(space=record.space, objective=record.objective, seed=seed, decision=record.log_length())
    return member.suggest(record, context)


def add(record: Record, params: dict[str, Any], outcome: Outcome | None = None) -> None:
    """One trial: finished with a loss, ended in a state, or still running."""
    number = len(record)
    record.apply(events.Created(number, params), 0.0)
    record.apply(events.Started(number, 1), 0.0)
    if outcome is None:
        return
    state = outcome if isinstance(outcome, State) else State.DONE
    if not isinstance(outcome, State):
        record.apply(events.Reported(number, 1, 1, {"m": outcome}), 0.0)
    record.apply(events.Ended(number, 1, state, 1), 0.0)


def searched(member: GP, space: Space, loss: Callable[[dict[str, Any]], Outcome], trials: int, seed: int = 0) -> Record:
    record = Record(space, Objective("m"))
    for _ in range(trials):
        params = propose(member, record, seed)
        add(record, params, loss(params))
    return record


def bowl(params: dict[str, Any]) -> float:
    return (params["x"] - 1.2) ** 2 + (math.log10(params["y"]) + 1.5) ** 2


# --- what it finds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_a_smooth_bowl_is_found_to_many_digits(seed: int) -> None:
    record = searched(GP(), SQUARE, bowl, 25, seed)
    assert record.losses.array[:8].min() > 0.01
    assert record.losses.array.min() < 1e-4


def test_shift_and_scale_of_the_losses_change_nothing() -> None:
    plain = searched(GP(), SQUARE, bowl, 14)
    moved = searched(GP(), SQUARE, lambda params: 1024 * bowl(params) - 4096, 14)
    np.testing.assert_allclose(plain.encoded.array, moved.encoded.array, atol=1e-3)


def test_the_right_branch_and_option_are_found() -> None:
    def loss(params: dict[str, Any]) -> float:
        extra = {"a": 2.0, "b": 0.0, "c": 1.0}[params["kind"]]
        inner = 4 * (params["depth"] - 0.75) ** 2 if params["kind"] == "b" else 0.0
        return extra + inner + (math.log10(params["rate"]) + 2) ** 2 + abs(math.log2(params["size"]) - 6)

    best = searched(GP(), NESTED, loss, 40).trials[:]
    params = min(best, key=lambda trial: trial.value or 0.0).params
    assert (params["kind"], params["depth"], params["size"]) == ("b", 0.75, 64)
    assert abs(math.log10(params["rate"]) + 2) < 0.1


def test_an_optimum_beyond_a_constraint_is_sought_along_it() -> None:
    space = Space(x=Float(0, 1), y=Float(0, 1), constraints="x + y <= 1")
    record = searched(GP(), space, lambda params: (params["x"] - 0.8) ** 2 + (params["y"] - 0.9) ** 2, 30)
    assert all(space.feasible(params) for params in record.params)
    assert record.losses.array.min() < 0.25  # 0.245 at (0.45, 0.55)


def test_a_region_that_fails_is_avoided() -> None:
    def loss(params: dict[str, Any]) -> Outcome:
        return State.FAILED if params["x"] > 0.5 else 1.0 - 0.3 * params["x"]

    record = searched(GP(random_share=0.0), SQUARE, loss, 30)
    late = [params["x"] > 0.5 for params in record.params[10:]]
    assert sum(late) <= 6
    assert max(params["x"] for params in record.params if params["x"] <= 0.5) > 0.3


def test_noise_is_not_chased() -> None:
    rng = np.random.default_rng(0)
    record = searched(GP(), SQUARE, lambda params: bowl(params) + 0.3 * rng.standard_normal(), 40)
    late = [bowl(params) for params in record.params[20:]]
    assert np.median(late) < 0.3


# --- what it does not repeat -----------------------------------------------------------------------------------------


def test_every_value_of_a_small_space_comes_before_any_twice() -> None:
    space = Space(n=Int(1, 5), kind=Choice(["a", "b", "c", "d"]))
    record = searched(GP(n_start=2, random_share=0.0), space, lambda params: params["n"] + (params["kind"] == "b"), 2)
    seen = {tuple(params.values()) for params in record.params}
    while len(seen) < space.size():
        params = propose(GP(n_start=2, random_share=0.0), record)
        assert tuple(params.values()) not in seen
        seen.add(tuple(params.values()))
        add(record, params, float(params["n"]))
    assert space.validate(propose(GP(n_start=2, random_share=0.0), record))


def test_pending_trials_are_not_proposed_again() -> None:
    record = searched(GP(), SQUARE, bowl, 12)
    for _ in range(6):
        add(record, propose(GP(random_share=0.0), record, seed=5))
    rows = record.encoded.array[12:]
    gaps = np.linalg.norm(rows[:, None] - rows, axis=2)[np.triu_indices(6, 1)]
    assert gaps.min() > 0.05 * math.sqrt(2 / 7)


def test_spacing_keeps_away_from_earlier_trials() -> None:
    record = searched(GP(spacing=0.2, random_share=0.0), SQUARE, bowl, 20)
    rows = record.encoded.array
    gaps = [np.linalg.norm(rows[:index] - rows[index], axis=1).min() for index in range(8, 20)]
    assert min(gaps) > 0.2 * math.sqrt(2 / 7)


# --- what it is fitted to --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [1.0, State.FAILED, State.DIVERGED, State.CANCELLED, math.inf, math.nan])
def test_trials_that_all_end_alike_are_no_obstacle(outcome: Outcome) -> None:
    record = searched(GP(), SQUARE, lambda _: outcome, 20)
    assert SQUARE.validate(propose(GP(), record))


def test_one_good_trial_among_failures_is_enough() -> None:
    record = searched(GP(), SQUARE, lambda _: State.FAILED, 12)
    add(record, propose(GP(), record), 0.5)
    add(record, propose(GP(random_share=0.0), record), -1e300)
    assert SQUARE.validate(propose(GP(random_share=0.0), record))


def curve(record: Record, number: int, losses: list[float]) -> None:
    record.apply(events.Created(number, {"x": 0.0, "y": 0.1}), 0.0)
    record.apply(events.Started(number, 1), 0.0)
    for step, loss in enumerate(losses, 1):
        record.apply(events.Reported(number, 1, step, {"m": loss}), 0.0)


@pytest.mark.parametrize(("mode", "now", "then"), [("last", [5.0, math.inf], 3.0), ("best", [1.0, 4.0], 1.0)])
def test_targets_are_the_trials_values_now_or_at_earlier_steps(mode: Any, now: list[float], then: float) -> None:
    record = Record(SQUARE, Objective("m"), value=mode)
    curve(record, 0, [2.0, 1.0, 3.0, 5.0])
    curve(record, 1, [4.0, math.nan])
    curve(record, 2, [])
    context = Context(space=SQUARE, objective=record.objective)
    seen = targets(record, context, {1})
    assert seen.trials.tolist() == [0, 1] and seen.losses.tolist() == now and seen.sd.tolist() == [0.0, 0.0]
    back = targets(record, context, frozenset(), {0: 3})
    assert back.trials.tolist() == [0] and back.losses.tolist() == [then]


def test_values_that_were_lost_with_an_attempt_are_forgotten() -> None:
    record = searched(GP(), SQUARE, lambda _: State.FAILED, 7)
    curve(record, 7, [1.0, 0.5])
    record.apply(events.Started(7, 2, step=0), 0.0)  # from its first epoch again
    add(record, {"x": 1.0, "y": 0.5}, 0.25)
    assert SQUARE.validate(propose(GP(random_share=0.0), record))


@given(
    losses=st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=30),
    shift=st.floats(-100, 100),
    factor=st.floats(0.01, 100),
)
@settings(max_examples=50)
def test_scaled_losses_keep_their_order_and_forget_their_units(
    losses: list[float], shift: float, factor: float
) -> None:
    raw = np.round(np.array([*losses, math.inf]), 3)
    trials, sd = np.arange(len(raw)), np.full(len(raw), 0.1)
    scaled = _scaled(Targets(trials, raw, sd))
    order = np.argsort(raw, kind="stable")
    assert (np.diff(scaled.losses[order]) >= 0).all() and (np.diff(scaled.sd[order]) <= 1e-12).all()
    assert scaled.losses.min() == 0.0 and scaled.losses.max() <= 3.0
    assert scaled.losses[-1] == scaled.losses[:-1].max()
    moved = _scaled(Targets(trials, factor * raw + shift, factor * sd))
    np.testing.assert_allclose(moved.losses, scaled.losses, atol=1e-6)
    np.testing.assert_allclose(moved.sd, scaled.sd, rtol=1e-6)


def test_up_to_three_times_the_median_losses_are_linear() -> None:
    scaled = _scaled(Targets(np.arange(5), np.array([10.0, 11.0, 12.0, 16.0, 1e9]), np.ones(5)))
    np.testing.assert_allclose(scaled.losses, [0, 1 / 6, 2 / 6, 1, 3])
    np.testing.assert_allclose(scaled.sd[:4], 1 / 6)


def test_of_many_trials_the_best_half_and_a_spread_of_the_others_are_chosen() -> None:
    losses = np.random.default_rng(0).permutation(1000).astype(float)
    chosen = _chosen(Targets(np.arange(1000), losses, np.zeros(1000)), 100)
    assert len(set(chosen.tolist())) == 100
    assert set(range(50)) <= set(losses[chosen].tolist())
    assert np.quantile(losses[chosen], 0.75) == pytest.approx(525, abs=100)
    bowl_of_few = searched(GP(max_points=12), SQUARE, bowl, 30)
    assert bowl_of_few.losses.array.min() < 1e-2


def test_the_hyperparameters_are_fitted_again_when_there_are_30_per_cent_more_values() -> None:
    member, record = GP(random_share=0.0), Record(SQUARE, Objective("m"))
    fits: list[int] = []
    last = None
    for number in range(40):
        params = propose(member, record)
        theta = record.state(member).theta
        if theta is not last:
            fits.append(number)
            last = theta
        add(record, params, bowl(params))
    assert fits == [8, 11, 15, 20, 26, 34]


# --- the cube --------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32))
@settings(max_examples=30)
def test_snapped_points_are_encoded_configurations(seed: int) -> None:
    cube, rng = _Cube.of(NESTED), np.random.default_rng(seed)
    points = rng.random((5, len(NESTED)))
    snapped = cube.snap(points)
    for point, row, active in zip(points, snapped.rows, snapped.active, strict=True):
        params = NESTED.decode(row)
        # One of a million whole numbers is as good as continuous here.
        np.testing.assert_allclose(NESTED.encode(params), row, atol=1e-6)
        assert NESTED.active(params).tolist() == active.tolist()
        assert NESTED.decode(point)["kind"] == params["kind"]
    np.testing.assert_array_equal(cube.snap(snapped.rows).rows, snapped.rows)


def test_the_cube_knows_how_many_dimensions_are_active_on_average() -> None:
    rng = np.random.default_rng(0)
    active = np.mean([NESTED.active(NESTED.sample(rng)).sum() for _ in range(4000)])
    assert _Cube.of(NESTED).dimensions == pytest.approx(active, abs=0.05)
    assert _Cube.of(SQUARE).dimensions == 2


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20)
def test_moves_stay_inside_and_near_but_change_every_choice(seed: int) -> None:
    cube, rng = _Cube.of(NESTED), np.random.default_rng(seed)
    base = cube.snap(rng.random((4, len(NESTED))))
    moves = cube.moves(base, np.full(4, 0.05), rng)
    near = cube.near(base, np.full(4, 0.05), 0.5, rng)
    assert moves.shape == (4, 3 * len(NESTED), len(NESTED))
    assert (moves >= 0).all() and (moves <= 1).all() and (near >= 0).all() and (near <= 1).all()
    kind = next(dimension.index for dimension in NESTED.dimensions if dimension.name == "kind")
    moved = cube.snap(moves[:, kind])
    assert (moved.codes[:, kind] != base.codes[:, kind]).all()
    depth = next(dimension.index for dimension in NESTED.dimensions if dimension.name == "depth")
    stepped = cube.snap(moves[:, depth])  # the step is less than a value's width: one value further all the same
    used = base.active[:, depth]
    assert (np.abs(stepped.codes[used, depth] - base.codes[used, depth]) == 1).all()


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"n_start": 1}, "use 2 or more"),
        ({"random_share": 1.5}, "from 0 to 1"),
        ({"candidates": 1}, "or more"),
        ({"max_points": 4}, "or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], cure: str) -> None:
    with pytest.raises(StudyError, match=cure):
        GP(**options)


def test_a_random_share_of_one_is_random_search() -> None:
    record = searched(GP(), SQUARE, bowl, 12)
    context = Context(space=SQUARE, objective=record.objective, seed=0, decision=record.log_length())
    expected = np.random.default_rng((0, record.log_length()))
    expected.random()
    assert GP(random_share=1.0).suggest(record, context) == SQUARE.sample(expected)
