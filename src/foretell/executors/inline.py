"""Trainings run one after another in this very process: breakpoints work, and nothing is pickled."""

from __future__ import annotations

import time
from collections import deque
from typing import Final, final

from foretell.attempt import attempt
from foretell.events import Event
from foretell.executors import Deliver, Message, Reply, Task, Work

__all__ = ["Inline"]


@final
class Inline:
    """One training at a time, called from `wait`; its messages are delivered, and answered, while it runs."""

    slots: Final = 1

    def __init__(self) -> None:
        self._tasks: deque[Task] = deque()
        self._replies: dict[int, Reply] = {}
        self._asked: set[int] = set()
        self._origin = time.time() - time.monotonic()
        self._work: Work | None = None
        self._deliver: Deliver | None = None

    def open(self, work: Work, deliver: Deliver) -> None:
        """Remember whom to call."""
        self._work, self._deliver = work, deliver

    def submit(self, task: Task) -> None:
        """Queue a training for the next `wait`."""
        self._tasks.append(task)

    def reply(self, trial: int, reply: Reply) -> None:
        """Lay the answer down where the training will find it."""
        self._replies[trial] = reply

    def signal(self, trial: int) -> None:
        """The training asks at its next epoch boundary."""
        self._asked.add(trial)

    def kill(self, trial: int) -> None:
        """Nothing runs between two calls, so there is nothing to kill."""

    def wait(self, timeout: float | None) -> None:
        """Run the next training to its end, whatever the timeout."""
        if self._tasks:
            assert self._work is not None
            task = self._tasks.popleft()
            attempt(self._work, task, DirectLink(self, task.trial, task.attempt))

    def now(self) -> float:
        """Seconds since the epoch, on a clock that never goes back."""
        return self._origin + time.monotonic()

    def close(self) -> None:
        """Forget everything."""
        self._tasks.clear()
        self._replies.clear()

    def exchange(self, trial: int, number: int, event: Event) -> Reply:
        """Deliver one message and pick up its answer."""
        assert self._deliver is not None
        self._deliver([Message(trial, number, event)])
        return self._replies.pop(trial)

    def asked(self, trial: int) -> bool:
        """Whether `signal` was called since the last time."""
        if trial in self._asked:
            self._asked.discard(trial)
            return True
        return False


@final
class DirectLink:
    """A link without a process between."""

    def __init__(self, executor: Inline, trial: int, number: int) -> None:
        self._executor, self._trial, self._number = executor, trial, number

    def send(self, event: Event) -> Reply:
        """Deliver and return the answer."""
        return self._executor.exchange(self._trial, self._number, event)

    def asked(self) -> bool:
        """Whether the coordinator wants to be asked."""
        return self._executor.asked(self._trial)
