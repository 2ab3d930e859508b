"""Studies to plot: recorded trainings whose reports are also written down as they come, to be counted by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from foretell.executors.replay import Recording, Replay
from foretell.space import Choice, Float, Space
from foretell.study import Study

EPOCHS = 27
SPACE = Space(rate=Float(0.0, 1.0), kind=Choice({"plain": {}, "decayed": {"decay": Float(0.1, 0.9)}}))


class Report(NamedTuple):
    """One report, as the hook saw it."""

    trial: int
    step: int
    metrics: dict[str, float]


def recording(params: dict[str, Any]) -> Recording:
    """Noisy decay to a floor that depends on the rate; the highest rates diverge, the lowest crash."""
    rate, epochs = params["rate"], np.arange(1, EPOCHS + 1)
    rng = np.random.default_rng(int(rate * 1e9))
    losses = 0.2 + (rate - 0.4) ** 2 + 2 * np.exp(-epochs / 5) + rng.normal(0, 0.02, EPOCHS)
    if rate > 0.9:
        losses[1:] = np.nan
    score = {"score": (100 - 10 * np.nan_to_num(losses)).tolist()}
    return Recording(losses.tolist(), 1 + rate, score, fails_at=2 if rate < 0.1 else None)


def minimized(
    budget: str = "300 epochs", *, can_pause: bool = True, crashes: bool = True, **options: Any
) -> tuple[Study, list[Report]]:
    """A study of the losses."""
    seen: list[Report] = []

    def recorded(params: dict[str, Any]) -> Recording:
        return recording(params) if crashes else replace(recording(params), fails_at=None)

    study = Study(SPACE, minimize="loss", sampler="random_search", **options)
    study.run(
        None, budget, executor=Replay(recorded, 4, can_pause=can_pause), progress="none",
        on_report=lambda trial, step, metrics: seen.append(Report(trial, step, dict(metrics))),
    )  # fmt: skip
    return study, seen


def maximized(budget: str = "300 epochs") -> Study:
    """The same with the sign turned: what was the loss is now a gain, 10 - loss."""

    def gains(params: dict[str, Any]) -> Recording:
        recorded = recording(params)
        return Recording([10 - loss for loss in recorded.values], recorded.seconds, {}, recorded.fails_at)

    return Study(SPACE, maximize="gain", sampler="random_search").run(
        None, budget, executor=Replay(gains, 4), progress="none"
    )
