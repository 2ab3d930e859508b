"""A store in memory: nothing to set up, nothing kept."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, final

from foretell.errors import StudyError, did_you_mean
from foretell.stores import Entry, Holder

__all__ = ["MemoryStore"]


@final
class MemoryStore:
    """Keeps specifications; the log itself lives in the study's record, which is all that a process needs.

    Args:
        folder: where trainings keep their checkpoints meanwhile, or None.
        keep_log: whether to keep the log too, so that a study can be opened a second time in the same process.
    """

    def __init__(self, folder: Path | None = None, *, keep_log: bool = True) -> None:
        self.folder = folder
        self._keep_log = keep_log
        self._specs: dict[str, dict[str, Any]] = {}
        self._logs: dict[str, list[Entry]] = {}

    def names(self) -> list[str]:
        """The studies in the store, oldest first."""
        return list(self._specs)

    def create(self, name: str, spec: dict[str, Any]) -> None:
        """Make a study."""
        if name in self._specs:
            raise StudyError(f"There is a study {name!r} already: open it, or choose another name.")
        self._specs[name], self._logs[name] = copy.deepcopy(spec), []

    def spec(self, name: str) -> dict[str, Any]:
        """What a study was made with."""
        if name not in self._specs:
            raise StudyError(f"There is no study {name!r}. {did_you_mean(name, self._specs)}")
        return self._specs[name]

    def append(self, name: str, entries: Sequence[Entry]) -> None:
        """Keep the events, if they are kept at all."""
        self.spec(name)
        if self._keep_log:
            self._logs[name].extend(entries)

    def entries(self, name: str, since: int = 0) -> Iterator[Entry]:
        """The log from `since` on."""
        self.spec(name)
        return iter(self._logs[name][since:])

    def lock(self, name: str, *, wait: bool = False) -> AbstractContextManager[None]:
        """No other process can see this store, so nothing needs a lock."""
        return nullcontext()

    def holder(self, name: str) -> Holder | None:
        """Nobody."""
        return None

    def close(self) -> None:
        """Nothing to let go of."""
