"""The benchmark of rules on recorded trainings: its sums by hand, and the page that shows them."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import foretell as ft
from benchmarks import stopping, tables
from benchmarks.stopping import LeftOut, Outcome, Row, outcome, rows, rules, summed, table, write
from benchmarks.stopping_plot import front
from foretell.curve import Curve
from foretell.curve_models.mixture import Mixture, _gates

PAGE = (Path(__file__).parents[2] / "docs" / "stopping.md").read_text()
NAN = math.nan


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([4, 3, 5, 5, 1, 1, 1, 1], Outcome(0.5, 1.0, True)),  # two and a half spreads, counted as one
        ([4, 3, 5, 5, 2.5, 3, 3, 3], Outcome(0.5, 0.625, True)),
        ([4, 3, 2, 1], Outcome(0.0, 0.0, False)),
        ([4, 3, 5, 5], Outcome(0.0, 0.0, False)),  # at its last epoch nothing is left to stop
        ([4, 3, 2, NAN, NAN], Outcome(0.0, 0.0, False)),  # diverged
        ([4, 3, 5, 5, 5, 5, 5, 5, NAN, 0], Outcome(0.5, 0.0, True)),  # what comes behind a divergence never was
    ],
)
def test_an_outcome(losses: list[float], expected: Outcome) -> None:
    assert outcome(ft.Patience(2), np.array(losses, float), None, 0.8) == expected


def test_a_rule_sees_the_training_curve() -> None:
    rule, losses = ft.ProgressQuotient(0.5, 2, training="train_loss"), np.array([1, 1.1, 1.2, 1.3, 1.4])
    assert outcome(rule, losses, np.array([1, 0.8, 0.6, 0.4, 0.2]), 1.0).saved == 0
    assert outcome(rule, losses, np.ones(5), 1.0).saved == pytest.approx(0.6)


def test_families_count_alike_and_tasks_within_them() -> None:
    def row(task: str, *saved: float, given_up: float = 0.0) -> Row:
        return Row(task, "r", "g", tuple(Outcome(one, given_up, one > 0) for one in saved), (Outcome(0.5, 1.0, True),))

    (line,) = summed([row("a/x", 1.0), row("a/y", 0.0, 0.5), row("b/z", 0.5, 0.5, 0.5, given_up=0.06)])
    assert line.saved == pytest.approx(((1.0 + 0.25) / 2 + 0.5) / 2)
    assert line.stopped == pytest.approx(((1.0 + 0.5) / 2 + 1) / 2)
    assert (line.given_up, line.given_up_by_best, line.wrongly) == (0.03, 1.0, 0.5)
    assert table([line]).splitlines()[2] == "| **r** | 56% | 0.030 | 1.000 | 88% | 50% |"


def test_a_task_whose_runs_do_not_differ_tells_nothing() -> None:
    space = ft.Space(x=ft.Float(0, 1))
    task = tables.Task("a/x", space, "m", np.zeros((3, 1)), np.ones((3, 5)))
    assert not [*rows(task, None, 2, 1)]


def test_every_rule_is_asked_but_the_training_curve_where_there_is_none() -> None:
    space, values = ft.Space(x=ft.Float(0, 1)), np.random.default_rng(0).random((4, 6))
    plain = tables.Task("a/x", space, "m", np.zeros((4, 1)), values)
    told = tables.Task("a/x", space, "m", np.zeros((4, 1)), values, others={"train_loss": values})
    assert [row.rule for row in rows(told, None, 2, 1)] == [*rules()]
    assert {row.rule for row in rows(told, None, 2, 1)} - {row.rule for row in rows(plain, None, 2, 1)} == {
        "ProgressQuotient(training='train_loss')"
    }


def test_a_model_without_a_family_is_the_mixture_with_another_gate() -> None:
    curve = Curve([(1, 1.0, 0.0), (2, 0.7, 0.0), (3, 0.6, 0.0)])
    ours, shipped = LeftOut(_gates()["best"]).alone(curve, 20), Mixture("best").alone(curve, 20)
    assert ours.mean == shipped.mean and ours.sd == shipped.sd


class Dot(NamedTuple):
    """One rule in the plot."""

    saved: float
    given_up: float
    rule: str = ""
    group: str = ""


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(pairs: list[tuple[int, int]]) -> None:
    dots = [Dot(*pair) for pair in pairs]
    best = front(dots)
    for dot in dots:
        beaten = any(
            other.saved >= dot.saved and other.given_up <= dot.given_up and other[:2] != dot[:2] for other in dots
        )
        assert (dot in best) == (not beaten)
    assert [dot.saved for dot in best] == sorted(dot.saved for dot in best)


def test_the_page_has_every_rule_of_the_benchmark(tmp_path: Path) -> None:
    shown = PAGE.partition(stopping.MARKS[0])[2].partition(stopping.MARKS[1])[0]
    assert [name for name in rules() if f"| {name} |" not in re.sub(r"[*`]", "", shown)] == []
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    write(page, shown.strip("\n") + "\n")
    assert page.read_text() == PAGE
    page.write_text("no marks")
    with pytest.raises(ValueError, match="has lost its marks"):
        write(page, "")
