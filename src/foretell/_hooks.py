"""The user's hooks: told of reports and ends, and kept from hurting the training that they are told of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import final

from foretell import events
from foretell.events import Event
from foretell.record import Record
from foretell.trial import Trial

OnReport = Callable[[int, int, Mapping[str, float]], None]
OnTrialEnd = Callable[[Trial], None]


@final
class Hooks:
    """Calls the hooks; the first exception of one ends the study and is raised when everything is saved.

    Args:
        record: of the study.
        stop: ends the study for a reason.
        on_report: called with trial number, step and metrics after each report.
        on_trial_end: called with each trial that has come to its end.
    """

    def __init__(
        self,
        record: Record,
        stop: Callable[[str], None],
        on_report: OnReport | None,
        on_trial_end: OnTrialEnd | None,
    ) -> None:
        self._record, self._stop, self._on_report, self._on_trial_end = record, stop, on_report, on_trial_end
        self._error: Exception | None = None

    def happened(self, event: Event) -> None:
        """One event is durable."""
        try:
            if self._on_report is not None and isinstance(event, events.Reported):
                self._on_report(event.trial, event.step, event.metrics)
            if self._on_trial_end is not None and isinstance(event, events.Ended) and event.state.ended:
                self._on_trial_end(self._record.trial(event.trial))
        except Exception as error:
            self._error = self._error or error
            self._stop(f"a hook failed: {error!r}")

    def raise_error(self) -> None:
        """Raise what a hook raised, if one did."""
        if self._error is not None:
            raise self._error
