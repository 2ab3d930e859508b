"""The numbers behind the plots against plain loops over what the hook of the study saw."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell import events
from foretell.errors import StudyError
from foretell.objective import Objective
from foretell.plots import _series
from foretell.record import Record
from foretell.space import Space
from foretell.trial import State
from tests.plots.replayed import maximized, minimized


def folded(log: Iterable[events.Event]) -> Record:
    record = Record(Space(), Objective("loss"))
    for time, event in enumerate(log):
        record.apply(event, time)
    return record


@settings(max_examples=8)
@given(seed=st.integers(0, 1000), can_pause=st.booleans(), value=st.sampled_from(["best", "last", "auto"]))
def test_reports_are_what_the_hook_saw(seed: int, can_pause: bool, value: str) -> None:
    study, seen = minimized("120 epochs", can_pause=can_pause, crashes=False, seed=seed, value=value)
    reports = _series.reports(study.record)
    assert reports.trial.tolist() == [report.trial for report in seen]
    best, epochs, reached = math.nan, 0, dict.fromkeys(range(len(study.trials)), 0)
    for row, report in enumerate(seen):
        loss = report.metrics["loss"]
        best = loss if math.isfinite(loss) and not loss >= best else best
        epochs += report.step - reached[report.trial]
        reached[report.trial] = report.step
        assert reports.epochs[row] == epochs
        np.testing.assert_equal([reports.value[row], reports.best[row]], [loss, best])
    assert (np.diff(reports.seconds) >= 0).all()
    assert reports.seconds[-1] <= study.record.seconds()


@settings(max_examples=8)
@given(seed=st.integers(0, 1000), can_pause=st.booleans(), value=st.sampled_from(["best", "last", "auto"]))
def test_outcomes_point_at_the_report_of_each_value(seed: int, can_pause: bool, value: str) -> None:
    study, seen = minimized("120 epochs", can_pause=can_pause, crashes=False, seed=seed, value=value)
    outcomes = _series.outcomes(study.record, _series.reports(study.record))
    assert outcomes.trial.tolist() == sorted({report.trial for report in seen})
    for number, row, found in zip(outcomes.trial, outcomes.row, outcomes.value, strict=True):
        wanted = study.trials[number].value
        rows = [at for at, report in enumerate(seen) if report.trial == number]
        if wanted is None:
            assert math.isnan(found) and row == rows[-1]
        else:
            assert found == wanted
            assert row == next(at for at in rows if seen[at].metrics["loss"] == wanted)


@pytest.mark.parametrize("metric", ["loss", "score"])
def test_lines_are_the_last_report_of_each_step(metric: str) -> None:
    study, seen = minimized()
    lines = _series.lines(study.record, metric)
    expected: dict[int, dict[int, float]] = {}
    for report in seen:
        expected.setdefault(report.trial, {})[report.step] = report.metrics[metric]
    assert State.FAILED in {line.state for line in lines} and State.DIVERGED in {line.state for line in lines}
    assert {line.trial for line in lines} == set(expected)
    for line in lines:
        assert line.state is study.trials[line.trial].state
        np.testing.assert_equal(dict(zip(line.steps.tolist(), line.values.tolist(), strict=True)), expected[line.trial])
        step, value = line.end
        assert expected[line.trial][step] == value
        assert all(math.isnan(expected[line.trial][later]) for later in expected[line.trial] if later > step)


def test_a_run_that_resumed_earlier_shows_what_it_trained_last() -> None:
    log: list[events.Event] = [events.Created(0, {}), events.Started(0, 1), events.Opened(0, 1, 9, True, True)]
    log += [events.Reported(0, 1, step, {"loss": 1.0, "score": float(step)}) for step in (1, 2, 3)]
    log += [events.Ended(0, 1, State.QUEUED, 3), events.Started(0, 2, 1)]
    log += [events.Reported(0, 2, 2, {"loss": 0.5, "score": 20.0})]
    (line,) = _series.lines(folded(log), "score")
    assert (line.steps.tolist(), line.values.tolist()) == ([1, 2], [1.0, 20.0])


def test_the_best_trials_come_first() -> None:
    study, _ = minimized(can_pause=False)
    values = sorted((trial.value, trial.number) for trial in study.trials if trial.value is not None)
    shown = [line.trial for line in _series.lines(study.record, top=4)]
    assert shown[:4] == [number for _, number in values[:4]]
    with pytest.raises(StudyError, match="top=0 shows no run"):
        _series.lines(study.record, top=0)


def test_the_winner_is_among_the_best_though_a_lost_run_was_better() -> None:
    ends = ((State.STOPPED, 0.1), (State.STOPPED, 0.2), (State.DONE, 0.5), (State.DONE, 0.6))
    record = folded(
        event
        for number, (state, loss) in enumerate(ends)
        for event in (
            events.Created(number, {}), events.Started(number, 1), events.Opened(number, 1, 9, False, False),
            events.Reported(number, 1, 1, {"loss": loss}), events.Ended(number, 1, state, 1),
        )
    )  # fmt: skip
    assert [line.trial for line in _series.lines(record, top=1)] == [0, 2]
    assert [line.trial for line in _series.lines(record, top=3)] == [0, 1, 2]


def test_an_unknown_metric_is_told_with_the_known_ones() -> None:
    study, _ = minimized("20 epochs")
    with pytest.raises(StudyError, match=r"'scor'.*Did you mean 'score'\?"):
        _series.lines(study.record, "scor")


def test_maximized_metrics_are_in_their_own_units() -> None:
    study, twin = maximized(), minimized()[0]
    gains, losses = _series.reports(study.record), _series.reports(twin.record)
    np.testing.assert_allclose(gains.value, 10 - losses.value)
    np.testing.assert_allclose(gains.best, 10 - losses.best)
    for gain, loss in zip(_series.lines(study.record), _series.lines(twin.record), strict=True):
        np.testing.assert_allclose(gain.values, 10 - loss.values)
    outcomes = _series.outcomes(study.record, gains)
    assert np.nanmax(outcomes.value) == max(trial.value for trial in study.trials if trial.value is not None)


@given(values=st.lists(st.floats(1, 2), min_size=8, max_size=30, unique=True), keep=st.floats(-5, 5))
def test_an_explosion_is_left_out_of_the_view_and_counted(values: list[float], keep: float) -> None:
    lowest, highest = np.array([*values, math.nan, 0.5]), np.array([*values, math.nan, 1e9])
    low, high = _series.view(lowest, highest, (keep,))
    lower, upper = np.percentile([*values, 0.5], 25), np.percentile([*values, 1e9], 75)
    inside = [value for value in values if value <= upper + 3 * (upper - lower)]
    assert high == max(*inside, keep) < 1e9
    assert low == min(*[value for value in [*values, 0.5] if value >= lower - 3 * (upper - lower)], keep)
    assert _series.outside(highest, (low, high)) == 1 + sum(not low <= value <= high for value in values)


def test_a_kept_value_alone_may_be_all_there_is() -> None:
    assert _series.view(np.array([2.0]), np.array([2.0])) == (2.0, 2.0)
    assert _series.view(np.array([2.0]), np.array([2.0]), (3.0,)) == (2.0, 3.0)


def test_a_logarithmic_view_refuses_zero() -> None:
    values = np.array([0.0, 1.0])
    with pytest.raises(StudyError, match="cannot show 0: leave out log=True"):
        _series.view(values, values, log=True)
    assert _series.view(values, values) == (0.0, 1.0)
    decades = 10.0 ** np.arange(9)
    assert _series.view(decades, decades, log=True) == (1.0, 1e8)
