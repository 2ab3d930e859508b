"""What goes wrong with files and SQLite, said in the words of `foretell.errors`, each with its cure."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foretell.errors import StoreBusy, StoreCorrupt, StoreError, StoreFull, StoreReadOnly

_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
_READ_ONLY = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def explained(file: Path, kept: str = "everything stored so far") -> Iterator[None]:
    """Turn errors of the system and of SQLite into those of the store.

    Args:
        file: the database, for messages.
        kept: what is safe although this failed.

    Raises:
        StoreError: or one of its kinds.
    """
    try:
        yield
    except Exception as error:
        cause = getattr(error, "orig", error)  # SQLAlchemy wraps what the driver raised
        if isinstance(cause, BlockingIOError):
            raise busy(file) from error
        if isinstance(cause, OSError):
            raise _of_system(cause, file, kept) from error
        if isinstance(cause, UnicodeDecodeError):
            raise corrupt(file, "text that is no UTF-8") from error
        if isinstance(cause, sqlite3.Error):
            raise _of_sqlite(cause, file, kept) from error
        raise


def busy(file: Path) -> StoreBusy:
    """Somebody else writes and does not come to an end."""
    return StoreBusy(
        f"{file} is locked by another program. Close what has it open for writing (another foretell that hangs, an "
        f"SQLite shell or browser) and run the same command again; nothing was lost."
    )


def corrupt(file: Path, what: str) -> StoreCorrupt:
    """The file is there and is not what was written."""
    backups = file.parent / "backups"
    found = sorted(path.name for path in backups.glob("*.db"))
    copies = f"Copies: {', '.join(found)} in {backups}." if found else f"There are no copies in {backups}."
    return StoreCorrupt(
        f"{file} is damaged ({what}). Nothing was changed. Run `foretell doctor {file.parent}` to see what can be "
        f"saved, or put a copy of the file in its place. {copies}"
    )


def _of_system(error: OSError, file: Path, kept: str) -> StoreError:
    where = Path(os.fsdecode(error.filename)) if error.filename is not None else file
    if error.errno in _NO_SPACE:
        return _full(where, kept)
    if error.errno in _FORBIDDEN:
        return _read_only(where)
    if isinstance(error, NotADirectoryError | FileExistsError):
        return StoreError(f"{where} is a file, so it cannot be a store: choose a folder.")
    return StoreError(f"The store {file} cannot be used ({error}): see that its disk is there and in order.")


def _of_sqlite(error: sqlite3.Error, file: Path, kept: str) -> StoreError:
    extended = getattr(error, "sqlite_errorcode", None)
    if extended is None:
        if "decode" in str(error):  # the driver's own: text that is no UTF-8
            return corrupt(file, str(error))
        return StoreError(f"{file}: {error}. Events hold plain numbers and text only; see what was reported.")
    code = extended & 0xFF
    if extended in _FULL or code == sqlite3.SQLITE_FULL:
        return _full(file, kept)
    if code in _READ_ONLY:
        return _read_only(file)
    if code in _CORRUPT:
        return corrupt(file, str(error))
    if code in _BUSY:
        return busy(file)
    if code == sqlite3.SQLITE_CANTOPEN:
        if _free(file) == 0:
            return _full(file, kept)
        if not os.access(file.parent, os.W_OK):
            return _read_only(file)
    return StoreError(
        f"{file} cannot be used ({error}, {getattr(error, 'sqlite_errorname', 'unknown')}): see that its disk is there "
        f"and in order, then run the same command again; {kept} is kept."
    )


def _full(file: Path, kept: str) -> StoreFull:
    return StoreFull(
        f"No space is left to write {file}: {_free(file):,} bytes are free, or a quota is used up. Free some space and "
        f"run the same command again: {kept} is kept."
    )


def _read_only(file: Path) -> StoreReadOnly:
    return StoreReadOnly(
        f"{file} cannot be written to. Give yourself the right to write to the folder and the files in it, or copy the "
        f"folder to where you may write."
    )


def _free(file: Path) -> int:
    try:
        return shutil.disk_usage(file.parent).free
    except OSError:
        return 0
