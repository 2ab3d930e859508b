"""Losses fall as powers of time, to a level: the textbook's curve, fitted in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from foretell.curve import Curve
from foretell.curve_models import Prediction, at_end
from foretell.curve_models._experts import NAMES, ask
from foretell.curve_models._runs import REPORTS, Runs, alone
from foretell.record import Record

__all__ = ["PowerLaw"]


@final
@dataclass(frozen=True, slots=True)
class PowerLaw:
    """level + slope * t^-p, averaged over a grid of powers by their evidence.

    With one point it says that the loss stays, within the spread among runs.

    Source: Cortes et al., Learning Curves: Asymptotic Values and Rate of Convergence, NeurIPS 1993, equation 3.
    """

    def forecast(self, record: Record, trials: NDArray[np.int64]) -> Prediction:
        """What the powers of trials that have a finite loss lead to."""
        runs = record.state(REPORTS).runs(record, trials)
        return extrapolated(runs).settled(at_end(record, trials), runs.last)

    def alone(self, curve: Curve, horizon: int) -> Prediction:
        """What the powers of one run lead to.

        Args:
            curve: with at least one finite loss.
            horizon: epochs of the full training.
        """
        return extrapolated(alone(curve, horizon))


def extrapolated(runs: Runs) -> Prediction:
    """What the powers of these runs lead to."""
    opinions = ask(runs)
    powers = np.array([name.startswith("t^") for name in NAMES])
    evidence = opinions.evidence[:, powers]
    weights = np.exp(evidence - evidence.max(axis=1, keepdims=True))
    return Prediction(weights / weights.sum(axis=1, keepdims=True), opinions.means[:, powers], opinions.sds[:, powers])
