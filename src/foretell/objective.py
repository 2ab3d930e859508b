"""What is to be made small or large: the only place that knows a sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final


@final
@dataclass(frozen=True, slots=True)
class Objective:
    """The name of a metric and its direction.

    Inside foretell everything is a loss (lower is better); values in the user's units appear only where a person or a
    program outside reads them.

    Args:
        metric: the name under which `Run.report` receives it.
        direction: "minimize" or "maximize".
    """

    metric: str
    direction: Literal["minimize", "maximize"] = "minimize"

    def __post_init__(self) -> None:
        if not isinstance(self.metric, str) or not self.metric:
            raise TypeError(f"The metric is the name of what is reported, a non-empty text, not {self.metric!r}.")
        if self.direction not in ("minimize", "maximize"):
            raise ValueError(f"The direction is 'minimize' or 'maximize', not {self.direction!r}.")

    def to_json(self) -> dict[str, str]:
        """Plain data for a study's specification."""
        return {"metric": self.metric, "direction": self.direction}

    @property
    def maximizes(self) -> bool:
        """Whether higher values are better, for texts alone."""
        return self.direction == "maximize"

    def loss(self, value: float) -> float:
        """The loss of a value in the user's units."""
        return -value if self.maximizes else value

    def value(self, loss: float) -> float:
        """The value in the user's units of a loss."""
        return -loss if self.maximizes else loss
