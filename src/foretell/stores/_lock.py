"""Locks between processes, let go by the system when their holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from foretell.errors import StoreBusy
from foretell.stores import Holder

PATIENCE = 10.0
"""Seconds to wait for somebody who holds a lock only for a moment."""

_PAUSE = 0.01
_held: set[int] = set()
_never = threading.Event()


def _let_go_in_child() -> None:
    """A lock lives until every copy of its descriptor is closed: a forked child must not outlive its parent with it."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


@contextmanager
def locked(path: Path, *, patience: float, worth_waiting: Callable[[], bool] = lambda: True) -> Iterator[int]:
    """Hold an exclusive lock on a file, which is made if need be; gives its descriptor.

    Args:
        path: the file; its content belongs to the holder and is emptied at the end.
        patience: seconds to wait for another holder.
        worth_waiting: asked before each wait.

    Raises:
        BlockingIOError: somebody else kept it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    _held.add(descriptor)
    try:
        deadline = time.monotonic() + patience
        while not _acquired(descriptor):
            if time.monotonic() >= deadline or not worth_waiting():
                raise BlockingIOError(f"{path} is locked")
            _never.wait(_PAUSE)
        yield descriptor
        if descriptor in _held:
            os.ftruncate(descriptor, 0)
    finally:
        if descriptor in _held:
            _held.remove(descriptor)
            os.close(descriptor)


@contextmanager
def study_lock(path: Path, study: str, *, wait: bool) -> Iterator[None]:
    """The right to append to a study.

    Args:
        path: of the lock file, in which the holder says who it is.
        study: name for messages.
        wait: whether it is taken for a moment only, and may be waited for if others do so too; else for a long run.

    Raises:
        StoreBusy: another process holds it.
    """
    with ExitStack() as stack:
        try:
            descriptor = stack.enter_context(
                locked(path, patience=PATIENCE if wait else 0.0, worth_waiting=lambda: not _runs(_holder(path)))
            )
        except BlockingIOError:
            raise StoreBusy(_who(study, _holder(path))) from None
        kind = "call" if wait else "run"
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "time": time.time(), "kind": kind}
        with contextlib.suppress(OSError):  # on a full disk the lock holds all the same, it only stays anonymous
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode("ascii"), 0)
        yield


def holder(path: Path) -> Holder | None:
    """The living process that has signed a lock file, or None; one on another host is taken to live."""
    signed = _holder(path)
    if not signed or (_is_here(signed) and _is_dead(signed["pid"])):
        return None
    return Holder(int(signed["pid"]), str(signed["host"]), str(signed["kind"]))


def _acquired(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(path: Path) -> dict[str, Any]:
    try:
        holder = json.loads(path.read_bytes())
    except (OSError, ValueError):  # just taken, and not yet signed
        return {}
    return holder if isinstance(holder, dict) else {}


def _runs(holder: dict[str, Any]) -> bool:
    """Whether the holder is a long run, and still the one that signed: a dead process leaves its signature behind."""
    return holder.get("kind") == "run" and not (_is_here(holder) and _is_dead(holder["pid"]))


def _is_here(holder: dict[str, Any]) -> bool:
    return holder.get("host") == socket.gethostname()


def _is_dead(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _who(study: str, holder: dict[str, Any]) -> str:
    if not holder:
        return f"Study {study!r} has just been taken by another process. Try again in a moment."
    since = datetime.fromtimestamp(holder["time"])
    when = f"{since:%H:%M}" if since.date() == datetime.now().date() else f"{since:%Y-%m-%d %H:%M}"
    where = "this machine" if _is_here(holder) else holder["host"]
    process = f"process {holder['pid']} on {where} since {when}"
    if holder["kind"] == "run":
        return (
            f"Study {study!r} is being run by {process}. Wait for it, attach with `foretell show {study}`, or stop it "
            f"with `foretell stop {study}`."
        )
    return f"Study {study!r} is being changed by {process}. Try again in a moment, or end that process if it hangs."
