"""What runs in the process of one training: the link to the coordinator, and the attempt itself."""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import struct
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, final

from foretell import events
from foretell._faults import fault
from foretell.attempt import attempt
from foretell.errors import TrainingError
from foretell.events import Event
from foretell.executors import Reply, Task
from foretell.trial import CONTINUE, State, Verdict

LENGTH = struct.Struct("<I")
CHECK_IN = "check in"  # the coordinator wants to be asked at the next epoch boundary


def pack(message: Mapping[str, Any]) -> bytes:
    """One message as it crosses the socket: its length, then JSON (with NaN and Infinity as Python writes them)."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return LENGTH.pack(len(body)) + body


def reply_to_json(reply: Reply) -> dict[str, Any]:
    """A reply as plain data."""
    if reply.verdict is CONTINUE:  # nearly every answer: keep it short
        return {"until": reply.until}
    return {"until": reply.until, "verdict": reply.verdict.to_json(), "keep": reply.keep}


def reply_from_json(data: Mapping[str, Any]) -> Reply:
    """The inverse of `reply_to_json`."""
    if "verdict" not in data:
        return Reply(data["until"])
    return Reply(data["until"], Verdict.from_json(data["verdict"]), data["keep"])


@final
class SocketLink:
    """The way from a training process to its coordinator; a closed socket ends the process.

    Args:
        channel: connected to the coordinator.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._check_in = False

    def send(self, event: Event) -> Reply:
        """Say what happened and wait for the answer."""
        fault("attempt-before-send")
        try:
            self._channel.sendall(pack(events.to_json(event)))
        except OSError:
            self._orphaned()
        while True:
            answer = self._receive()
            if CHECK_IN in answer:
                self._check_in = True
                continue
            fault("attempt-after-reply")
            return reply_from_json(answer)

    def asked(self) -> bool:
        """Whether the coordinator wants to be asked; looks at the socket without waiting."""
        while select.select([self._channel], [], [], 0)[0]:
            self._check_in = CHECK_IN in self._receive() or self._check_in
        asked, self._check_in = self._check_in, False
        return asked

    def _receive(self) -> dict[str, Any]:
        (length,) = LENGTH.unpack(self._exactly(LENGTH.size))
        message: dict[str, Any] = json.loads(self._exactly(length))
        return message

    def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            try:
                part = self._channel.recv(size)
            except OSError:
                part = b""
            if not part:
                self._orphaned()
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _orphaned(self) -> None:
        os._exit(1)  # the coordinator is gone: nobody may hear more of this attempt


def main(
    function: partial[Any] | None,
    task: dict[str, Any],
    channel: socket.socket,
    *,
    load_error: BaseException | None = None,
) -> int:
    """The entry point of a training process.

    Args:
        function: the user's function with its `Work` as the first argument, bound but not called.
        task: the fields of a `Task`.
        channel: to the coordinator.
        load_error: what went wrong while the function was loaded.
    """
    assignment = Task(
        **{**task, "restore": {kind: tuple(place) for kind, place in task["restore"].items()}}
        | {"curve": [tuple(point) for point in task["curve"]]}
    )
    link = SocketLink(channel)
    lock = _lock(assignment)
    try:
        if function is None:
            error = TrainingError(f"The training function could not be loaded: {load_error!r}")
            link.send(events.Ended(assignment.trial, assignment.attempt, State.FAILED, cause="error", error=str(error)))
            return 1
        attempt(function.args[0].with_function(function.func), assignment, link)
    finally:
        if lock is not None:
            os.close(lock)
    return 0


def _lock(task: Task) -> int | None:
    """Held as long as this process lives, so that a trial never runs twice at once; waits for the attempt before."""
    if task.folder is None:
        return None
    Path(task.folder).mkdir(parents=True, exist_ok=True)
    descriptor = os.open(Path(task.folder) / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.lockf(descriptor, fcntl.LOCK_EX)
    return descriptor
