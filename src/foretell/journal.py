"""The journal: the log of a study as it grows, folded into the record at once and made durable in groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from foretell._faults import fault
from foretell.events import Event
from foretell.record import Record
from foretell.stores import Entry, Store


@final
class Journal:
    """Writes the log of one study; whoever uses it holds the store's lock.

    Args:
        name: of the study in the store.
        store: keeps the log.
        record: the fold of the log.
        observe: called with each event once it is durable.
    """

    def __init__(self, name: str, store: Store, record: Record, observe: Callable[[Event], None]) -> None:
        self.name, self.store, self.record = name, store, record
        self.now = 0.0
        """Seconds on the executor's clock; the time of the next event."""
        self._observe = observe
        self._sequence = 0
        self._ahead = False  # whether the record holds what the store refused
        self._batch: list[Entry] = []
        self._callbacks: list[Callable[[], None]] = []

    def refresh(self) -> None:
        """Fold what the store holds beyond the record: after opening, and when other processes write too."""
        if self._ahead:
            self.record.clear()
            self._sequence, self._ahead = 0, False
        for entry in self.store.entries(self.name, self._sequence):
            self.record.apply(entry.event, entry.time)
            self._sequence = entry.sequence + 1

    def log(self, event: Event) -> None:
        """Fold an event into the record and queue it for the next commit."""
        self.record.apply(event, self.now)
        self._batch.append(Entry(self._sequence, self.now, event))
        self._sequence += 1

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call this once everything logged so far is durable, and not before."""
        self._callbacks.append(callback)

    def commit(self) -> None:
        """Make everything queued durable, in one transaction; then answer, delete and tell."""
        batch, self._batch = self._batch, []
        callbacks, self._callbacks = self._callbacks, []
        if batch:
            self._ahead = True
            self.store.append(self.name, batch)
            self._ahead = False
            fault("journal-after-commit")
        for callback in callbacks:
            callback()
        for entry in batch:
            self._observe(entry.event)
