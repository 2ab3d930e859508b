"""What is special to the Parzen estimator: where it looks, what it counts as bad, what a belief does."""

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
from foretell.errors import SpaceError, StudyError
from foretell.objective import Objective
from foretell.record import Record
from foretell.samplers import Belief
from foretell.samplers._axes import axes_of
from foretell.samplers._beliefs import Beliefs, trust
from foretell.samplers._ranking import Ranking, weights
from foretell.samplers.tpe import TPE
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


def propose(member: Any, record: Record, seed: int = 0) -> dict[str, Any]:
    context = Context(space=record.space, objective=record.objective, seed=seed, decision=record.log_length())
    return dict(member.suggest(record, context))


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


def searched(
    member: Any, space: Space, loss: Callable[[dict[str, Any]], Outcome], trials: int, seed: int = 0
) -> Record:
    record = Record(space, Objective("m"))
    for _ in range(trials):
        params = propose(member, record, seed)
        add(record, params, loss(params))
    return record


def bowl(params: dict[str, Any]) -> float:
    return float((params["x"] - 1.2) ** 2 + (math.log10(params["y"]) + 1.5) ** 2)


def best(record: Record) -> float:
    return float(record.losses.array.min())


# --- what it finds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_bowl_is_found(seed: int) -> None:
    record = searched(TPE(), SQUARE, bowl, 80, seed)
    assert best(record) < 0.01
    assert np.median([bowl(params) for params in record.params[40:]]) < 0.3  # 2.4 for random draws


@pytest.mark.parametrize("seed", [0, 8])  # where the first good depth is another one
def test_the_right_branch_and_option_are_found(seed: int) -> None:
    def loss(params: dict[str, Any]) -> float:
        extra = {"a": 2.0, "b": 0.0, "c": 1.0}[params["kind"]]
        inner = 4 * (params["depth"] - 0.75) ** 2 if params["kind"] == "b" else 0.0
        return float(extra + inner + (math.log10(params["rate"]) + 2) ** 2 + abs(math.log2(params["size"]) - 6))

    record = searched(TPE(), NESTED, loss, 120, seed)
    params = record.params[int(record.losses.array.argmin())]
    assert (params["kind"], params["depth"], params["size"]) == ("b", 0.75, 64)
    assert abs(math.log10(params["rate"]) + 2) < 0.2


def test_what_branches_share_is_learned_from_all_of_them() -> None:
    space = Space(rate=Float(0, 1), kind=Choice({str(k): {f"own{k}": Float(0, 1)} for k in range(8)}))
    record = searched(TPE(), space, lambda params: abs(params["rate"] - 0.3) + 0.01 * int(params["kind"]), 60)
    rates = [params["rate"] for params in record.params[30:]]
    assert np.median(np.abs(np.array(rates) - 0.3)) < 0.12


def test_an_optimum_beyond_a_constraint_is_sought_along_it() -> None:
    space = Space(x=Float(0, 1), y=Float(0, 1), constraints="x + y <= 1")
    record = searched(TPE(), space, lambda params: (params["x"] - 0.8) ** 2 + (params["y"] - 0.9) ** 2, 80)
    assert all(space.feasible(params) for params in record.params)
    assert best(record) < 0.28  # 0.245 at (0.45, 0.55)


def test_a_region_that_fails_is_avoided() -> None:
    def loss(params: dict[str, Any]) -> Outcome:
        return State.FAILED if params["x"] > 0.5 else 1.0 - 0.3 * params["x"]

    record = searched(TPE(), SQUARE, loss, 60)  # the best lies at the edge of what fails
    assert sum(params["x"] > 1.0 for params in record.params[20:]) <= 8  # 16 of random draws
    assert best(record) < 0.87


@pytest.mark.parametrize("outcome", [1.0, State.FAILED, State.DIVERGED, State.CANCELLED, math.inf, math.nan])
def test_trials_that_all_end_alike_are_no_obstacle(outcome: Outcome) -> None:
    record = searched(TPE(), SQUARE, lambda _: outcome, 20)
    assert SQUARE.validate(propose(TPE(), record))


def test_shift_and_scale_of_the_losses_change_nothing() -> None:
    plain = searched(TPE(), SQUARE, bowl, 40)
    moved = searched(TPE(), SQUARE, lambda params: 1024 * bowl(params) - 4096, 40)
    np.testing.assert_array_equal(plain.encoded.array, moved.encoded.array)


# --- pending trials ---------------------------------------------------------------------------------------------------


