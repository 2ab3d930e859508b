"""The connections to a store's SQLite file: one that writes, and others that can only read."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import final

import sqlalchemy as sa
from sqlalchemy import Connection, Engine
from sqlalchemy.pool import NullPool, QueuePool

from foretell._faults import fault
from foretell.errors import StoreError, StoreTooNew
from foretell.stores import _lock, _tables
from foretell.stores._failures import corrupt, explained

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 5.0
"""How long SQLite waits for a foreign program that holds its locks."""

_migrating = threading.Lock()  # Alembic keeps what it is working on in a global


@final
class Connections:
    """Opens the file when it is first needed, brings it to the newest schema, and hands out transactions.

    Every write transaction of every process runs under one file lock. SQLite would serialise them too, but up to its
    version 3.51.2 the log can be damaged if two connections write or checkpoint at the same instant.

    Args:
        folder: absolute path of the store's folder, which is made with the first write.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "store.db"
        self._folder = folder
        self._guard = folder / "locks" / ".store.lock"
        self._mutex = threading.RLock()
        self._writer: Connection | None = None
        self._readers: Engine | None = None

    @contextmanager
    def writing(self, kept: str = "everything stored so far") -> Iterator[Connection]:
        """A transaction that writes: durable when the block ends, and without a trace if the block or the commit fails.

        Args:
            kept: what is safe although this failed, for messages.
        """
        with self._mutex, explained(self.file, kept):
            writer = self._writer or self._open()
            with _lock.locked(self._guard, patience=_lock.PATIENCE):
                fault("store-before-begin")
                with writer.begin():
                    yield writer
                    fault("store-before-commit")
                fault("store-after-commit")

    @contextmanager
    def reading(self) -> Iterator[Connection | None]:
        """A connection that can only read, or None as long as nothing was ever written."""
        with explained(self.file):
            readers = self._open_readers()
            if readers is None:
                yield None
            else:
                with readers.connect() as reader:
                    yield reader

    def close(self) -> None:
        """Close all connections; the next use opens new ones."""
        with self._mutex, explained(self.file):
            writer, self._writer = self._writer, None
            readers, self._readers = self._readers, None
            if readers is not None:
                readers.dispose()
            if writer is not None:  # last, for the last connection to leave clears SQLite's log away, if it may write
                writer.close()
                writer.engine.dispose()

    # ------------------------------------------------------------------ opening

    def _open(self) -> Connection:
        make_folder(self._folder)
        make_folder(self._guard.parent)
        with _lock.locked(self._guard, patience=_lock.PATIENCE), contextlib.ExitStack() as undo:
            raw = sqlite3.connect(self.file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            undo.callback(raw.close)
            version = self._version(raw)
            for setting in ("synchronous=FULL", "foreign_keys=ON", "mmap_size=0"):
                raw.execute(f"PRAGMA {setting}")
            (mode,) = raw.execute("PRAGMA journal_mode=WAL").fetchone()
            if mode != "wal":
                raise StoreError(f"{self.file} cannot have a write-ahead log here: choose a folder on a local disk.")
            # Transactions end where they began, in `writing`: there is nothing to reset when the connection goes.
            engine = sa.create_engine("sqlite://", creator=lambda: raw, poolclass=NullPool, pool_reset_on_return=None)
            sa.event.listen(engine, "begin", _begin)
            writer = engine.connect()
            undo.callback(writer.close)
            if version != _tables.VERSION:
                if version is not None:
                    self._back_up(raw, version)
                fault("store-before-migration")
                _migrate(writer)
            undo.pop_all()
        self._writer = writer
        return writer

    def _open_readers(self) -> Engine | None:
        if self._readers is not None:
            return self._readers
        with self._mutex:
            if not self.file.exists():
                return None
            with closing(self._connect_reader()) as raw:
                version = self._version(raw)
            if version is None:
                return None
            if version != _tables.VERSION and self._writer is None:
                self._open()
            # Readers never hold a transaction, so there is nothing to reset when a connection comes back.
            self._readers = sa.create_engine(
                "sqlite://", creator=self._connect_reader, poolclass=QueuePool, pool_reset_on_return=None
            )
            return self._readers

    def _connect_reader(self) -> sqlite3.Connection:
        log = self.file.with_name(f"{self.file.name}-wal")
        at_rest = not os.access(self._folder, os.W_OK) and not log.exists()  # SQLite would want to put a log beside it
        uri = f"{self.file.as_uri()}?mode=ro{'&immutable=1' if at_rest else ''}"
        return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)

    def _version(self, raw: sqlite3.Connection) -> str | None:
        """The revision of the file's schema, or None if it is still empty."""
        tables = {name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            return None
        if "alembic_version" not in tables:
            raise StoreError(f"{self.file} is a database, but no store of foretell: choose another folder.")
        row = raw.execute("SELECT version_num FROM alembic_version").fetchone()
        if row is None or not (isinstance(row[0], str) and row[0].isdecimal()):
            raise corrupt(self.file, "it does not say which version of the schema it has")
        version: str = row[0]
        if version > _tables.VERSION:
            raise StoreTooNew(
                f"{self.file} has schema version {version}, but this foretell knows none beyond {_tables.VERSION}. Run "
                f"`pip install -U foretell`, or choose another folder."
            )
        return version

    def _back_up(self, raw: sqlite3.Connection, version: str) -> None:
        folder = self._folder / "backups"
        make_folder(folder)
        target = folder / f"store-{version}.db"
        partial = target.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        with closing(sqlite3.connect(partial, isolation_level=None)) as copy:
            raw.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # so that it is one file, whole in itself
        sync(partial)
        partial.replace(target)
        sync(folder)


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner can enter, durably; one that exists is left as it is."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync(folder.parent)


def sync(path: Path) -> None:
    """Make a file's content, or a folder's list of files, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _migrate(writer: Connection) -> None:
    """Bring the schema to the newest revision in one transaction, or leave it as it is."""
    from alembic import command  # noqa: PLC0415 -- slow to import, and needed once in the life of a store
    from alembic.config import Config  # noqa: PLC0415 -- as above

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = writer
    with _migrating, writer.begin():
        command.upgrade(config, "head")
