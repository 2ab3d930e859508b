"""A mixture of experts foretells where curves lead: simple experts, and a gate fitted to recorded trainings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from foretell.curve import Curve
from foretell.curve_models import Prediction, at_end
from foretell.curve_models._experts import NAMES, Opinions, ask
from foretell.curve_models._runs import REPORTS, alone
from foretell.record import Record

__all__ = ["Mixture"]

Array = NDArray[np.float64]

_END = 0.02  # of the horizon: widths end with the training, but not before


@final
@dataclass(frozen=True, slots=True)
class Mixture:
    """Curve shapes fitted to the run, persistence in two units, and a wide guess, weighted by a learned gate.

    The gate, and what each expert is off and how wide, were fitted to the log-likelihood of recorded trainings
    (`mixture.json`, made by `python -m benchmarks.fit_mixture`).

    Args:
        of: "final" foretells the loss at the horizon, "best" the lowest one until there.
    """

    of: Literal["final", "best"] = "final"

    def forecast(self, record: Record, trials: NDArray[np.int64]) -> Prediction:
        """What trials that have a finite loss come to, judged by their curves and the spread among all runs."""
        runs = record.state(REPORTS).runs(record, trials)
        foretold = mixed(ask(runs), _gates()[self.of])
        return foretold.settled(at_end(record, trials), runs.lowest if self.of == "best" else runs.last)

    def alone(self, curve: Curve, horizon: int) -> Prediction:
        """What one run comes to, judged by its curve only.

        Args:
            curve: with at least one finite loss.
            horizon: epochs of the full training.
        """
        return mixed(ask(alone(curve, horizon)), _gates()[self.of])


def mixed(opinions: Opinions, gate: dict[str, Array]) -> Prediction:
    """The experts' opinions under the gate.

    Args:
        opinions: of n runs.
        gate: "weights" (experts, features), "trust" () in evidence, "shift", "stretch" (experts,), and "width"
            (experts, 2): the logarithm of the width in units, at the end and by the logarithm of what is left.
    """
    left = np.log(1.0 - np.exp(opinions.features[:, 1:2]) + _END)
    logits = opinions.features @ gate["weights"].T + gate["trust"] * opinions.evidence
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    width = np.exp(gate["width"][:, 0] + gate["width"][:, 1] * left) * opinions.units
    means = opinions.means + gate["shift"] * np.minimum(1.0, np.exp(left)) * opinions.units
    sds = np.sqrt((np.exp(gate["stretch"]) * opinions.sds) ** 2 + width**2)
    return Prediction(weights / weights.sum(axis=1, keepdims=True), means, sds)


@cache
def _gates() -> dict[str, dict[str, Array]]:
    """The gates that are shipped, by what they foretell."""
    stored: dict[str, Any] = json.loads(resources.files(__package__ or "").joinpath("mixture.json").read_text())
    assert tuple(stored["experts"]) == NAMES, "the gate was fitted to other experts"
    return {of: {name: np.array(value) for name, value in stored[of].items()} for of in ("final", "best")}
