"""ASHA against a naive reading of algorithm 2 of Li et al. (2020)."""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import foretell as ft
from foretell import events
from foretell.errors import StudyError
from foretell.objective import Objective
from foretell.record import Record
from foretell.schedulers._ladder import rungs
from tests.conformance.replayed import SPACE, Plan, conducted, log_of, plans
from tests.conformance.test_schedulers import granted

Job = tuple[int, int]


def algorithm_2(losses: list[list[float]], eta: int, first: int) -> list[Job]:
    """(trial, epochs to train to) of each job that one worker is given; a curve that diverges is the worst."""
    levels = [first * eta**k for k in range(20)]
    standing: dict[int, dict[int, float]] = {}  # rung -> trial -> loss
    promoted: dict[int, set[int]] = {}
    jobs: list[Job] = []
    started = 0
    while True:
        job = None
        for k in sorted(standing, reverse=True):
            ranked = sorted(standing[k], key=lambda trial, k=k: (standing[k][trial], trial))
            top = [trial for trial in ranked[: len(ranked) // eta] if math.isfinite(standing[k][trial])]
            free = [trial for trial in top if trial not in promoted.get(k, set())]
            if free:
                job = (free[0], k + 1)
                promoted.setdefault(k, set()).add(free[0])
                break
        if job is None:
            if started == len(losses):
                return jobs
            job, started = (started, 0), started + 1
        trial, k = job
        horizon = len(losses[trial])
        target = levels[k] if levels[k] < horizon else horizon
        jobs.append((trial, target))
        bad = next((step for step, loss in enumerate(losses[trial][:target], 1) if not math.isfinite(loss)), None)
        if levels[k] < horizon:
            standing.setdefault(k, {})[trial] = losses[trial][target - 1] if bad is None else math.inf


@pytest.mark.parametrize("eta", [2, 3, 4])
@pytest.mark.parametrize("first", [1, 2])
@given(plan=plans(trials=40, horizons=(9, 27)))
def test_one_worker_does_the_jobs_of_algorithm_2(eta: int, first: int, plan: Plan) -> None:
    horizon = max(len(recording.values) for recording in plan.recordings)
    recordings = [ft.Recording(r.values) for r in plan.recordings if len(r.values) == horizon]
    plan = Plan(recordings)
    study = conducted(plan, ft.ASHA(eta, first, spare_twins=False))
    expected = algorithm_2([list(recording.values) for recording in recordings], eta, first)
    if study.verdict.rule != "failures":
        assert granted(log_of(study, plan), plan) == expected


@given(plan=plans(trials=30, healthy=True), eta=st.integers(2, 4))
def test_with_many_workers_each_promotion_was_in_the_top_of_its_rung(plan: Plan, eta: int) -> None:
    plan = Plan(plan.recordings, workers=plan.workers)
    log = log_of(conducted(plan, ft.ASHA(eta, 1, spare_twins=False)), plan)
    levels = rungs(9, 1, eta)
    losses: list[dict[int, float]] = [{} for _ in levels]
    reached: dict[int, int] = {}  # trial -> rungs it has reached
    entitled: dict[int, int] = {}  # trial -> rung from which it was promoted
    promotions = 0
    for event in log:
        match event:
            case events.Reported() if event.step in levels:
                losses_at = plan.recordings[event.trial].values[event.step - 1]
                assert losses_at == event.metrics["m"]
            case events.Reached():
                rung = levels.index(event.step)
                losses[rung][event.trial] = plan.recordings[event.trial].values[event.step - 1]
                reached[event.trial] = rung + 1
            case events.Started() if event.trial in reached:
                entitled[event.trial] = place(losses[reached[event.trial] - 1], event.trial, eta)
            case events.Granted() if event.trial in reached:
                rung = reached[event.trial] - 1
                assert entitled.pop(event.trial, 0) or place(losses[rung], event.trial, eta)
                promotions += 1
    assert promotions >= len(losses[0]) // eta if losses else True


def place(losses: dict[int, float], trial: int, eta: int) -> int:
    """1 if the trial is among the best 1/eta of its rung, else 0."""
    ranked = sorted(losses, key=lambda other: (losses[other], other))
    return int(ranked.index(trial) < len(ranked) // eta)


@given(plan=plans(trials=30, healthy=True), eta=st.integers(2, 4), workers=st.sampled_from([1, 3, 8]))
def test_runs_that_cannot_be_paused_are_judged_on_arrival(plan: Plan, eta: int, workers: int) -> None:
    plan = Plan(plan.recordings, workers=workers, can_pause=False)
    study = conducted(plan, ft.ASHA(eta, 1, spare_twins=False))
    levels, arrived = rungs(9, 1, eta), [list[tuple[float, int]]() for _ in rungs(9, 1, eta)]
    for event in log_of(study, plan):
        if isinstance(event, events.Reached):
            rung = levels.index(event.step)
            member = (plan.recordings[event.trial].values[event.step - 1], event.trial)
            arrived[rung].append(member)
            rank = bisect_left(sorted(arrived[rung]), member)
            goes_on = len(arrived[rung]) < eta or rank < len(arrived[rung]) // eta
            final = study.trials[event.trial]
            assert goes_on == (final.step > event.step)


def test_a_slice_that_runs_past_rungs_leaves_on_each_what_it_was_there() -> None:
    scheduler = ft.ASHA(3, 1)
    fresh = Record(SPACE, Objective("m"))
    for event in [
        events.Created(0, {"x": 0}), events.Started(0, 1), events.Opened(0, 1, 27, True, True), events.Granted(0, 1, 9),
        *(events.Reported(0, 1, step, {"m": 1 / step}) for step in range(1, 10)), events.Reached(0, 1, 9),
    ]:  # fmt: skip
        fresh.apply(event, 0.0)
    ladder: Any = fresh.state(scheduler)
    assert [rung.members for rung in ladder.rungs] == [[(1.0, 0)], [(1 / 3, 0)], [(1 / 9, 0)]]


def test_a_decision_is_told_in_words() -> None:
    plan = Plan([ft.Recording([float(number)] * 9) for number in range(6)])
    study = conducted(plan, ft.ASHA(3, 1))
    reasons = [verdict.reason for trial in study.trials for verdict in trial.decisions]
    assert "3rd of 3 runs at epoch 1: the best one goes on" in reasons
    refused = study.trials[5].decisions[-1]
    assert (refused.action, refused.rule, refused.step, refused.value) == ("pause", "asha", 1, 5.0)


@pytest.mark.parametrize("can_pause", [True, False])
@given(plan=plans(trials=20, horizons=(9,), healthy=True), copies=st.lists(st.integers(0, 19), max_size=20))
def test_of_twins_only_the_eldest_goes_on(can_pause: bool, plan: Plan, copies: list[int]) -> None:
    recordings = list(plan.recordings)
    recordings += [recordings[copy % len(recordings)] for copy in copies]
    twins = {tuple(recording.values) for recording in recordings}
    study = conducted(Plan(recordings, can_pause=can_pause), ft.ASHA(3, 1))
    deep = [tuple(recordings[trial.number].values[:3]) for trial in study.trials if trial.step > 3]
    assert len(deep) == len(set(deep)) <= len(twins)
    for trial in study.trials:
        if trial.decisions and "exactly the losses" in trial.decisions[-1].reason:
            eldest = int(trial.decisions[-1].reason.split()[-3])
            shared = trial.step
            assert eldest < trial.number
            assert recordings[eldest].values[:shared] == recordings[trial.number].values[:shared]


def test_a_twin_takes_no_place_in_the_comparison() -> None:
    best, others = ft.Recording([0.0] * 9), [ft.Recording([float(number)] * 9) for number in (1, 2)]
    study = conducted(Plan([best, others[0], best, best, others[1]]), ft.ASHA(3, 1))
    assert [trial.step for trial in study.trials] == [3, 1, 1, 1, 1]
    assert study.trials[4].decisions[-1].reason == "3rd of 3 runs at epoch 1: the best one goes on"
    assert study.trials[2].decisions[-1].reason == "has had exactly the losses of trial 0 so far"


@pytest.mark.parametrize(
    ("horizon", "first", "eta", "levels"),
    [
        (81, 1, 3, (1, 3, 9, 27)),
        (9, 1, 3, (1, 3)),
        (10, 1, 3, (1, 3, 9)),
        (1, 1, 3, ()),
        (0, 1, 2, ()),
        (8, 3, 2, (3, 6)),
    ],
)
def test_the_levels_lie_below_the_horizon(horizon: int, first: int, eta: int, levels: tuple[int, ...]) -> None:
    assert rungs(horizon, first, eta) == levels


@pytest.mark.parametrize("settings", [{"reduction_factor": 1}, {"first_rung": 0}])
def test_settings_that_make_no_sense(settings: dict[str, int]) -> None:
    with pytest.raises(StudyError, match="use "):
        ft.ASHA(**settings)


def test_without_a_first_rung_it_is_six_percent_of_the_horizon() -> None:
    for horizon, first in ((5, 1), (50, 3), (100, 6)):
        plan = Plan([ft.Recording([1.0] * horizon)])
        assert granted(log_of(conducted(plan, ft.ASHA()), plan), plan)[0] == (0, first)
