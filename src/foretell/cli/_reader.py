"""Reading studies while others run them: no lock is taken and nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from foretell import _family, events
from foretell.errors import StoreError
from foretell.objective import Objective
from foretell.record import Record
from foretell.space import Space

if TYPE_CHECKING:
    from foretell.stores import Holder, Store


@final
class Reader:
    """A study in a store, as it is and as it grows.

    Args:
        folder: of the store.
        store: that folder's, open.
        name: of the study.

    Raises:
        StudyError: there is no such study.
    """

    def __init__(self, folder: Path, store: Store, name: str) -> None:
        self.folder, self.name, self.spec = folder, name, store.spec(name)
        self._store, self._sequence = store, 0
        # Constraints are for those who propose; some are functions, which are not in the store.
        described = {key: value for key, value in self.spec["space"].items() if key != "constraints"}
        objective = Objective(self.spec["metric"], self.spec["direction"])
        self.record = Record(Space.from_json(described), objective, self.spec["value"], self.place)
        self.sessions, self.concluded = 0, False
        self.refresh()

    @property
    def place(self) -> Path:
        """The study's folder, for checkpoints and output."""
        return self.folder / "studies" / self.name

    @property
    def holder(self) -> Holder | None:
        """Who writes the study now."""
        return self._store.holder(self.name)

    def refresh(self) -> None:
        """Take in what has happened since the last time."""
        for entry in self._store.entries(self.name, self._sequence):
            self.record.apply(entry.event, entry.time)
            self._sequence = entry.sequence + 1
            if isinstance(entry.event, events.SessionStarted):
                self.sessions, self.concluded = self.sessions + 1, False
            elif isinstance(entry.event, events.Concluded):
                self.concluded = True

    def log(self) -> Any:
        """The events of the study from its beginning, as (sequence, time, event)."""
        return self._store.entries(self.name)

    @property
    def standing(self) -> str:
        """Whether it runs, and if not, why it ended."""
        now = self.holder
        if now is not None and now.kind == "run":
            return f"running ({now})"
        if self.concluded and self.record.concluded is not None:
            verdict = self.record.concluded
            return "interrupted" if verdict.rule == "interrupt" else f"ended: {verdict.reason}"
        return "broken off" if self.sessions else "never run"


def opened(folder: Path) -> Store:
    """The store in a folder, to read.

    Raises:
        StoreError: there is none.
    """
    if not (folder / "store.db").is_file():
        raise StoreError(
            f"There is no store in {folder}: give its folder, set FORETELL_STORE, or make one with `foretell run`."
        )
    store: Store = _family.load("stores", "sqlite")(folder)
    return store
