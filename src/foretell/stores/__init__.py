"""Stores: where studies live. A study is a specification and a log of events; the log is the only truth.

Exactly one process writes a study at a time, under the store's lock. Nothing is acknowledged to anybody before `append`
has returned, and `append` returns when the events are durable.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from foretell.events import Event


class Entry(NamedTuple):
    """One line of a study's log: dense `sequence` from 0, `time` on the writer's clock in seconds."""

    sequence: int
    time: float
    event: Event


class Holder(NamedTuple):
    """The process that has the right to write a study: `kind` is "run", or "call" for a moment."""

    pid: int
    host: str
    kind: str

    def __str__(self) -> str:
        return f"pid {self.pid}" if self.host == socket.gethostname() else f"pid {self.pid} on {self.host}"


@runtime_checkable
class Store(Protocol):
    """Keeps any number of studies, by name."""

    folder: Path | None
    """Where checkpoints and logs of trainings lie, in one folder a study; None if nothing outlives the process."""

    def names(self) -> list[str]:
        """The studies in the store, oldest first."""

    def create(self, name: str, spec: dict[str, Any]) -> None:
        """Make a study.

        Args:
            name: unique in the store.
            spec: plain JSON data.

        Raises:
            StudyError: the name is taken.
        """

    def spec(self, name: str) -> dict[str, Any]:
        """What a study was made with.

        Raises:
            StudyError: there is no such study; the message lists those that are.
        """

    def append(self, name: str, entries: Sequence[Entry]) -> None:
        """Make events durable, all or none, in one transaction. The caller holds the lock.

        Args:
            name: of the study.
            entries: the next ones, their sequence going on where the log ends.

        Raises:
            StoreError: they were not stored (StoreFull, StoreReadOnly, ...); the log is as it was.
        """

    def entries(self, name: str, since: int = 0) -> Iterator[Entry]:
        """The log from sequence number `since` on, in order."""

    def lock(self, name: str, *, wait: bool = False) -> AbstractContextManager[None]:
        """The right to append to a study, held by one process at a time and let go when it dies.

        Args:
            name: of the study.
            wait: whether to wait for a holder that takes the lock only for a moment.

        Raises:
            StoreBusy: another process holds it; the message names its pid and what to do.
        """

    def holder(self, name: str) -> Holder | None:
        """The living process that holds a study's lock, or None; takes no lock itself."""

    def close(self) -> None:
        """Let go of files and connections."""
