"""The studies and logs in a store's SQLite file, by name; imported on first use, as SQLAlchemy takes its time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, final

import sqlalchemy as sa
from sqlalchemy import Connection

from foretell.errors import StoreError, StudyError, did_you_mean
from foretell.stores import Entry, _tables
from foretell.stores._connections import Connections, make_folder
from foretell.stores._failures import corrupt, explained
from foretell.stores._json import dumps, loads
from foretell.stores._lock import study_lock
from foretell.stores._tables import STUDY

_CHUNK = 4096  # entries read at a time, so that no reader holds back SQLite's log for long


@final
class Database:
    """What `SQLiteStore` does, once it has to do something.

    Args:
        folder: absolute path of the store.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "store.db"
        self._connections = Connections(folder)
        self._study_ids: dict[str, int] = {}
        self._metric_ids: dict[str, int] = {}  # of committed names only: a rolled-back number may be given out again

    def names(self) -> list[str]:
        """The studies, oldest first."""
        with self._connections.reading() as reader:
            return list(reader.scalars(sa.select(STUDY.c.name).order_by(STUDY.c.id))) if reader is not None else []

    def create(self, name: str, spec: dict[str, Any]) -> None:
        """Make a study."""
        row = {"name": name, "spec": dumps(spec), "created": time.time()}
        with self._connections.writing() as writer:
            if writer.scalar(sa.select(STUDY.c.id).where(STUDY.c.name == name)) is not None:
                raise StudyError(f"There is a study {name!r} already: open it, or choose another name.")
            writer.execute(sa.insert(STUDY), row)

    def spec(self, name: str) -> dict[str, Any]:
        """What a study was made with."""
        chosen = sa.select(STUDY.c.spec).where(STUDY.c.id == self._study(name))
        with self._reading(name) as reader:
            spec: dict[str, Any] = loads(reader.scalars(chosen).one())
            return spec

    def append(self, name: str, entries: Sequence[Entry]) -> None:
        """Add to a log in one transaction."""
        study = self._study(name)
        if not entries:
            return
        first, last = entries[0].sequence, entries[0].sequence + len(entries) - 1
        if [entry.sequence for entry in entries] != list(range(first, last + 1)):
            raise StoreError(f"Entries of study {name!r} must be numbered one by one from {first} on.")
        try:
            rows = _tables.rows(study, entries)
            with self._connections.writing(f"everything up to entry {first - 1} of study {name!r}") as writer:
                end = _tables.end(writer, study)
                if first != end:
                    raise StoreError(
                        f"Study {name!r} ends at entry {end - 1}, so entry {first} cannot be the next: somebody else "
                        f"has written to it. Open the study again and go on from there."
                    )
                fresh = _tables.write(writer, rows, self._metric_ids)
        except (TypeError, ValueError, OverflowError) as error:
            raise StoreError(
                f"Entries {first} to {last} of study {name!r} hold something that cannot be stored ({error}): use "
                f"plain numbers, text, lists and dicts."
            ) from error
        self._metric_ids.update(fresh)

    def entries(self, name: str, since: int) -> Iterator[Entry]:
        """The log as it is now, from `since` on, read piece by piece."""
        study = self._study(name)
        with self._reading(name) as reader:
            end = _tables.end(reader, study)
        return self._read(name, study, max(since, 0), end)

    def lock(self, name: str, *, wait: bool) -> AbstractContextManager[None]:
        """The right to append to a study."""
        return self._lock(name, wait)

    def close(self) -> None:
        """Let go of the file."""
        self._connections.close()

    def _study(self, name: str) -> int:
        if name not in self._study_ids:
            chosen = sa.select(STUDY.c.id).where(STUDY.c.name == name)
            with self._connections.reading() as reader:
                number = reader.scalar(chosen) if reader is not None else None
            if number is None:
                raise StudyError(f"There is no study {name!r}. {did_you_mean(name, self.names())}")
            self._study_ids[name] = number
        return self._study_ids[name]

    def _read(self, name: str, study: int, since: int, end: int) -> Iterator[Entry]:
        for start in range(since, end, _CHUNK):
            with self._reading(name) as reader:
                found = _tables.read(reader, study, start, min(start + _CHUNK, end))
            yield from found

    @contextmanager
    def _reading(self, name: str) -> Iterator[Connection]:
        """Read of a study that was found; what was written can be read, or else the file is not what it was."""
        with self._connections.reading() as reader:
            if reader is None:
                raise StoreError(f"{self._file} is gone: put it back, and open the study again.")
            try:
                yield reader
            except (LookupError, TypeError, ValueError, sa.exc.NoResultFound) as error:
                raise corrupt(self._file, f"study {name!r}: {error}") from error

    @contextmanager
    def _lock(self, name: str, wait: bool) -> Iterator[None]:
        folder = self._folder / "locks"
        with ExitStack() as stack:
            with explained(self._file):
                make_folder(self._folder)
                make_folder(folder)
                stack.enter_context(study_lock(folder / f"{name}.lock", name, wait=wait))
            yield
