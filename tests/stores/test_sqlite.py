"""What only the store on disk has: a folder, one end of the log, versions, errors with a cure."""

from __future__ import annotations

import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from foretell import events
from foretell.errors import (
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreOnNetwork,
    StoreReadOnly,
    StoreTooNew,
    StudyError,
)
from foretell.stores import Entry, _connections, _database, _lock, _mounts, _tables
from foretell.stores._failures import explained
from foretell.stores.sqlite import SQLiteStore
from tests.stores import golden


def reports(start: int, count: int) -> list[Entry]:
    return [
        Entry(i, float(i), events.Reported(0, 1, i, {"loss": 1.0 / (i + 1)}, 0.0)) for i in range(start, start + count)
    ]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    opened = SQLiteStore(tmp_path / "store")
    yield opened
    opened.close()


@pytest.fixture
def cnn(store: SQLiteStore) -> SQLiteStore:
    store.create("cnn", {})
    store.append("cnn", reports(0, 3))
    return store


def file(store: SQLiteStore) -> Path:
    assert store.folder is not None
    return store.folder.parent / "store.db"


# --- the folder -------------------------------------------------------------------------------------------------------


def test_nothing_is_made_before_it_is_needed(store: SQLiteStore) -> None:
    assert store.names() == []
    with pytest.raises(StudyError, match="There are none"):
        store.entries("cnn")
    assert store.folder is not None and store.folder.name == "studies"
    assert not store.folder.parent.exists()


def test_the_folder_is_for_its_owner_only_and_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "my 100% sure? #1 %20 studies"
    store = SQLiteStore(folder)
    store.create("cnn", {"a": 1})
    store.close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.iterdir()) == ["locks", "store.db"]
    again = SQLiteStore(str(folder))
    assert again.spec("cnn") == {"a": 1}
    again.close()


def test_a_relative_folder_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore("studies")
    monkeypatch.chdir("/")
    store.create("cnn", {})
    store.close()
    assert (tmp_path / "studies" / "store.db").exists()


@pytest.mark.parametrize("name", ["", ".hidden", "..", "a/b", "a\\b", "Größe", "a b", "x" * 101, "a\n", "a\x00"])
def test_a_name_that_is_no_safe_file_name(store: SQLiteStore, name: str) -> None:
    for use in (lambda: store.create(name, {}), lambda: store.lock(name)):
        with pytest.raises(StudyError, match="use at most 100 letters"):
            use()


def test_importing_the_module_loads_no_database_library() -> None:
    code = "import sys, foretell.stores.sqlite; print({'sqlalchemy', 'alembic', 'sqlite3'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_opening_a_store_of_the_newest_version_loads_no_alembic(cnn: SQLiteStore) -> None:
    cnn.close()
    code = (
        "import sys; from foretell.stores.sqlite import SQLiteStore; store = SQLiteStore(sys.argv[1]); "
        "store.create('other', {}); print(store.names(), 'alembic' in sys.modules); store.close()"
    )
    run = [sys.executable, "-c", code, str(file(cnn).parent)]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "['cnn', 'other'] False\n"


def test_the_database_is_as_durable_as_it_can_be(cnn: SQLiteStore) -> None:
    with cnn._database._connections.writing() as writer:
        found = {name: writer.exec_driver_sql(f"PRAGMA {name}").scalar() for name in
                 ("journal_mode", "synchronous", "foreign_keys", "mmap_size")}  # fmt: skip
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "mmap_size": 0}
    with cnn._database._connections.reading() as reader:
        assert reader is not None
        with pytest.raises(Exception, match="readonly"):
            reader.exec_driver_sql("DELETE FROM report")


# --- the log ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 2, 4])
def test_entries_go_on_where_the_log_ends(cnn: SQLiteStore, start: int) -> None:
    with pytest.raises(StoreError, match=rf"ends at entry 2, so entry {start} cannot .* Open the study again"):
        cnn.append("cnn", reports(start, 1))
    cnn.append("cnn", reports(3, 1))
    assert list(cnn.entries("cnn")) == reports(0, 4)


