"""Ask and tell: the training runs in a loop of the user's, and every message takes the store's lock for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import final

from foretell.events import Event
from foretell.executors import Message, Reply, Task


@final
class CallDesk:
    """Stands in for an executor: answers are laid down here and picked up by the call that asked."""

    def __init__(self) -> None:
        self.slots = 1 << 30
        self.replies: dict[int, Reply] = {}

    def reply(self, trial: int, reply: Reply) -> None:
        """Lay the answer down."""
        self.replies[trial] = reply

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()


@final
class CallLink:
    """The way from a run that `ask` gave out to its study.

    Args:
        exchange: delivers one message and returns its answer.
        task: the run's.
    """

    def __init__(self, exchange: Callable[[Message], Reply], task: Task) -> None:
        self._exchange, self._task = exchange, task

    def send(self, event: Event) -> Reply:
        """Deliver and return the answer."""
        return self._exchange(Message(self._task.trial, self._task.attempt, event))

    def asked(self) -> bool:
        """Answers come at every report anyway."""
        return False
