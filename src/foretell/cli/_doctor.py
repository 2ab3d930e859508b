"""`foretell doctor`: what this machine and a store are like, each finding with the next command to type."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from foretell._version import __version__
from foretell.cli._output import document, table
from foretell.cli._reader import Reader, opened
from foretell.errors import StoreError, StoreOnNetwork

_PACKAGES = ("numpy", "scipy", "sqlalchemy", "alembic", "click", "rich", "safetensors", "cloudpickle")
_OPTIONAL = ("torch", "matplotlib", "pandas", "pyarrow")
_WAL_RESET = (3, 7, 0), (3, 51, 2)  # https://sqlite.org/wal.html, "the WAL-reset bug"
_LITTLE_SPACE = 1 << 30  # bytes
_CHECKPOINTS = "trials/*/checkpoints/*"


class Finding(NamedTuple):
    """One line: `level` is ok, warn or fail; `cure` a command to type, or empty."""

    level: str
    what: str
    detail: str
    cure: str = ""


def doctor(store: Path, *, as_json: bool) -> int:
    """Look at the machine, and at the store if it is there; 4 if the store fails."""
    found = [*_machine(), *_of_store(store)]
    if as_json:
        document({"store": str(store), "checks": [finding._asdict() for finding in found]})
    else:
        rows = [(finding.level, finding.what, finding.detail) for finding in found]
        table(("", "what", "found"), rows, left=("", "what", "found"))
        for finding in found:
            if finding.cure:
                table(("",), [[f"{finding.what}: {finding.cure}"]], left=("",))
    return 4 if any(finding.level == "fail" for finding in found) else 0


def _machine() -> Iterator[Finding]:
    yield Finding(
        "ok",
        "foretell",
        f"{__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}",
    )
    for name in _PACKAGES:
        version = _version(name)
        if version is None:
            yield Finding("fail", name, "not installed, though foretell needs it", f"pip install {name}")
    versions = {name: _version(name) for name in (*_PACKAGES, *_OPTIONAL)}
    yield Finding("ok", "packages", ", ".join(f"{name} {version}" for name, version in versions.items() if version))
    yield _sqlite()
    yield Finding("ok", "cores", _cores())
    if sys.platform == "linux":
        yield Finding(
            "ok", "processes", "forked from a template that never ran your code; started afresh if that cannot be"
        )
    else:
        yield Finding("ok", "processes", "started afresh for each training, since forking is trusted on Linux only")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _sqlite() -> Finding:
    first, last = _WAL_RESET
    if first <= sqlite3.sqlite_version_info <= last:
        note = (
            f"{sqlite3.sqlite_version} has the WAL-reset bug (3.7.0 to 3.51.2); foretell writes under one lock, which "
            "avoids it: let no other program write to store.db"
        )
        return Finding("ok", "sqlite", note)
    return Finding("ok", "sqlite", sqlite3.sqlite_version)


def _cores() -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return str(usable)
    if quota == "max":
        return str(usable)
    return f"{usable}, of which this container may use {int(quota) / int(period):g}"


def _of_store(folder: Path) -> Iterator[Finding]:
    file = folder / "store.db"
    if not file.is_file():
        yield Finding("ok", "store", f"there is none in {folder} yet")
        return
    yield _space(folder)
    try:
        store = opened(folder)
        integrity, version = _looked_at(file)
        if integrity != "ok":
            yield Finding("fail", "store", f"{file} is damaged: {integrity}", _restoring(folder))
            return
        names = store.names()
    except StoreOnNetwork as error:
        yield Finding("fail", "store", str(error), f"cp -r {shlex.quote(str(folder))} A-LOCAL-FOLDER")
        return
    except (StoreError, sqlite3.Error) as error:
        yield Finding("fail", "store", str(error), _restoring(folder))
        return
    yield Finding("ok", "store", f"{file} is whole, schema {version}, {len(names)} studies, on a local file system")
    for name in names:
        try:
            yield from _of_study(folder, Reader(folder, store, name))
        except StoreError as error:
            yield Finding("fail", f"study {name}", str(error), _restoring(folder))
    store.close()


def _space(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    if free < _LITTLE_SPACE:
        return Finding("warn", "disk", f"{_bytes(free)} free, which few checkpoints fill", f"du -sh {folder}/studies/*")
    return Finding("ok", "disk", f"{_bytes(free)} free")


def _looked_at(file: Path) -> tuple[str, str]:
    """What SQLite says of the file, and the version of its schema."""
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
        (integrity,) = database.execute("PRAGMA integrity_check(1)").fetchone()
        row = database.execute("SELECT version_num FROM alembic_version").fetchone() if integrity == "ok" else None
    return integrity, "unknown" if row is None else str(row[0])


def _restoring(folder: Path) -> str:
    copies = sorted((folder / "backups").glob("*.db"))
    if copies:
        return f"cp {shlex.quote(str(copies[-1]))} {shlex.quote(str(folder / 'store.db'))}"
    return f"mv {shlex.quote(str(folder / 'store.db'))} {shlex.quote(str(folder / 'store.db.damaged'))}"


def _of_study(folder: Path, reader: Reader) -> Iterator[Finding]:
    what = f"study {reader.name}"
    if reader.holder is not None:
        yield Finding("ok", what, f"{len(reader.record)} trials, {reader.standing}")
        return
    known = {saved.folder for kept in reader.record.checkpoints.values() for saved in kept.values()}
    lost = [
        path for path in sorted(reader.place.glob(_CHECKPOINTS)) if str(path.relative_to(reader.place)) not in known
    ]
    gone = [name for name in sorted(known) if not (reader.place / name).is_dir()]
    if gone:
        yield Finding("warn", what, f"{len(gone)} checkpoints are missing on disk, the first is {gone[0]}",
                      f"foretell show {reader.name} --store {folder}")  # fmt: skip
    if lost:
        size = sum(file.stat().st_size for path in lost for file in path.rglob("*") if file.is_file())
        detail = f"{len(lost)} folders of checkpoints belong to no trial any more ({_bytes(size)})"
        yield Finding("warn", what, detail, f"rm -r {shlex.join(map(str, lost))}")
    if not gone and not lost:
        yield Finding("ok", what, f"{len(reader.record)} trials, {reader.standing}")


def _bytes(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
