"""A run that is paused wherever it can be, and resumed, trains to the last bit what an undisturbed one trains."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from foretell import events
from foretell.attempt import attempt
from foretell.executors import Reply, Task, Work
from foretell.objective import Objective
from foretell.run import SAVED_UNDER, Run
from foretell.trial import State, Verdict

EPOCHS = 6


class Pausing:
    """Pauses an attempt after so many epochs, 0 being its opening; None lets it train to its end."""

    def __init__(self, folder: Path, after: int | None) -> None:
        self.folder, self.after, self.until = folder, after, EPOCHS
        self.restore: dict[str, tuple[str, str, int]] = {}
        self.state = State.RUNNING

    def send(self, event: events.Event) -> Reply:
        if isinstance(event, events.Saved):
            at = (str(self.folder / SAVED_UNDER / event.folder), event.digest, event.step)
            self.restore |= {name: at for name in ("newest", "best") if getattr(event, name)}
        if isinstance(event, events.Ended):
            assert not event.error, event.error
            self.state = event.state
        if isinstance(event, events.Opened):
            self.until = event.step + (EPOCHS if self.after is None else self.after)
        if isinstance(event, events.Reached) or (isinstance(event, events.Opened) and self.after == 0):
            return Reply(verdict=Verdict("pause", "test", "as told"))
        return Reply(until=self.until)

    def asked(self) -> bool:
        return False


def trained(pauses: list[int]) -> list[float]:
    """What every epoch drew and made, over all attempts; each pause says how many epochs came before it."""
    made: list[float] = []

    def train(run: Run) -> None:
        weights = run.rng.normal(size=2)  # drawn before the loop: as much a part of the seed as the rest
        run.track(weights=weights)
        for _ in run.epochs(EPOCHS):
            weights += run.rng.normal(size=2) + random.random() + np.random.random()
            made.append(float(weights.sum()))
            run.report(loss=float(np.abs(weights).sum()))

    work = Work(train, Objective("loss", "minimize"))
    restore: dict[str, tuple[str, str, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, after in enumerate([*pauses, None], start=1):
            link = Pausing(Path(folder), after)
            attempt(work, Task(0, number, {}, 3, folder, restore), link)
            restore = restore | link.restore
            if link.state is State.DONE:
                return made
    raise AssertionError("the last attempt was to train to its end")


@given(st.lists(st.integers(0, 3), max_size=4))
@example([2, 0])
@example([0, 0, 3])
def test_pauses_change_no_bit(pauses: list[int]) -> None:
    assert trained(pauses) == trained([])