def test_entries_are_numbered_one_by_one(cnn: SQLiteStore) -> None:
    with pytest.raises(StoreError, match="one by one from 3 on"):
        cnn.append("cnn", [reports(3, 1)[0], reports(5, 1)[0]])


def test_two_writers_of_one_study_cannot_both_win(cnn: SQLiteStore) -> None:
    other = SQLiteStore(file(cnn).parent)
    other.append("cnn", reports(3, 2))
    with pytest.raises(StoreError, match="somebody else has written"):
        cnn.append("cnn", reports(3, 1))
    assert list(cnn.entries("cnn")) == reports(0, 5)
    other.close()


def test_threads_share_a_store(store: SQLiteStore) -> None:
    def work(name: str) -> None:
        store.create(name, {})
        event = events.Reported(0, 1, 1, {name: 1.0})
        for start in range(0, 40, 4):
            store.append(name, [Entry(sequence, 0.0, event) for sequence in range(start, start + 4)])
            assert len(list(store.entries(name))) == start + 4

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in "abcd":
        assert [list(entry.event.metrics) for entry in store.entries(name)] == [[name]] * 40


@pytest.mark.parametrize(
    "event",
    [
        events.Created(0, {"lr": object()}),
        events.Created(2**63, {}),
        events.Reported(0, 1, 2**63, {"loss": 1.0}),
        events.Reported(0, 1, 1, {"loss": 10**400}),
        events.Reported(0, 1, 1, {"loss": "low"}),
        events.Reported(0, 1, 1, {"\ud800": 1.0}),
        events.Reported(0, 1, 1.5, {"loss": 1.0}),
        events.Started(np.ones(1), 1),
    ],
    ids=repr,
)
def test_what_cannot_be_stored_is_named_and_leaves_no_trace(cnn: SQLiteStore, event: events.Event) -> None:
    before = events.Reported(0, 1, 1, {"new": 1.0, "metric": 2.0})
    with pytest.raises(StoreError, match="plain numbers"):
        cnn.append("cnn", [Entry(3, 0.0, before), Entry(4, 0.0, event)])
    cnn.append("cnn", [Entry(3, 0.0, events.Reported(0, 1, 1, {"metric": 1.0, "new": 2.0}))])
    assert list(cnn.entries("cnn"))[3].event.metrics == {"metric": 1.0, "new": 2.0}


def test_numpy_numbers_are_stored_as_numbers(cnn: SQLiteStore) -> None:
    one, half = np.int64(1), np.float32(0.5)
    report = Entry(3, np.float64(1), events.Reported(np.int8(0), one, one, {"loss": half}, np.float32(2)))
    cnn.append("cnn", [report, Entry(4, 1.0, events.Started(np.int32(0), one))])
    expected = [Entry(3, 1.0, events.Reported(0, 1, 1, {"loss": 0.5}, 2.0)), Entry(4, 1.0, events.Started(0, 1))]
    assert repr(list(cnn.entries("cnn", 3))) == repr(expected)


