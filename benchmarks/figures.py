"""One measured figure beside its goal and a peer's, the table of many, and how each is taken."""

from __future__ import annotations

import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, final

ROOT = Path(__file__).parents[1]


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says: `quick` only shows that everything runs, `data` is where recorded trainings lie."""

    quick: bool = False
    data: Path | None = None


@final
@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Args:
        what: was measured.
        unit: of both values.
        ours: the figure, or None if it could not be taken.
        theirs: the same of the peer, or None if it has no such thing.
        peer: its name.
        goal: the most that `ours` should be, or the least if more is better.
        goal_ratio: how many times better than the peer's it should be at least.
        more_is_better: the direction.
        note: what a reader should know.
    """

    what: str
    unit: str
    ours: float | None
    theirs: float | None = None
    peer: str = "Optuna"
    goal: float | None = None
    goal_ratio: float | None = None
    more_is_better: bool = False
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer's."""
        if not self.ours or not self.theirs:
            return None
        return self.ours / self.theirs if self.more_is_better else self.theirs / self.ours

    @property
    def standing(self) -> str:
        """ "ok" or "short" of its goals; empty without one."""
        if self.goal is None and self.goal_ratio is None:
            return ""
        if self.ours is None:
            return "short"
        reached = self.goal is None or (self.ours >= self.goal if self.more_is_better else self.ours <= self.goal)
        better = self.goal_ratio is None or (self.ratio is not None and self.ratio >= self.goal_ratio)
        return "ok" if reached and better else "short"

    def to_json(self) -> dict[str, Any]:
        """The figure as plain data."""
        return {**asdict(self), "ratio": self.ratio, "standing": self.standing}


class Part(Protocol):
    """One part of the benchmarks: a module with a title and a function."""

    TITLE: str

    def measure(self, settings: Settings) -> Iterator[Figure]:
        """The figures, each as soon as it is known."""


def table(figures: Sequence[Figure]) -> str:
    """The figures as aligned text."""
    rows = [("", "unit", "foretell", "peer", "ratio", "goal", "")]
    for figure in figures:
        sign = ">=" if figure.more_is_better else "<="
        goals = [f"{sign} {number(figure.goal)}"] if figure.goal is not None else []
        goals += [f">= {number(figure.goal_ratio)} x"] if figure.goal_ratio is not None else []
        peer = f"{number(figure.theirs)} {figure.peer}" if figure.theirs is not None else "-"
        ratio = f"{number(figure.ratio)} x" if figure.ratio is not None else "-"
        note = f"  ({figure.note})" if figure.note else ""
        row = (figure.what, figure.unit, number(figure.ours), peer, ratio, ", ".join(goals), figure.standing + note)
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), row[1].ljust(widths[1])]
        cells += [cell.rjust(width) for cell, width in zip(row[2:6], widths[2:], strict=True)]
        lines.append("  ".join([*cells, row[6]]).rstrip())
    return "\n".join(lines)


def number(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def repeated(repeats: int, *measures: Callable[[], float]) -> list[float]:
    """The median of each measure over the repeats, taken in turns, so that a busy moment hits all alike."""
    taken: list[list[float]] = [[] for _ in measures]
    for _ in range(repeats):
        for values, measure in zip(taken, measures, strict=True):
            values.append(measure())
    return [statistics.median(values) for values in taken]


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process for one piece of work; other work on the machine hardly counts."""
    gc.collect()
    begun = time.process_time()
    work()
    return time.process_time() - begun


def in_fresh_process(*arguments: str) -> str:
    """The output of `python` with these arguments.

    Raises:
        RuntimeError: it failed; the message is the last line of what it said.
    """
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["without a word"]
        raise RuntimeError(f"`python {' '.join(arguments)}` ended with {done.returncode}: {words[-1]}")
    return done.stdout
