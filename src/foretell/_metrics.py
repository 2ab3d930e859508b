"""What a run has reported of the step in progress: names, numbers, and which of them were sent already."""

from __future__ import annotations

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
