"""Studies of synthetic curves under a virtual clock, watched while they run: what the suites of deciders share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from hypothesis import strategies as st

from foretell import events
from foretell.context import Context
from foretell.errors import TrainingError
from foretell.executors import Deliver, Reply, Task, Work
from foretell.executors.replay import Recording, Replay
from foretell.record import Record
from foretell.space import Int, Space
from foretell.stores.memory import MemoryStore
from foretell.study import Study

SPACE = Space(x=Int(0, 9999))
MOST_WAITS = 5000


@final
@dataclass(frozen=True)
class Counting:
    """A sampler that proposes 0, 1, 2, ...: the curve of a trial is told by its number."""

    def suggest(self, record: Record, context: Context) -> dict[str, Any]:
        """The number of the next trial."""
        return {"x": len(record)}


@final
class Watched:
    """A replay that calls `look` before every wait, and ends a study that does not end by itself."""

    def __init__(self, inner: Replay, look: Callable[[], None]) -> None:
        self.inner, self.look, self.waits = inner, look, 0
        self.slots = inner.slots

    def open(self, work: Work, deliver: Deliver) -> None:
        self.inner.open(work, deliver)

    def submit(self, task: Task) -> None:
        self.inner.submit(task)

    def reply(self, trial: int, reply: Reply) -> None:
        self.inner.reply(trial, reply)

    def signal(self, trial: int) -> None:
        self.inner.signal(trial)

    def kill(self, trial: int) -> None:
        self.inner.kill(trial)

    def wait(self, timeout: float | None) -> None:
        self.waits += 1
        assert self.waits < MOST_WAITS, "the study does not end"
        self.look()
        self.inner.wait(timeout)

    def now(self) -> float:
        return self.inner.now()

    def close(self) -> None:
        self.inner.close()


@dataclass
class Plan:
    """One study: its curves and its circumstances."""

    recordings: Sequence[Recording]
    workers: int = 1
    can_pause: bool = True
    retries: int = 1
    epochs: int | None = None
    start_seconds: float = 0.0
    resume_seconds: float = 0.0
    store: MemoryStore = field(default_factory=MemoryStore)

    @property
    def budget(self) -> str:
        epochs = f", {self.epochs} epochs" if self.epochs else ""
        return f"{len(self.recordings)} trials{epochs}"


def decaying(rng: np.random.Generator, epochs: int, noise: float = 0.05) -> list[float]:
    """A noisy decay to a floor of its own."""
    floor, rate = rng.uniform(0, 1), rng.uniform(0.5, 5)
    return (floor + np.exp(-np.arange(1, epochs + 1) / rate) + rng.normal(0, noise, epochs)).tolist()


@st.composite
def plans(draw: Any, *, trials: int = 16, horizons: tuple[int, ...] = (9,), healthy: bool = False) -> Plan:
    """Random curves of 1 to `trials` trainings; some diverge and some crash, unless they are healthy."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ill = 0.0 if healthy else draw(st.sampled_from([0.0, 0.15, 0.5]))
    recordings = []
    for _ in range(draw(st.integers(1, trials))):
        epochs = int(rng.choice(horizons))
        losses, crash = decaying(rng, epochs), None
        if rng.random() < ill:
            losses[rng.integers(epochs)] = np.nan
        if rng.random() < ill:
            crash = int(rng.integers(1, epochs + 1))
        recordings.append(Recording(losses, float(rng.uniform(0.5, 2)), fails_at=crash))
    return Plan(
        recordings, draw(st.sampled_from([1, 3, 8])), draw(st.booleans()), draw(st.integers(0, 1)),
        draw(st.none() | st.integers(1, 60)), draw(st.sampled_from([0.0, 0.7])), draw(st.sampled_from([0.0, 0.4])),
    )  # fmt: skip


def conducted(plan: Plan, scheduler: Any, look: Callable[[Study], None] = lambda study: None, **options: Any) -> Study:
    """The study of a plan, run to its end."""
    study = Study(SPACE, minimize="m", sampler=Counting(), scheduler=scheduler, retries=plan.retries,
                  store=plan.store, **options)  # fmt: skip
    inner = Replay(
        lambda params: plan.recordings[params["x"]], plan.workers, start_seconds=plan.start_seconds,
        resume_seconds=plan.resume_seconds, can_pause=plan.can_pause,
    )  # fmt: skip
    with contextlib.suppress(TrainingError):  # the first three crashed, so the study gave up: an end like others
        study.run(None, plan.budget, executor=Watched(inner, lambda: look(study)), progress="none")
    return study


def log_of(study: Study, plan: Plan) -> list[events.Event]:
    """Everything that happened."""
    return [entry.event for entry in plan.store.entries(study.name)]
