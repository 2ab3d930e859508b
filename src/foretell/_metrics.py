"""What a run has reported of the step in progress: its number, names, values, and which were sent already."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from typing import Any, final

from foretell.errors import MetricError, ReportError, did_you_mean
from foretell.objective import Objective


def number(name: str, value: Any) -> float:
    """A Python float of a Python, NumPy or torch scalar; arrays of one element count as scalars.

    Raises:
        ReportError: it is no number.
    """
    item: Callable[[], Any] | None = getattr(value, "item", None)
    try:
        plain = item() if callable(item) else value
        if isinstance(plain, str | bytes | complex) or plain is None:
            raise TypeError
        return float(plain)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ReportError(
            f"The metric {name!r} is {type(value).__name__} {str(value)[:60]!r}, not a number: report one number, "
            "e.g. the mean of a batch."
        ) from None


@final
class Pending:
    """The metrics of one step; calls of the same step merge."""

    def __init__(self) -> None:
        self.step = -1
        self.values: dict[str, float] = {}
        self.names: set[str] = set()  # ever reported, for the error that lists them
        self._sent: set[str] = set()

    def step_of(self, given: Any, values: Mapping[str, float], *, epoch: int | None, trained: int, looped: bool) -> int:
        """The step that a report belongs to.

        Args:
            given: what the user said, or None.
            values: of the report, by name.
            epoch: in progress, from 1; None outside the loop.
            trained: epochs.
            looped: whether there was a loop of epochs.

        Raises:
            ReportError: what the user said is no step, another epoch than the one in progress, or goes back.
        """
        if epoch is not None:
            if given not in (None, epoch, epoch - 1):
                raise ReportError(
                    f"step={given} in epoch {epoch}: within run.epochs the step is the epoch, so leave it out; "
                    "use run.log for values of every batch."
                )
            return epoch
        if given is not None:
            if isinstance(given, bool) or not isinstance(given, numbers.Integral) or given < 0:
                raise ReportError(f"step={given!r} is not a whole number, 0 or more.")
            if given < self.step:
                raise ReportError(f"step={given} comes after step {self.step}: steps go up.")
            return int(given)
        if looped:
            return trained  # what is measured after the loop belongs to its last epoch
        if self.step < 0 or self.values.keys() & values.keys():
            return max(trained, self.step) + 1
        return self.step

    def begin(self, step: int) -> None:
        """Another step; what was not sent of the last one is gone."""
        self.step, self.values, self._sent = step, {}, set()

    def add(self, values: Mapping[str, float]) -> None:
        """Merge what was reported.

        Raises:
            ReportError: a name was reported before in this step.
        """
        twice = sorted(values.keys() & self.values.keys())
        if twice:
            raise ReportError(
                f"{twice[0]!r} was reported twice at step {self.step}: report it once an epoch, and use run.log for "
                "batches."
            )
        self.values.update(values)
        self.names.update(values)

    def missing(self, objective: Objective | None, when: str) -> MetricError:
        """The error of a run that owes its objective; it lists what was reported instead."""
        metric = objective.metric if objective is not None else ""
        reported = did_you_mean(metric, self.names) if self.names else "Nothing was reported."
        cure = f"Call run.report({metric}=...) in the loop, or return the number."
        return MetricError(f"{metric!r} was not reported {when}. {reported} {cure}")

    def fresh(self) -> dict[str, float]:
        """What has not been sent yet; it counts as sent from now on."""
        values = {name: value for name, value in self.values.items() if name not in self._sent}
        self._sent.update(values)
        return values
