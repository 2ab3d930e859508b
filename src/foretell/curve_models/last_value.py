"""The last loss stays: the simplest curve model, and the one to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from foretell.curve import Curve
from foretell.curve_models import Prediction, at_end
from foretell.curve_models._experts import movement
from foretell.curve_models._runs import REPORTS, Runs, alone
from foretell.record import Record

__all__ = ["LastValue"]


@final
@dataclass(frozen=True, slots=True)
class LastValue:
    """A run ends where it is now, give or take what it has moved since the middle of its training."""

    def forecast(self, record: Record, trials: NDArray[np.int64]) -> Prediction:
        """The last losses of trials that have a finite one."""
        foretold = _staying(record.state(REPORTS).runs(record, trials))
        return foretold.settled(at_end(record, trials), foretold.mean)

    def alone(self, curve: Curve, horizon: int) -> Prediction:
        """The last loss of one run.

        Args:
            curve: with at least one finite loss.
            horizon: epochs of the full training.
        """
        return _staying(alone(curve, horizon))


def _staying(runs: Runs) -> Prediction:
    return Prediction.normal(runs.last, movement(runs))
