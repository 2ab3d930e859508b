"""Processes killed in the middle, disks that fill up, folders that cannot be written: nothing acknowledged is lost."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from foretell import events
from foretell.errors import StoreFull, StoreReadOnly
from foretell.stores import Entry
from foretell.stores.sqlite import SQLiteStore

pytestmark = pytest.mark.fault

BATCH = 3

WRITER = """
import sys
from foretell.stores.sqlite import SQLiteStore
from tests.stores.test_sqlite_faults import BATCH, batch
store = SQLiteStore(sys.argv[1])
store.create("cnn", {})
print(0, flush=True)
with store.lock("cnn"):
    for start in range(0, 60, BATCH):
        store.append("cnn", batch(start))
        print(start + BATCH, flush=True)
"""

CRAMPED = """
import resource, sys
from foretell.errors import StoreFull
from foretell.stores.sqlite import SQLiteStore
from tests.stores.test_sqlite_faults import fill
store = SQLiteStore(sys.argv[1])
store.create("cnn", {})
def cramp(): resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
def relieve(): resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
fill(store, cramp, relieve)
store.close()
"""


def batch(start: int, count: int = BATCH, length: int = 0) -> list[Entry]:
    """Entries of both sorts, `length` characters each."""
    kinds = (
        lambda i: events.Reported(0, 1, i, {"loss": 1.0 / (i + 1), f"metric {i % 7}": float(i)}, 0.0),
        lambda i: events.Granted(0, 1, i, "x" * length),
    )
    return [Entry(i, float(i), kinds[i % 2](i)) for i in range(start, start + count)]


def intact(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return bool(
            connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            and connection.execute("PRAGMA foreign_key_check").fetchall() == []
        )


@pytest.mark.parametrize("point", ["store-before-begin", "store-before-commit", "store-after-commit"])
@pytest.mark.parametrize("count", [1, 2, 9])  # the first pass is that of `create`
def test_a_kill_at_any_point_loses_nothing_acknowledged(tmp_path: Path, point: str, count: int) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        env={**os.environ, "FORETELL_FAULT": f"{point}:{count}"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    acknowledged = [int(line) for line in killed.stdout.split()]
    store = SQLiteStore(tmp_path)
    committed = point == "store-after-commit"
    if count == 1:
        assert acknowledged == [] and store.names() == (["cnn"] if committed else [])
    else:
        length = acknowledged[-1] + (BATCH if committed else 0)
        assert acknowledged[-1] == (count - 2) * BATCH
        assert list(store.entries("cnn")) == batch(0, length)
        with store.lock("cnn"):
            store.append("cnn", batch(length))
        assert list(store.entries("cnn")) == batch(0, length + BATCH)
    store.close()
    assert intact(tmp_path / "store.db")


def append_until_refused(store: SQLiteStore, end: int, length: int) -> tuple[int, str]:
    """Where the log ends then, and what the refusal says."""
    for start in range(end, end + 40_000, 8):
        try:
            store.append("cnn", batch(start, 8, length))
        except StoreFull as error:
            return start, str(error)
    raise AssertionError("the disk never got full")


def fill(store: SQLiteStore, cramp: Callable[[], None], relieve: Callable[[], None]) -> None:
    """Append until nothing goes in any more, make room, and go on with the same store."""
    end = 0
    for length in (3000, 100, 0):
        cramp()
        end, message = append_until_refused(store, end, length)
        assert "store.db: " in message and " bytes are free" in message
        assert f"run the same command again: everything up to entry {end - 1} of study 'cnn' is kept" in message
        assert [entry.sequence for entry in store.entries("cnn")] == list(range(end))
        relieve()
        store.append("cnn", batch(end, 8, 3000))
        end += 8
    assert [entry.sequence for entry in store.entries("cnn")] == list(range(end))


def test_files_that_may_not_grow(tmp_path: Path) -> None:
    """A limit on the size of files, as a quota sets it."""
    code = [sys.executable, "-c", CRAMPED, str(tmp_path), str(512 * 1024)]
    done = subprocess.run(code, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert intact(tmp_path / "store.db")


def mounted(target: Path, *arguments: str) -> None:
    target.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *arguments, str(target)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the right to mount: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs the right to mount")
    disk = tmp_path / "disk"
    mounted(disk, "-t", "tmpfs", "-o", "size=4m", "tmpfs")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk(small_disk: Path) -> None:
    ballast = small_disk / "ballast"

    def cramp() -> None:
        free = shutil.disk_usage(small_disk).free
        ballast.write_bytes(bytes(max(0, free - 64 * 1024)))

    store = SQLiteStore(small_disk / "store")
    store.create("cnn", {})
    fill(store, cramp, ballast.unlink)
    store.close()
    assert intact(small_disk / "store" / "store.db")


def test_a_disk_that_is_full_from_the_start(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 8192))
    store = SQLiteStore(small_disk / "store")
    with pytest.raises(StoreFull, match="everything stored so far is kept"):
        store.create("cnn", {})
    ballast.unlink()
    store.create("cnn", {})
    assert store.names() == ["cnn"]
    store.close()


@pytest.fixture(params=["closed", "open", "torn"])
def frozen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, bool]]:
    """A store on a file system that can only be read, and whether it can be read there."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs the right to mount")
    made, copy, folder = tmp_path / "made", tmp_path / "copy", tmp_path / "frozen"
    store = SQLiteStore(made)
    store.create("cnn", {})
    store.append("cnn", batch(0))
    if request.param == "closed":
        store.close()
    shutil.copytree(made, copy)
    store.close()
    if request.param == "torn":  # SQLite's log without its index, which only somebody who may write can make anew
        (copy / "store.db-shm").unlink()
    mounted(folder, "--bind", str(copy))
    mounted(folder, "-o", "remount,ro,bind")
    yield folder, request.param != "torn"
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_folder_that_can_only_be_read(frozen: tuple[Path, bool]) -> None:
    folder, readable = frozen
    store = SQLiteStore(folder)
    uses = [
        lambda: store.append("cnn", batch(BATCH)),
        lambda: store.create("new", {}),
        lambda: store.lock("cnn").__enter__(),
    ]
    if readable:
        assert store.names() == ["cnn"] and list(store.entries("cnn")) == batch(0)
    else:
        uses.append(store.names)
    for use in uses:
        with pytest.raises(StoreReadOnly, match=r"cannot be written to\. Give yourself the right"):
            use()
    store.close()
