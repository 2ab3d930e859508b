"""Studies with trainings in this very process, under a clock that stands still: what their tests share."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import foretell as ft
from foretell.run import Run
from foretell.study import Study

SPACE = ft.Space(x=ft.Float(0, 1))


@pytest.fixture(autouse=True, name="_clock")
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands still for the executor and for checkpoints, so that nothing depends on how fast the machine is."""
    still = SimpleNamespace(time=lambda: 1000.0, monotonic=lambda: 0.0)
    for module in ("executors.inline", "run", "_keeper", "attempt"):
        monkeypatch.setattr(f"foretell.{module}.time", still)


def build(run: Run) -> dict[str, Any]:
    model = {"w": np.zeros(2)}
    run.track(model=model)
    return model


def train(run: Run, epochs: int = 9) -> None:
    """A curve that goes down to x; every epoch draws random numbers, so that a wrong resume shows."""
    model = build(run)
    for epoch in run.epochs(epochs):
        model["w"] += run.rng.normal(size=2) + np.random.random()
        run.report(loss=run.params["x"] + 1 / (epoch + 1), w=model["w"][0])


def study_of(**settings: Any) -> Study:
    return Study(SPACE, **{"minimize": "loss", "sampler": "random_search", "scheduler": "full", **settings})


def ran(study: Study, budget: str | None, function: Any = train, **options: Any) -> Study:
    return study.run(function, budget, **{"workers": 0, "progress": "none", **options})


def shown(study: Study) -> list[Any]:
    return [(t.params, t.state, t.value, t.step, [point[:2] for point in t.curve], t.attempts) for t in study.trials]
