"""A run that knows its schedule: the rate of each epoch, resumed and planned anew, and the positions of its checks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import foretell as ft
from foretell.curve import Curve
from foretell.errors import ReportError
from foretell.lr import LRSchedule, from_params, storable, warmup
from foretell.lr.cosine import Cosine
from foretell.lr.exponential import Exponential
from foretell.lr.inverse_time import InverseTime
from foretell.lr.plateau import Plateau
from foretell.lr.wsd import WSD
from foretell.objective import Objective
from foretell.stopping import RunContext, StoppingRule
from foretell.trial import CONTINUE, Verdict


@pytest.fixture(name="_every_epoch")
def _saved_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foretell._keeper._SHARE", math.inf)


def test_a_loop_reads_its_rate_from_the_run() -> None:
    run = ft.Run()
    run.schedule = warmup(2, Cosine(0.1, 6))
    rates = [run.lr for _ in run.epochs(8)]
    assert rates == [warmup(2, Cosine(0.1, 6))(epoch) for epoch in range(8)]


def test_what_a_run_cannot_do() -> None:
    run = ft.Run()
    assert run.schedule is None
    with pytest.raises(ReportError, match=r"run\.schedule = Cosine"):
        run.lr  # noqa: B018
    for wrong in (Plateau(0.1), Cosine, 0.1, None):
        with pytest.raises(TypeError, match=r"run\.schedule was given .* no schedule"):
            run.schedule = wrong


def trained(folder: Path | None, epochs: int, *, dies_in: int | None = None, cut_at: int | None = None) -> list[float]:
    """The rates of one attempt: a cosine that is planned anew for 10 epochs when epoch `cut_at` begins."""
    run = ft.Run(minimize="loss", folder=folder, seed=1)
    run.track(weights=np.zeros(1))
    run.schedule = run.schedule or Cosine(0.1, 20)
    rates = []
    for epoch in run.epochs(epochs):
        if epoch == cut_at:
            run.schedule = run.schedule.stretch(10)
        if epoch == dies_in:
            raise KeyError
        rates.append(run.lr)
        run.report(loss=1 / (epoch + 1))
    return rates


@pytest.mark.usefixtures("_every_epoch")
def test_a_resumed_run_has_the_schedule_it_was_saved_with(tmp_path: Path) -> None:
    undisturbed = trained(None, 10, cut_at=5)
    assert undisturbed == [Cosine(0.1, 20)(e) for e in range(5)] + [Cosine(0.1, 10)(e) for e in range(5, 10)]
    with pytest.raises(KeyError):
        trained(tmp_path, 10, dies_in=7, cut_at=5)
    assert trained(tmp_path, 10, cut_at=5) == undisturbed[7:]


@pytest.mark.usefixtures("_every_epoch")
def test_a_run_is_extended(tmp_path: Path) -> None:
    def attempt(epochs: int) -> list[float]:
        run = ft.Run(minimize="loss", folder=tmp_path)
        run.track(weights=np.zeros(1))
        run.schedule = (run.schedule or WSD(0.1, 10, decay=0.5)).stretch(epochs)
        return [run.lr for _ in run.epochs(epochs)]

    assert attempt(10) == [WSD(0.1, 10, decay=0.5)(epoch) for epoch in range(10)]
    assert attempt(20) == [WSD(0.1, 20, decay=0.5)(epoch) for epoch in range(9, 20)]


@dataclass(frozen=True)
class Halfway(StoppingRule):
    """Ends a run when half of its schedule is behind it."""

    def check(self, curve: Curve, state: Any, context: RunContext) -> Verdict:
        behind = context.position(curve.last.step)
        return Verdict("stop", "halfway", "so far") if behind is not None and behind >= 0.5 else CONTINUE


@pytest.mark.parametrize(("schedule", "end"), [(None, 20), (Cosine(0.1, 40), 11), (Exponential(0.1, 0.9), 7)])
def test_a_rule_asks_for_positions(schedule: LRSchedule | None, end: int) -> None:
    run = ft.Run(minimize="loss", stopping=Halfway())
    if schedule is not None:
        run.schedule = schedule
        assert schedule.position(end, 40) >= 0.5 > schedule.position(end - 1, 40)
    for _ in run.epochs(40):
        run.report(loss=1.0)
    assert run.step == end


@given(st.none() | st.sampled_from([Cosine(0.1, 40), WSD(1.0, 10)]), st.none() | st.integers(0, 60), st.integers(0, 90))
def test_positions_are_shares(schedule: LRSchedule | None, horizon: int | None, step: int) -> None:
    behind = RunContext(Objective("m"), horizon, schedule).position(step)
    assert behind is None if horizon is None else 0 <= behind <= 1  # type: ignore[operator]


# --- searchable -------------------------------------------------------------------------------------------------------

SPACE = ft.Space(
    width=ft.Int(8, 64),
    lr=ft.Float(1e-3, 1.0, log=True),
    schedule=ft.Choice({
        "constant": {}, "cosine": {"end": ft.Float(0.0, 1e-3)}, "wsd": {"decay": ft.Float(0.05, 0.5)},
        "inverse_time": {"decay": ft.Float(0.01, 1.0)}, "plateau": {"factor": ft.Float(0.1, 0.9)},
    }),
)  # fmt: skip


@given(st.integers(0, 2**32 - 1))
def test_a_family_and_its_parameters_are_a_branch_of_the_space(seed: int) -> None:
    params = SPACE.sample(np.random.default_rng(seed))
    rate, lr = from_params(params, horizon=40), params["lr"]
    assert (
        rate
        == {
            "constant": lambda: from_params({"schedule": "constant", "lr": lr}),
            "cosine": lambda: Cosine(lr, 40, end=params["end"]),
            "wsd": lambda: WSD(lr, 40, decay=params["decay"]),
            "inverse_time": lambda: InverseTime(lr, params["decay"]),
            "plateau": lambda: Plateau(lr, params["factor"]),
        }[params["schedule"]]()
    )


def test_what_a_configuration_says_comes_first() -> None:
    params = {"family": "cosine", "lr": 0.1, "steps": 7, "batch": 32}
    assert from_params(params, "family", horizon=40) == Cosine(0.1, 7)


@pytest.mark.parametrize(
    ("params", "says"),
    [({"lr": 0.1, "schedul": "cosine"}, "Did you mean 'schedul'"), ({"schedule": "cosin"}, "Did you mean 'cosine'"),
     ({"schedule": "cosine", "lr": 0.1}, "cosine needs steps as well"), ({"schedule": 3}, "no learning rate 3"),
     ({"schedule": "cosine", "lr": -1, "steps": 9}, "must be a learning rate")],
)  # fmt: skip
def test_what_is_no_schedule(params: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        from_params(params)


class Own(LRSchedule):
    """A schedule that foretell could not build again."""

    def __call__(self, step: float) -> float:
        return 0.1

    def area(self, step: float) -> float:
        return 0.1 * step

    def replanned(self, planned: float, horizon: float) -> LRSchedule:
        return self


@pytest.mark.usefixtures("_every_epoch")
def test_a_schedule_of_the_users_own_is_used_but_not_saved(tmp_path: Path) -> None:
    assert storable(Own()) is None and storable(None) is None
    for _ in range(2):
        run = ft.Run(minimize="loss", folder=tmp_path)
        run.track(weights=np.zeros(1))
        assert run.schedule is None
        run.schedule = Own()
        for _ in run.epochs(3):
            run.report(loss=run.lr)