def test_a_long_log_is_read_in_pieces(cnn: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    cnn.append("cnn", reports(3, 97))
    monkeypatch.setattr(_database, "_CHUNK", 7)
    assert list(cnn.entries("cnn")) == reports(0, 100)
    assert list(cnn.entries("cnn", 93)) == reports(93, 7)


# --- versions ---------------------------------------------------------------------------------------------------------


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


def test_a_store_of_a_newer_version_is_left_alone(cnn: SQLiteStore) -> None:
    cnn.close()
    execute(file(cnn), "UPDATE alembic_version SET version_num = '0042'")
    before = file(cnn).read_bytes()
    for use in (SQLiteStore.names, lambda store: store.create("other", {})):
        again = SQLiteStore(file(cnn).parent)
        with pytest.raises(StoreTooNew, match=rf"version 0042.*beyond {_tables.VERSION}.*pip install -U foretell"):
            use(again)
        again.close()
    assert file(cnn).read_bytes() == before


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As if foretell had one more migration: where its file lies."""
    folder = tmp_path / "migrations of 100%"
    shutil.copytree(_connections.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    step = folder / "versions" / "v0002_note.py"
    step.write_text(
        "from alembic import op\nrevision, down_revision = '0002', '0001'\n"
        "def upgrade():\n    op.execute('CREATE TABLE note (text TEXT)')\n"
    )
    monkeypatch.setattr(_connections, "MIGRATIONS", folder)
    monkeypatch.setattr(_tables, "VERSION", "0002")
    return step


@pytest.mark.parametrize("reading", [True, False])
def test_an_older_store_is_copied_and_brought_up_to_date(tmp_path: Path, next_version: Path, reading: bool) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    shutil.copyfile(golden.FOLDER / "store-0001.db", folder / "store.db")
    store = SQLiteStore(folder)
    if not reading:
        store.create("new", {})
    assert repr(list(store.entries("cnn"))) == repr(golden.ENTRIES)
    store.close()
    with closing(sqlite3.connect(folder / "store.db")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0002",)]
        assert connection.execute("SELECT count(*) FROM note").fetchall() == [(0,)]
    assert [path.name for path in (folder / "backups").iterdir()] == ["store-0001.db"]
    with closing(sqlite3.connect(folder / "backups" / "store-0001.db")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
        (rows,) = connection.execute("SELECT (SELECT count(*) FROM event) + (SELECT count(*) FROM report)").fetchone()
        assert rows == len(golden.ENTRIES)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, next_version: Path) -> None:
    next_version.write_text(next_version.read_text() + "    op.execute('no such statement')\n")
    folder = tmp_path / "store"
    folder.mkdir()
    shutil.copyfile(golden.FOLDER / "store-0001.db", folder / "store.db")
    store = SQLiteStore(folder)
    with pytest.raises(StoreError):
        store.names()
    store.close()
    with closing(sqlite3.connect(folder / "store.db")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
        assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'note'").fetchall()


# --- damage -----------------------------------------------------------------------------------------------------------


def damaged(path: Path) -> list[bytes]:
    whole = path.read_bytes()
    middle = len(whole) // 2
    return [
        b"this is a letter to my aunt, not a database" * 40,
        whole[: middle + 100],
        whole[:4096],
        random.Random(1).randbytes(len(whole)),
        whole[:4096] + bytes(len(whole) - 4096),
        whole[:8192] + random.Random(2).randbytes(len(whole) - 8192),
    ]


@pytest.mark.fault
@pytest.mark.parametrize("kind", range(6))
def test_a_damaged_file_is_named_with_its_copies(tmp_path: Path, kind: int) -> None:
    (tmp_path / "store.db").write_bytes(damaged(golden.FOLDER / "store-0001.db")[kind])
    (tmp_path / "backups").mkdir()
    (tmp_path / "backups" / "store-0000.db").touch()
    store = SQLiteStore(tmp_path)
    with pytest.raises(StoreCorrupt, match=r"store\.db is damaged.*foretell doctor.*Copies: store-0000\.db"):
        list(store.entries(store.names()[0]))
    store.close()


@pytest.mark.fault
def test_any_damage_is_survived_or_explained(tmp_path: Path) -> None:
    """A flipped bit in a number goes unseen, as SQLite keeps no checksums, but only errors of foretell come out."""
    whole, rng, refused = (golden.FOLDER / "store-0001.db").read_bytes(), random.Random(3), 0
    for turn in range(60):
        folder = tmp_path / str(turn)
        folder.mkdir()
        changed = bytearray(whole)
        for _ in range(20):
            changed[rng.randrange(len(whole))] = rng.randrange(256)
        (folder / "store.db").write_bytes(changed)
        store = SQLiteStore(folder)
        try:
            for name in store.names():
                store.spec(name)
                assert all(isinstance(entry, Entry) for entry in store.entries(name))
        except (StoreError, StudyError):
            refused += 1
        store.close()
    assert refused > 5


@pytest.mark.fault
def test_a_gap_in_the_log_is_damage(cnn: SQLiteStore) -> None:
    execute(file(cnn), "DELETE FROM report WHERE sequence = 1")
    with pytest.raises(StoreCorrupt, match="lacks entry 1"):
        list(cnn.entries("cnn"))


def test_a_foreign_database_is_left_alone(tmp_path: Path) -> None:
    execute(tmp_path / "store.db", "CREATE TABLE mine (x)")
    store = SQLiteStore(tmp_path)
    for use in (store.names, lambda: store.create("cnn", {})):
        with pytest.raises(StoreError, match="no store of foretell: choose another folder"):
            use()
    store.close()


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "store").touch()
    store = SQLiteStore(tmp_path / "store")
    with pytest.raises(StoreError, match="choose a folder"):
        store.create("cnn", {})
    store.close()


@pytest.mark.fault
def test_a_store_that_was_deleted_meanwhile(cnn: SQLiteStore) -> None:
    cnn.close()
    file(cnn).unlink()
    with pytest.raises(StoreError, match="is gone"):
        cnn.entries("cnn")


# --- others ----------------------------------------------------------------------------------------------------------


def test_a_foreign_program_that_keeps_the_file_locked(cnn: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    cnn.close()
    monkeypatch.setattr(_connections, "BUSY_SECONDS", 0.0)
    with closing(sqlite3.connect(file(cnn), isolation_level=None)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy, match="locked by another program"):
            cnn.append("cnn", reports(3, 1))
        assert list(cnn.entries("cnn")) == reports(0, 3)
        foreign.execute("ROLLBACK")
        cnn.append("cnn", reports(3, 1))


def test_a_process_that_hangs_in_a_write(cnn: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lock, "PATIENCE", 0.0)
    with _lock.locked(file(cnn).parent / "locks" / ".store.lock", patience=0.0), pytest.raises(StoreBusy):
        cnn.append("cnn", reports(3, 1))
    cnn.append("cnn", reports(3, 1))


@pytest.mark.parametrize(
    ("mounted", "refused"),
    [
        ("server:/home {} nfs4 rw 0 0", True),
        ("//server/share {} cifs rw 0 0", True),
        ("user@host: {} fuse.sshfs rw 0 0", True),
        ("/dev/sda1 {} ext4 rw 0 0", False),
        ("server:/home {}else nfs4 rw 0 0", False),
        ("server:/home {} nfs4 rw 0 0\n/dev/sdb1 {}/local xfs rw 0 0", False),
        ("/dev/sda1 {} ext4 rw 0 0\nserver:/a {} nfs rw 0 0", True),
        ("", False),
    ],
)
def test_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounted: str, refused: bool
) -> None:
    home = tmp_path / "my home"
    table = "/dev/root / ext4 rw 0 0\nbroken line\n" + mounted.replace("{}", str(home).replace(" ", "\\040"))
    monkeypatch.setattr(_mounts, "mount_table", lambda: table)
    if refused:
        with pytest.raises(StoreOnNetwork, match=r"network file system .* local disk"):
            SQLiteStore(home / "local" / "store")
    else:
        SQLiteStore(home / "local" / "store")


@pytest.mark.parametrize(
    ("code", "expected", "words"),
    [
        (sqlite3.SQLITE_FULL, StoreFull, "bytes are free.*everything up to entry 7 is kept"),
        (sqlite3.SQLITE_IOERR_WRITE, StoreFull, "Free some space"),
        (sqlite3.SQLITE_READONLY_DIRECTORY, StoreReadOnly, "right to write"),
        (sqlite3.SQLITE_CORRUPT_INDEX, StoreCorrupt, "There are no copies"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreBusy, "another program"),
        (sqlite3.SQLITE_IOERR_READ, StoreError, "disk is there"),
        (sqlite3.SQLITE_CANTOPEN, StoreError, "cannot be used"),
    ],
)
def test_errors_of_sqlite_get_a_name_and_a_cure(
    tmp_path: Path, code: int, expected: type[StoreError], words: str
) -> None:
    error = sqlite3.OperationalError("from the driver")
    error.sqlite_errorcode = code
    with pytest.raises(expected, match=words) as caught, explained(tmp_path / "store.db", "everything up to entry 7"):
        raise error
    assert type(caught.value) is expected and str(tmp_path / "store.db") in str(caught.value)
