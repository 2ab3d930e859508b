"""Hyperband against the table of its paper, and the promotions of its brackets by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import foretell as ft
from foretell.errors import StudyError
from foretell.trial import State
from tests.conformance.replayed import Plan, conducted, log_of
from tests.conformance.test_schedulers import granted

SIZES = {1: 81, 3: 34, 9: 15, 27: 8, 81: 5}  # first rung -> trials, for R = 81 and eta = 3


def orderly(count: int, *, seed: int = 0) -> list[ft.Recording]:
    """Flat curves, so that who is best is the same on every rung."""
    losses = np.random.default_rng(seed).permutation(count) / count
    return [ft.Recording([loss] * 81) for loss in losses.tolist()]


def first_slices(plan: Plan, study: ft.Study) -> dict[int, int]:
    """Epochs that each trial was granted first; all of them where nothing was cut."""
    first: dict[int, int] = {}
    for trial, until in granted(log_of(study, plan), plan):
        first.setdefault(trial, until)
    return {trial.number: first.get(trial.number, 81) for trial in study.trials}


@pytest.mark.parametrize("workers", [1, 8])
def test_one_round_has_the_brackets_of_the_paper(workers: int) -> None:
    plan = Plan(orderly(143), workers=workers)
    study = conducted(plan, ft.Hyperband(3))
    first = first_slices(plan, study)
    assert Counter(first.values()) == SIZES
    for lowest, size in SIZES.items():
        bracket = [trial for trial in study.trials if first[trial.number] == lowest]
        steps, expected, keep, rung = Counter(trial.step for trial in bracket), Counter[int](), size, lowest
        while rung < 81:
            expected[rung] = keep - max(1, keep // 3)
            keep, rung = max(1, keep // 3), rung * 3
        expected[81] = keep
        assert steps == expected
        by_loss = sorted(bracket, key=lambda trial: trial.curve[-1].loss)
        assert [trial.step for trial in by_loss] == sorted((trial.step for trial in bracket), reverse=True)


def test_the_round_begins_anew() -> None:
    plan = Plan(orderly(150), workers=4)
    first = first_slices(plan, conducted(plan, ft.Hyperband(3)))
    assert [first[number] for number in range(143, 150)] == [1] * 7


@pytest.mark.parametrize("count", [1, 2, 20, 81, 100])
def test_a_bracket_that_will_never_be_full_is_judged_as_it_is(count: int) -> None:
    plan = Plan(orderly(count), workers=3)
    study = conducted(plan, ft.Hyperband(3))
    best = min(study.trials, key=lambda trial: trial.curve[-1].loss)
    assert best.step == 81 and best.state is State.DONE and study.record.best == best.number


@pytest.mark.parametrize("workers", [1, 5])
def test_failed_runs_do_not_hold_a_bracket_up(workers: int) -> None:
    recordings = [ft.Recording(r.values, fails_at=1 + number % 2 if number % 3 == 0 else None)
                  for number, r in enumerate(orderly(81))]  # fmt: skip
    plan = Plan(recordings, workers=workers)
    study = conducted(plan, ft.Hyperband(3))
    assert study.record.counts[State.FAILED] >= 14
    assert max(trial.step for trial in study.trials) == 81


def test_runs_that_end_by_their_own_rule_do_not_hold_a_bracket_up() -> None:
    recordings = [ft.Recording([loss] * 81) for loss in np.linspace(0.1, 1.0, 81).tolist()]
    study = ft.Study(ft.Space(x=ft.Int(0, 80)), minimize="m", sampler="grid_search", scheduler=ft.Hyperband(3))
    study.run(
        None, "81 trials", executor=ft.Replay(lambda p: recordings[p["x"]]), stopping=ft.Divergence(0.6),
        progress="none",
    )  # fmt: skip
    done_early = [trial for trial in study.trials if trial.step == 1 and trial.state is State.DONE]
    assert len(done_early) > 20 and max(trial.step for trial in study.trials) == 81


@pytest.mark.parametrize("eta", [2, 3, 4, 6])
def test_sizes_are_exact(eta: int) -> None:
    scheduler = ft.Hyperband(eta)
    for deepest in range(12):
        for depth in range(deepest + 1):
            exact = -(-((deepest + 1) * eta**depth) // (depth + 1))
            assert scheduler._size(deepest, depth) == exact


@pytest.mark.parametrize("settings", [{"reduction_factor": 1}, {"first_rung": 0}])
def test_settings_that_make_no_sense(settings: dict[str, int]) -> None:
    with pytest.raises(StudyError, match="use "):
        ft.Hyperband(**settings)
