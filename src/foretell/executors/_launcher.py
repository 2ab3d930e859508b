"""The coordinator's side of the template: starts trainings as processes and tells how they ended."""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from foretell.errors import TrainingError
from foretell.executors._payload import anonymous_file, pack, to_memory
from foretell.executors._template import EXIT, THREAD_VARIABLES, command, receive, send

_EXITS_AT_ONCE = 1024 * EXIT.size  # bytes
_PATIENCE = 5.0  # seconds for a template to end its trainings and itself


@final
@dataclass(frozen=True, slots=True)
class Child:
    """One started training: its process, the socket to it, and when it was asked for, in monotonic seconds."""

    pid: int
    channel: socket.socket
    started: float


@final
@dataclass(frozen=True, slots=True)
class _Template:
    process: subprocess.Popen[bytes]
    control: socket.socket
    output: int


@final
class Launcher:
    """Starts one process per training attempt, forked from a template where that is safe. For one thread only.

    Args:
        function: the user's training function.
        entry: `"module:function"`, called in the process as `entry(function, task, channel, load_error=None)`; its
            return value is the exit code.
        threads: for each training's numerical libraries, >= 1.

    Raises:
        FunctionError: if the function cannot be sent to another process.
    """

    def __init__(
        self, function: Callable[..., Any], *, entry: str = "foretell.executors._attempt:main", threads: int = 1
    ) -> None:
        payload = pack(function)
        self._entry = entry
        self._threads = threads
        self._modules = payload.modules
        self._memory = to_memory(payload)
        self._exits, self._exits_in = os.pipe()
        self._children: set[int] = set()
        self._template: _Template | None = None
        self._ready = False
        self._requests = 0
        self._reason = "" if sys.platform == "linux" else "forking is trusted on Linux only"
        os.set_blocking(self._exits, False)

    @property
    def mode(self) -> str:
        """`"fork"`, or `"spawn"` if every training needs a fresh interpreter."""
        self._ready_template()
        return "spawn" if self._reason else "fork"

    @property
    def reason(self) -> str:
        """Why the mode is `"spawn"`, in words; empty if it is `"fork"`."""
        self._ready_template()
        return self._reason

    def start(self) -> None:
        """Let the template begin its imports; the first `spawn` waits for them."""
        if self._template is None:
            self._template = self._launch()

    def spawn(self, task: Mapping[str, Any], *, environment: Mapping[str, str], log: str | Path) -> Child:
        """Start one training.

        Args:
            task: what the entry gets; JSON values only.
            environment: variables set before any code of the user runs.
            log: the file to which its output is appended.

        Raises:
            TrainingError: if no process can be started.
        """
        started = time.monotonic()
        order = {
            "task": dict(task),
            "environment": dict(environment),
            "threads": self._threads,
            "entry": self._entry,
        }
        mine, theirs = socket.socketpair()
        output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            pid = self._request(order, (theirs.fileno(), output))
        except BaseException:
            mine.close()
            raise
        finally:
            theirs.close()
            os.close(output)
        self._children.add(pid)
        return Child(pid, mine, started)

    def filenos(self) -> tuple[int, ...]:
        """The descriptors to wait for: when one is readable, `exits` has news. They change when a template dies."""
        if self._template is None or not self._ready:
            return (self._exits,)
        return (self._exits, self._template.control.fileno())

    def exits(self) -> list[tuple[int, int]]:
        """The trainings that ended since the last call, as process and exit code (minus the signal); never waits."""
        template = self._template
        while template is not None and self._ready and _wait((template.control.fileno(),), 0):
            # Nothing was asked, so this is the template's end or the late answer to an interrupted request.
            if self._answer(template) is None:
                self._bury()
                break
        ended = [(pid, code) for pid, code in self._drain() if pid in self._children]
        self._children.difference_update(pid for pid, _ in ended)
        return ended

    def kill(self, pid: int, number: int) -> None:
        """Send a signal to a training and to all processes of its group; nothing happens if it has ended."""
        if self._template is not None and pid in self._children:
            with contextlib.suppress(ConnectionError):
                send(self._template.control, {"kill": pid, "signal": int(number)})

    def close(self, grace: float = 0.0) -> None:
        """End all trainings and the template.

        Args:
            grace: seconds between asking the trainings to end (SIGTERM) and ending them (SIGKILL), >= 0.
        """
        if self._memory < 0:
            return
        deadline = time.monotonic() + grace
        for pid in self._children if grace > 0 else ():
            self.kill(pid, signal.SIGTERM)
        while self._children and (left := deadline - time.monotonic()) > 0:
            _wait(self.filenos(), left)
            self.exits()
        if self._template is not None:
            self._template.control.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._template.process.wait(_PATIENCE if self._ready else 0)
            self._bury()
        for descriptor in (self._memory, self._exits, self._exits_in):
            os.close(descriptor)
        self._memory = -1
        self._children.clear()

    def _launch(self) -> _Template:
        control, theirs = socket.socketpair()
        output = anonymous_file()
        settings = {
            "argv": sys.argv,
            "entry": self._entry,
            "fork": not self._reason,
            "coordinator": os.getpid(),
        }
        try:
            process = subprocess.Popen(
                command("foretell.executors._template", "main", theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(),),
                env=os.environ | dict.fromkeys(THREAD_VARIABLES, "1"),
                start_new_session=True,  # what the terminal sends is for the coordinator
            )
        finally:
            theirs.close()
        with contextlib.suppress(ConnectionError):
            send(control, settings, (self._exits_in, self._memory))
        self._ready = False
        return _Template(process, control, output)

    def _ready_template(self) -> _Template:
        """The template after its imports; one that must not be forked is replaced by one that imports nothing."""
        while True:
            self.start()
            assert self._template is not None
            if self._ready:
                return self._template
            received = receive(self._template.control)
            if received is not None and received[0]["poison"] is None:
                self._ready = True
                return self._template
            template, forked = self._template, not self._reason
            words = self._bury()
            if received is not None:
                self._reason = received[0]["poison"]
            elif forked:
                self._reason = f"the template ended with {template.process.returncode} during its imports{words}"
            else:
                raise TrainingError(
                    f"{sys.executable} cannot start trainings: it ended with {template.process.returncode}{words}. "
                    "Use workers=0."
                )

    def _request(self, order: Mapping[str, Any], descriptors: tuple[int, int]) -> int:
        for _ in range(2):
            template = self._ready_template()
            self._requests += 1
            reply: dict[str, Any] | None = None
            with contextlib.suppress(ConnectionError):
                send(template.control, {"spawn": order, "number": self._requests}, descriptors)
                while reply is None and (answer := self._answer(template, self._requests)) is not None:
                    reply = answer if answer["number"] == self._requests else None
            if reply is None:
                self._bury()
            elif "error" in reply:
                raise TrainingError(f"no training process could be started: {reply['error']}. Use fewer workers.")
            else:
                return int(reply["pid"])
        raise TrainingError("the template of the training processes died twice. Use workers=0.")

    def _answer(self, template: _Template, awaited: int | None = None) -> dict[str, Any] | None:
        """The template's next answer; a training started by an interrupted request is ended, for no one holds it."""
        received = receive(template.control)
        if received is None:
            return None
        answer = received[0]
        if answer["number"] != awaited and "pid" in answer:
            with contextlib.suppress(ConnectionError):
                send(template.control, {"kill": answer["pid"], "signal": int(signal.SIGKILL)})
        return answer

    def _bury(self) -> str:
        """Clear away a template that has ended, or must; its children died with it. Returns its last words."""
        template = self._template
        assert template is not None
        template.process.kill()
        template.process.wait()
        template.control.close()
        words = _last_line(template.output)
        os.close(template.output)
        self._template = None
        told = self._drain()
        lost = sorted(self._children.difference(pid for pid, _ in told))
        for pid in lost:
            # Linux has done it already; elsewhere, and for processes started by them, nobody else does.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        for pid, code in (*told, *((pid, -int(signal.SIGKILL)) for pid in lost)):
            os.write(self._exits_in, EXIT.pack(pid, code))
        return words

    def _drain(self) -> list[tuple[int, int]]:
        records: list[tuple[int, int]] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                records += [(pid, code) for pid, code in EXIT.iter_unpack(os.read(self._exits, _EXITS_AT_ONCE))]
        return records


def _wait(descriptors: tuple[int, ...], seconds: float) -> bool:
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(math.ceil(seconds * 1000)))


def _last_line(output: int) -> str:
    size = os.fstat(output).st_size
    text = os.pread(output, 4096, max(0, size - 4096)).decode(errors="replace").strip()
    return f": {text.splitlines()[-1]}" if text else ""