def test_pending_trials_are_not_proposed_again() -> None:
    member = TPE()
    record = searched(member, SQUARE, bowl, 60)
    alone = [propose(member, record, seed)["x"] for seed in range(40)]
    for _ in range(40):
        add(record, {"x": 1.2, "y": 10**-1.5})
    crowd = [propose(member, record, seed)["x"] for seed in range(40)]
    near = [(np.abs(np.array(values) - 1.2) < 0.2).mean() for values in (alone, crowd)]
    assert near[1] < 0.5 * near[0]


def test_every_value_of_a_small_space_comes_before_any_twice() -> None:
    space = Space(n=Int(1, 4), kind=Choice(["a", "b"]))
    record = Record(space, Objective("m"))
    for params in ({"n": 1, "kind": "a"}, {"n": 4, "kind": "b"}):
        add(record, params, float(params["n"]))  # type: ignore[arg-type]
    for seed in range(40):
        params = propose(TPE(n_start=2, random_share=0.0, candidates=200), record, seed)
        assert params not in record.params


# --- the ranking ------------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.one_of(st.floats(-5, 5), st.sampled_from([State.FAILED, State.DIVERGED, State.CANCELLED, math.nan, None])),
        max_size=30,
    )
)
@settings(max_examples=40)
def test_the_ranking_is_that_of_a_sort(outcomes: list[Any]) -> None:
    record, ranking = Record(SQUARE, Objective("m")), Ranking()
    for number, outcome in enumerate(outcomes):
        before = record.log_length()
        add(record, {"x": 0.0, "y": 0.1}, outcome)
        for position in range(before, record.log_length()):
            ranking.note(record.event(position))
        if number % 3 == 0:  # how often it is looked at must not matter
            ranking.refresh(record)
    ranking.refresh(record)
    worth = {
        number: math.inf if isinstance(outcome, State) or math.isnan(outcome) else outcome
        for number, outcome in enumerate(outcomes)
        if outcome is not None and outcome is not State.CANCELLED
    }
    assert ranking.ranked == sorted((loss, number) for number, loss in worth.items())
    assert list(ranking.pending) == [number for number, outcome in enumerate(outcomes) if outcome is None]
    assert ranking.good == [
        number for loss, number in ranking.ranked[: min(25, math.ceil(0.1 * len(worth)))] if loss < math.inf
    ]


def test_a_trial_counts_by_its_loss_now() -> None:
    record, ranking = Record(SQUARE, Objective("m"), value="last"), Ranking()
    log = [events.Created(0, {"x": 0.0, "y": 0.1}), events.Started(0, 1)]
    log += [events.Reported(0, 1, step, {"m": loss}) for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0))]
    log += [events.Started(0, 2, 0)]  # lost: trained again from its first epoch
    seen = []
    for event in log:
        before = record.log_length()
        record.apply(event, 0.0)
        for position in range(before, record.log_length()):
            ranking.note(record.event(position))
        ranking.refresh(record)
        seen.append((list(ranking.ranked), list(ranking.pending)))
    assert seen == [([], [0])] * 2 + [([(loss, 0)], []) for loss in (3.0, 1.0, 2.0)] + [([], [0])]


def test_weights_fall_with_the_logarithm_of_the_rank() -> None:
    assert weights(1).tolist() == [1.0]
    ten = weights(10)
    assert ten.mean() == pytest.approx(1.0) and (np.diff(ten) < 0).all() and ten[-1] > 0
    assert ten[0] / ten[1] == pytest.approx(math.log(10.5) / math.log(5.25))


def test_kernels_are_capped_and_spread_over_the_ranks() -> None:
    record = Record(SQUARE, Objective("m"))
    rng = np.random.default_rng(0)
    losses = rng.permutation(500).astype(float)
    for loss in losses:
        add(record, SQUARE.sample(rng), float(loss))
    for _ in range(60):
        add(record, SQUARE.sample(rng))
    member = TPE(max_kernels=40)
    ranking = record.state(member).ranking
    ranking.refresh(record)
    others = member._others(ranking, len(ranking.good))
    assert len(ranking.good) == 25 and len(others) == 80
    chosen = losses[others[:40]]
    assert chosen.min() == 25 and chosen.max() > 480 and np.ptp(np.diff(np.sort(chosen))) <= 1
    assert others[40:] == list(range(559, 519, -1))  # the newest of those that are pending


# --- beliefs ----------------------------------------------------------------------------------------------------------

RIGHT = {"x": Belief(1.2, "high"), "y": Belief(10**-1.5, "high")}
WRONG = {"x": Belief(-1.9, "high"), "y": Belief(0.9, "high")}


def medians(trials: int, beliefs: dict[str, Belief]) -> float:
    return float(np.median([best(searched(TPE(beliefs=beliefs), SQUARE, bowl, trials, seed)) for seed in range(7)]))


