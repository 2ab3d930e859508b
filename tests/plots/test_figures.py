"""The figures have the lines and marks they should, each once, and leave nothing behind."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from foretell.errors import MissingExtra, StudyError
from foretell.plots import MARKS, WINNER
from foretell.study import Study
from foretell.trial import State
from tests.plots.replayed import EPOCHS, SPACE, maximized, minimized


@pytest.fixture(autouse=True)
def _matplotlib(needs: Callable[[str], Any]) -> None:
    needs("matplotlib")


def marks(axes: Any) -> dict[str, Any]:
    """The artists that are marks without a line, by marker."""
    return {line.get_marker(): line for line in axes.lines if line.get_linestyle() == "None"}


def legend(legend: Any) -> list[str]:
    return [text.get_text() for text in legend.get_texts()]


def png(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


@pytest.mark.parametrize("can_pause", [True, False])
def test_the_curves_end_with_the_mark_of_their_state(can_pause: bool) -> None:
    study, seen = minimized(can_pause=can_pause)
    (axes,) = study.plot("curves").axes
    runs = {report.trial for report in seen if np.isfinite(report.metrics["loss"])}
    counts = {state: sum(study.trials[run].state is state for run in runs) for state in State}
    assert counts[State.PAUSED if can_pause else State.STOPPED] > 3 and counts[State.DIVERGED] and counts[State.DONE]
    assert sum(len(collection.get_segments()) for collection in axes.collections) == len(runs)
    found = marks(axes)
    for state, count in counts.items():
        assert (len(found[MARKS[state].marker].get_xdata()) if count else 0) == count
    assert found[WINNER.marker].get_xdata().tolist() == [study.best.curve[-1].step]
    (thick,) = [line for line in axes.lines if line.get_linestyle() == "-"]
    np.testing.assert_array_equal(thick.get_ydata(), study.best.curve.losses)
    assert thick.get_linewidth() > 2 * max(collection.get_linewidth()[0] for collection in axes.collections)
    labels = [f"{state} ({count})" for state, count in counts.items() if count]
    assert legend(axes.get_legend()) == [*labels, f"winner, trial {study.best.number}"]


def test_the_curves_of_the_best_alone() -> None:
    study, _ = minimized()
    (axes,) = study.plot("curves", top=3).axes
    assert sum(len(collection.get_segments()) for collection in axes.collections) == 3
    assert axes.get_title(loc="left") == f"3 of {len(study.trials)} runs"


def test_the_curves_of_another_metric() -> None:
    study, _ = minimized()
    (axes,) = study.plot("curves", metric="score", log=True).axes
    (thick,) = [line for line in axes.lines if line.get_linestyle() == "-"]
    np.testing.assert_allclose(thick.get_ydata(), 100 - 10 * study.best.curve.losses)
    assert (axes.get_ylabel(), axes.get_yscale()) == ("score", "log")


def test_the_history_has_two_panels_with_every_trial() -> None:
    study, seen = minimized()
    left, right = study.plot("history", log=True).axes
    runs = {report.trial for report in seen}
    for axes in (left, right):
        found = marks(axes)
        total = sum(len(line.get_xdata()) for marker, line in found.items() if marker != WINNER.marker)
        assert total == len(runs)
        assert found[WINNER.marker].get_ydata().tolist() == [study.best.value]
        assert axes.get_yscale() == "log"
    (best,) = [line for line in left.lines if line.get_linestyle() == "-"]
    assert best.get_ydata()[-1] == min(trial.curve.best for trial in study.trials)
    assert best.get_xdata()[-1] == study.record.progress().epochs[-1]
    assert right.get_xlabel().startswith("wall-clock (")
    started = sum(trial.attempts > 0 for trial in study.trials)
    assert left.figure.get_suptitle().endswith(f"300 of {started * EPOCHS:,} epochs trained")


def test_the_legend_of_the_history_tells_who_has_no_value() -> None:
    study, _ = minimized()
    figure = study.plot()
    valued, without = dict.fromkeys(State, 0), dict.fromkeys(State, 0)
    for trial in study.trials:
        if len(trial.curve):
            (without if trial.value is None else valued)[trial.state] += 1
    assert without[State.DIVERGED] and valued[State.PAUSED]
    labels = [f"{state} ({count})" for state, count in valued.items() if count]
    labels += [f"{state}, no value ({count})" for state, count in without.items() if count]
    assert sorted(legend(figure.legends[0])) == sorted(
        ["best report so far", *labels, f"winner, trial {study.best.number}"]
    )


@pytest.mark.parametrize("kind", ["history", "curves"])
def test_maximized_metrics_are_drawn_in_their_own_units(kind: str) -> None:
    study = maximized()
    axes = study.plot(kind).axes[0]
    assert axes.get_ylabel() == "gain"
    low, high = axes.get_ylim()
    assert 7 < low < study.best.value < high < 10.5
    star = marks(axes)[WINNER.marker].get_ydata().tolist()
    assert star == [study.best.value if kind == "history" else -study.best.curve[-1].loss]


@pytest.mark.parametrize("kind", ["history", "curves"])
def test_figures_are_drawn_without_a_warning_also_for_one_report(kind: str) -> None:
    assert png(minimized("1 trials, 1 epochs")[0].plot(kind)).startswith(b"\x89PNG")
    assert png(minimized()[0].plot(kind, log=True)).startswith(b"\x89PNG")


def test_a_loop_of_ones_own_has_no_wall_clock_to_show() -> None:
    study = Study(SPACE, minimize="loss")
    for value in (3.0, 1.0, 2.0):
        study.tell(study.ask(), value)
    figure = study.plot()
    assert len(figure.axes) == 1
    assert png(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", ["history", "curves"])
def test_an_empty_study_says_what_is_missing(kind: str) -> None:
    study = Study(SPACE, minimize="loss")
    with pytest.raises(StudyError, match=r"no finite value of 'loss' was reported yet \(no trials\)\. Run the study"):
        study.plot(kind)
    study.enqueue({"rate": 0.95, "kind": "plain"})
    study.run(None, "1 trials", executor=_diverging(), progress="none")
    with pytest.raises(StudyError, match=r"no finite value of 'loss' was reported yet \(1 trials \(1 diverged\)\)"):
        study.plot(kind)


def _diverging() -> Any:
    from foretell.executors.replay import Recording, Replay

    return Replay(lambda params: Recording([float("nan")]))


def test_plots_leave_pyplot_alone() -> None:
    code = """
import sys
from foretell.executors.replay import Recording, Replay
from foretell.space import Float, Space
from foretell.study import Study
study = Study(Space(x=Float(0, 1)), minimize="loss")
study.run(None, "9 epochs", executor=Replay(lambda params: Recording([1.0, params["x"]])), progress="none")
study.plot("history"), study.plot("curves")
print("matplotlib.figure" in sys.modules, "matplotlib.pyplot" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_without_matplotlib_the_cure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    study, _ = minimized("20 epochs")
    for name in [name for name in sys.modules if re.match(r"matplotlib\b|foretell\.plots\.history$", name)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match="pip install matplotlib"):
        study.plot("history")
