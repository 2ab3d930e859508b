"""A store in a folder: an SQLite database for the logs, and beside it what trainings keep."""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from foretell.errors import StudyError
from foretell.stores import Entry, Holder
from foretell.stores._lock import holder
from foretell.stores._mounts import refuse_network

if TYPE_CHECKING:
    from foretell.stores._database import Database

__all__ = ["SQLiteStore"]

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


@final
class SQLiteStore:
    """Keeps studies in one folder of a local disk; `docs/schema.md` shows the tables.

    Nothing is made before it is needed. Threads may share it. A process that forks must not use it in the child.

    Args:
        folder: holds `store.db`, `locks/`, `backups/` and `studies/`; made for its owner only, if it is not there.

    Raises:
        StoreOnNetwork: the folder lies on a network file system.
    """

    def __init__(self, folder: str | Path) -> None:
        self._root = Path(folder).expanduser().absolute()
        refuse_network(self._root)
        self.folder: Path | None = self._root / "studies"
        self._mutex = threading.Lock()
        self._opened: Database | None = None

    def __repr__(self) -> str:
        return f"SQLiteStore({str(self._root)!r})"

    def names(self) -> list[str]:
        """The studies in the store, oldest first."""
        return self._database.names()

    def create(self, name: str, spec: dict[str, Any]) -> None:
        """Make a study.

        Args:
            name: at most 100 letters, digits, dots, dashes and underscores, the first one no dot.
            spec: plain JSON data.

        Raises:
            StudyError: the name is taken, or is no name.
            StoreError: it could not be stored.
        """
        _check(name)
        self._database.create(name, spec)

    def spec(self, name: str) -> dict[str, Any]:
        """What a study was made with.

        Raises:
            StudyError: there is no such study.
        """
        return self._database.spec(name)

    def append(self, name: str, entries: Sequence[Entry]) -> None:
        """Make events durable, all or none, in one transaction. The caller holds the lock.

        Args:
            name: of the study.
            entries: the next ones, their sequence going on where the log ends.

        Raises:
            StudyError: there is no such study.
            StoreError: they were not stored (StoreFull, StoreReadOnly, ...); the log is as it was.
        """
        self._database.append(name, entries)

    def entries(self, name: str, since: int = 0) -> Iterator[Entry]:
        """The log as it is at the call, from sequence number `since` on, in order; it is read piece by piece.

        Raises:
            StudyError: there is no such study.
            StoreCorrupt: what is stored makes no sense.
        """
        return self._database.entries(name, since)

    def lock(self, name: str, *, wait: bool = False) -> AbstractContextManager[None]:
        """The right to append to a study, held by one process at a time and let go when it dies.

        Args:
            name: of the study, which need not exist yet.
            wait: False for a run that keeps it long; True to keep it for a moment, and to wait for others who do so.

        Raises:
            StudyError: it is no name.
            StoreBusy: another process holds it; raised when the context is entered.
        """
        _check(name)
        return self._database.lock(name, wait=wait)

    def holder(self, name: str) -> Holder | None:
        """The living process that holds a study's lock, or None; takes no lock itself."""
        _check(name)
        return holder(self._root / "locks" / f"{name}.lock")

    def close(self) -> None:
        """Close the database; the next use opens it again."""
        with self._mutex:
            if self._opened is not None:
                self._opened.close()

    @property
    def _database(self) -> Database:
        with self._mutex:
            if self._opened is None:
                from foretell.stores._database import Database  # noqa: PLC0415 -- brings SQLAlchemy, which is slow

                self._opened = Database(self._root)
                weakref.finalize(self, _close, self._opened, os.getpid())
            return self._opened


def _close(database: Database, owner: int) -> None:
    """A store that nobody closed: connections that are left to the collector go in the wrong order."""
    if os.getpid() == owner:  # a forked child holds copies that are not its own
        database.close()


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise StudyError(
            f"{name!r} cannot be the name of a study: use at most 100 letters (a to z), digits, dots, dashes and "
            f"underscores, and no dot at the beginning."
        )