def test_a_good_belief_is_faster() -> None:
    assert medians(8, RIGHT) < 0.2 * medians(8, {})


def test_a_misleading_belief_is_overcome() -> None:
    assert medians(8, WRONG) > medians(8, {})
    assert medians(90, WRONG) < 0.02


def test_a_belief_counts_less_the_more_was_seen() -> None:
    beliefs = Beliefs.of(SQUARE, RIGHT)
    points = beliefs.axes.snap(np.array([SQUARE.encode({"x": 1.2, "y": 10**-1.5}), [0.0, 0.0]]))
    gaps = [np.ptp(beliefs.log_weight(points, seen)) for seen in (0, 10, 100, 10_000)]
    assert gaps[0] > 5 and gaps[1] == pytest.approx(0.5 * gaps[0]) and gaps[2] < 0.1 * gaps[0] and gaps[3] < 0.01
    assert [trust(seen) for seen in (0, 10, 90)] == [1.0, 0.5, 0.1]
    drawn = beliefs.draw(4000, 10, np.random.default_rng(0))
    near = np.abs(drawn[:, 0] - points.rows[0, 0]) < 0.1
    assert near.mean() == pytest.approx(0.4 * 0.954 + 0.6 * 0.2, abs=0.03)  # half of 80 % and 20 % of the width


def test_without_beliefs_a_draw_is_the_spaces_own() -> None:
    beliefs = Beliefs.of(NESTED, {})
    assert beliefs.sample(NESTED, 0, np.random.default_rng(3)) == NESTED.sample(np.random.default_rng(3))
    assert (beliefs.log_weight(axes_of(NESTED).snap(np.zeros((3, len(NESTED)))), 0) == 0).all()


def test_a_belief_in_an_option_and_below_it() -> None:
    beliefs = Beliefs.of(NESTED, {"kind": Belief("a", "high"), "depth": Belief(5, "high")})
    rng = np.random.default_rng(0)
    drawn = [beliefs.sample(NESTED, 0, rng) for _ in range(600)]
    share = np.mean([params["kind"] == "a" for params in drawn])
    assert share == pytest.approx(0.8 * (0.9 + 0.1 / 6) + 0.2 / 6, abs=0.05)
    assert np.median([params["depth"] for params in drawn if params["kind"] == "a"]) == 5
    assert np.mean([params["depth"] == 0.5 for params in drawn if params["kind"] == "b"]) < 0.5  # 5 is no depth there


def test_beliefs_keep_to_constraints() -> None:
    space = Space(x=Float(0, 1), y=Float(0, 1), constraints="x + y <= 1")
    beliefs = Beliefs.of(space, {"x": Belief(0.95, "high"), "y": Belief(0.95, "high")})
    rng = np.random.default_rng(0)
    assert all(space.feasible(beliefs.sample(space, 0, rng)) for _ in range(50))


@pytest.mark.parametrize(
    ("beliefs", "words"),
    [
        ({"xx": 1.0}, "Did you mean 'x'"),
        ({"x": 7.0}, "above its highest value"),
        ({"x": "much"}, "where a number belongs"),
    ],
)
def test_beliefs_that_cannot_be_are_refused(beliefs: dict[str, Any], words: str) -> None:
    member = TPE(beliefs={name: Belief(value) for name, value in beliefs.items()})
    with pytest.raises(SpaceError, match=words):
        propose(member, Record(SQUARE, Objective("m")))


def test_a_confidence_that_does_not_exist_is_named() -> None:
    with pytest.raises(SpaceError, match="Did you mean 'high'"):
        Belief(1.0, "hgh")  # type: ignore[arg-type]


def test_a_random_share_of_one_is_random_search() -> None:
    record = searched(TPE(), SQUARE, bowl, 30)
    expected = np.random.default_rng((0, record.log_length()))
    expected.random()
    assert propose(TPE(random_share=1.0), record) == SQUARE.sample(expected)


@pytest.mark.parametrize("options", [{"n_start": 1}, {"candidates": 0}, {"max_kernels": 0}, {"random_share": 1.1}])
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(StudyError, match=r"or more|from 0 to 1"):
        TPE(**options)


# --- the axes ---------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_snapped_points_are_encoded_configurations(seed: int) -> None:
    axes, rng = axes_of(NESTED), np.random.default_rng(seed)
    snapped = axes.snap(rng.random((5, len(NESTED))))
    for row, active in zip(snapped.rows, snapped.active, strict=True):
        params = NESTED.decode(row)
        np.testing.assert_allclose(NESTED.encode(params), row, atol=0.05)  # a number of many values is not snapped
        assert NESTED.active(params).tolist() == active.tolist()
