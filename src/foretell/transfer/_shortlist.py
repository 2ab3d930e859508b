"""The outcome of a ranking: an object, a table and JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

WORTH = {
    "linear": "held-out accuracy (or R²) of ridge regression on frozen features: in your units, honest on chance",
    "neighbours": "held-out accuracy (or R²) of five nearest neighbours: sees what is not linear, but coarsely",
    "logme": "exact evidence of a linear model: weak, most of all between models of one size",
    "h_score": "variance between classes, shrunk: grows with the width of the features, for good and ill",
    "transrate": "coding rate between classes: grows with the width of the features, for good and ill",
    "leep": "likelihood of the labels from the source's own classes: close to no guide between unrelated tasks",
    "nce": "as LEEP from hard predictions: coarser still",
}
"""What each figure is worth, in words."""


@final
@dataclass(frozen=True, slots=True)
class Figure:
    """One score of one candidate; higher is better.

    Args:
        value: the score; NaN if it cannot be computed.
        low: lower end of the 95 % interval over resampled data.
        high: upper end.
        seconds: what it cost.
        note: why it is not there, or what to know about it.
    """

    value: float
    low: float
    high: float
    seconds: float
    note: str = ""

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]" if math.isfinite(self.value) else "-"


@final
@dataclass(frozen=True, slots=True)
class Ranked:
    """One candidate.

    Args:
        name: as it was given.
        score: the probe and the prior together; higher is better.
        first: share of resamples of the data in which it came first.
        terms: what the score is the sum of: "probe", and of the prior "size", "accuracy", "domain" and "cost".
        figures: by name; see `WORTH`.
        reason: in words.
        notes: what was done to its features, and what to know.
    """

    name: str
    score: float
    first: float
    terms: Mapping[str, float]
    figures: Mapping[str, Figure]
    reason: str
    notes: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class Shortlist:
    """Candidates, the best first.

    Args:
        ranked: all of them.
        agreement: Kendall's tau-b of each pair of scores over the candidates; "score" is the one they are ranked by.
        notes: on the target's data, and when not to trust the order.
        samples: how many were used.
        task: "classes" or "values".
    """

    ranked: tuple[Ranked, ...]
    agreement: Mapping[tuple[str, str], float]
    notes: tuple[str, ...]
    samples: int
    task: str

    def __getitem__(self, name: str) -> Ranked:
        """The candidate of a name."""
        return next(one for one in self.ranked if one.name == name)

    def top(self, number: int) -> list[str]:
        """The names of the first few, for a race."""
        return [one.name for one in self.ranked[:number]]

    def __str__(self) -> str:
        shown = [name for name in WORTH if any(name in one.figures for one in self.ranked)]
        head = ["", "source", "score", "first", *shown, "seconds"]
        rows = [
            [str(place), one.name, f"{one.score:.2f}", f"{one.first:.0%}", *(str(one.figures[name]) for name in shown),
             f"{sum(figure.seconds for figure in one.figures.values()):.1f}"]
            for place, one in enumerate(self.ranked, start=1)
        ]  # fmt: skip
        widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
        cells = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [head, *rows]]
        lines = ["  ".join(row).rstrip() for row in cells]
        lines += [f"{one.name}: {one.reason}" for one in self.ranked]
        lines += [f"{one.name}: note: {note}" for one in self.ranked for note in one.notes]
        lines += [f"{name}: {WORTH[name]}" for name in shown]
        with_score = {pair[1]: tau for pair, tau in self.agreement.items() if pair[0] == "score"}
        if with_score:
            taus = ", ".join(f"{name} {tau:+.2f}" for name, tau in with_score.items())
            lines.append(f"agreement with the score (Kendall's tau): {taus}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data; what is not a number is None."""
        plain: dict[str, Any] = _plain(self)
        plain["agreement"] = [{"scores": [*pair], "tau": _plain(tau)} for pair, tau in self.agreement.items()]
        return plain


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
