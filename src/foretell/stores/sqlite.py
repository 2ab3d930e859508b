"""A store in a folder: an SQLite database for the logs, and beside it what trainings keep."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from foretell.errors import StoreError, StudyError, did_you_mean
from foretell.stores import Entry
from foretell.stores._json import dumps, loads
from foretell.stores._mounts import refuse_network

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from foretell.stores._database import Database

__all__ = ["SQLiteStore"]

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_CHUNK = 4096  # entries read at a time, so that no reader holds back SQLite's log for long


@final
class SQLiteStore:
    """Keeps studies in one folder of a local disk; nothing is touched before it is used.

    Args:
        folder: holds `store.db`, `locks/`, `backups/` and `studies/`; made if need be, for its owner only.

    Raises:
        StoreOnNetwork: the folder lies on a network file system.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder).expanduser().absolute()
        refuse_network(self._folder)
        self.folder: Path | None = self._folder / "studies"
        self._opening = threading.Lock()
        self._database: Database | None = None
        self._study_ids: dict[str, int] = {}
        self._metric_ids: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"SQLiteStore({str(self._folder)!r})"

    def names(self) -> list[str]:
        """The studies in the store, oldest first."""
        import sqlalchemy as sa

        from foretell.stores._tables import STUDY

        with self._open().reading() as reader:
            return list(reader.scalars(sa.select(STUDY.c.name).order_by(STUDY.c.id))) if reader is not None else []

    def create(self, name: str, spec: dict[str, Any]) -> None:
        """Make a study.

        Args:
            name: at most 100 letters, digits, dots, dashes and underscores, the first one no dot.
            spec: plain JSON data.

        Raises:
            StudyError: the name is taken, or is no name.
            StoreError: it could not be stored.
        """
        import sqlalchemy as sa

        from foretell.stores._tables import STUDY

        _check(name)
        row = {"name": name, "spec": dumps(spec), "created": time.time()}
        with self._open().writing() as writer:
            if writer.scalar(sa.select(STUDY.c.id).where(STUDY.c.name == name)) is not None:
                raise StudyError(f"There is a study {name!r} already: open it, or choose another name.")
            writer.execute(sa.insert(STUDY), row)

    def spec(self, name: str) -> dict[str, Any]:
        """What a study was made with.

        Raises:
            StudyError: there is no such study.
        """
        import sqlalchemy as sa

        from foretell.stores._tables import STUDY

        study = self._study(name)
        with self._reading() as reader, self._sane(name):
            spec: dict[str, Any] = loads(reader.scalars(sa.select(STUDY.c.spec).where(STUDY.c.id == study)).one())
            return spec

    def append(self, name: str, entries: Sequence[Entry]) -> None:
        """Make events durable, all or none, in one transaction. The caller holds the lock.

        Raises:
            StudyError: there is no such study.
            StoreError: they were not stored, and the log is as it was.
        """
        from foretell.stores import _tables

        study = self._study(name)
        if not entries:
            return
        first = entries[0].sequence
        if [entry.sequence for entry in entries] != list(range(first, first + len(entries))):
            raise StoreError(f"Entries of study {name!r} must be numbered one by one from {first} on.")
        try:
            rows = _tables.rows(study, entries)
            with self._open().writing(f"everything up to entry {first - 1} of study {name!r}") as writer:
                end = _tables.end(writer, study)
                if first != end:
                    raise StoreError(
                        f"The log of study {name!r} ends at entry {end - 1}, so entry {first} cannot follow: somebody else "
                        f"has written to it. Open the study again and go on from there."
                    )
                fresh = _tables.write(writer, rows, self._metric_ids)
        except (TypeError, ValueError, OverflowError) as error:  # UnicodeEncodeError is a ValueError
            raise StoreError(
                f"Entries {first} to {first + len(entries) - 1} of study {name!r} hold something that cannot be stored "
                f"({error}): use plain numbers, text, lists and dicts."
            ) from error
        self._metric_ids.update(fresh)

    def entries(self, name: str, since: int = 0) -> Iterator[Entry]:
        """The log as it is now, from sequence number `since` on, in order; it is read piece by piece.

        Raises:
            StudyError: there is no such study.
            StoreCorrupt: what is stored makes no sense.
        """
        from foretell.stores import _tables

        study = self._study(name)
        with self._reading() as reader:
            end = _tables.end(reader, study)
        return self._read(name, study, max(since, 0), end)

    def lock(self, name: str, *, wait: bool = False) -> AbstractContextManager[None]:
        """The right to append to a study, held by one process at a time and let go when it dies.

        Args:
            name: of the study, which need not exist yet.
            wait: False for a run that keeps it long; True to keep it for a moment, and to wait for others who do so.

        Raises:
            StudyError: it is no name.
            StoreBusy: another process holds it.
        """
        _check(name)
        return self._lock(name, wait)

    def close(self) -> None:
        """Close the database; the next use opens it again."""
        with self._opening:
            if self._database is not None:
                self._database.close()

    # ------------------------------------------------------------------ helpers

    def _open(self) -> Database:
        with self._opening:
            if self._database is None:
                from foretell.stores._database import Database

                self._database = Database(self._folder)
            return self._database

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._open().reading() as reader:
            assert reader is not None, "a study was found, so there is a database"
            yield reader

    def _study(self, name: str) -> int:
        import sqlalchemy as sa

        from foretell.stores._tables import STUDY

        if name not in self._study_ids:
            with self._open().reading() as reader:
                number = reader.scalar(sa.select(STUDY.c.id).where(STUDY.c.name == name)) if reader is not None else None
            if number is None:
                raise StudyError(f"There is no study {name!r}. {did_you_mean(name, self.names())}")
            self._study_ids[name] = number
        return self._study_ids[name]

    def _read(self, name: str, study: int, since: int, end: int) -> Iterator[Entry]:
        from foretell.stores import _tables

        for start in range(since, end, _CHUNK):
            with self._reading() as reader, self._sane(name):
                found = _tables.read(reader, study, start, min(start + _CHUNK, end))
            yield from found

    @contextmanager
    def _sane(self, name: str) -> Iterator[None]:
        """What was written can be read; if not, the file is not what it was."""
        from foretell.stores._failures import corrupt

        try:
            yield
        except (LookupError, TypeError, ValueError) as error:
            raise corrupt(self._folder / "store.db", f"study {name!r}: {error}") from error

    @contextmanager
    def _lock(self, name: str, wait: bool) -> Iterator[None]:
        from contextlib import ExitStack

        from foretell.stores._database import make_folder
        from foretell.stores._failures import explained
        from foretell.stores._lock import study_lock

        with ExitStack() as stack:
            with explained(self._folder / "store.db"):
                make_folder(self._folder)
                make_folder(self._folder / "locks")
                stack.enter_context(study_lock(self._folder / "locks" / f"{name}.lock", name, wait=wait))
            yield


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise StudyError(
            f"{name!r} cannot be the name of a study: use at most 100 letters (a to z), digits, dots, dashes and "
            f"underscores, and no dot at the beginning."
        )
