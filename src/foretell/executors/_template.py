"""The template: a fresh interpreter that has imported what a training needs and starts one process per attempt.

It runs no code of the user but imports, so it has one thread and can be forked safely, which the user's own process
cannot: after one parallel operation of torch or one tensor of TensorFlow a forked child hangs. Where an import starts a
thread, and where forking is not trusted at all, the same template replaces each forked child by a fresh interpreter.

The functions below `main` run in the template, those below `attempt` in the process of one training.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from foretell.executors._payload import Payload, anonymous_file, from_memory, loading, unpack

EXIT = struct.Struct("<qq")  # one record of the pipe of exits: process, exit code or minus the signal
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_LENGTH = struct.Struct("<I")
_PR_SET_PDEATHSIG = 1
_DESCRIPTORS = 2  # with every message of the coordinator
_TRIES = 10  # a thread that has just been joined may still be listed for a moment


def command(module: str, function: str, *arguments: object) -> list[str]:
    """The command of a fresh interpreter, with the flags and the `sys.path` of this one, that calls one function."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    call = f"from {module} import {function}; {function}(*map(int, sys.argv[1:]))"
    path = [entry for entry in sys.path if isinstance(entry, str)]
    # Nothing but the built-in sys may be imported before the path is right.
    program = f"import sys; sys.path[:] = {path!r}; {call}"
    return [sys.executable, *flags, "-c", program, *map(str, arguments)]


def send(control: socket.socket, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send one message, with file descriptors."""
    body = json.dumps(message).encode()
    socket.send_fds(control, [_LENGTH.pack(len(body))], descriptors)
    control.sendall(body)


def receive(control: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next message and its file descriptors; None if the other side is gone."""
    descriptors: list[int] = []
    try:
        head, descriptors, _, _ = socket.recv_fds(control, _LENGTH.size, _DESCRIPTORS)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        head += _read(control, _LENGTH.size - len(head))
        return json.loads(_read(control, _LENGTH.unpack(head)[0])), descriptors
    except (EOFError, ConnectionError):
        for descriptor in descriptors:
            os.close(descriptor)
        return None


def _read(control: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = control.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


def main(descriptor: int) -> None:
    """Run the template until its coordinator is gone.

    Args:
        descriptor: a Unix socket to the coordinator, whose first message brings the settings, the pipe of exits and
            the payload.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    control = socket.socket(fileno=descriptor)
    first = receive(control)
    if first is not None:
        settings, (exits, memory) = first
        os.set_inheritable(memory, True)
        sys.argv[:] = settings["argv"]
        payload = from_memory(memory)
        poison = _import(_wanted(settings["entry"], payload.modules)) if settings["fork"] else None
        gc.freeze()
        with contextlib.suppress(ConnectionError):
            send(control, {"poison": poison})
            limiter = _thread_limiter() if settings["fork"] else None
            template = _Template(control, exits, memory, payload, settings["fork"], limiter, set())
            template.serve(settings["coordinator"])
    os._exit(0)


def _wanted(entry: str, modules: Sequence[str]) -> list[str]:
    return [entry.partition(":")[0], *modules]


def _import(modules: Sequence[str]) -> str | None:
    """Import what can be imported; in words, why this process must not be forked, if so."""
    before, culprits = 1, []
    for module in modules:
        # The process that trains will meet the same error, where it can be shown.
        with contextlib.suppress(Exception, SystemExit), loading():
            importlib.import_module(module)
        if _threads() > before:
            culprits.append(module)
        before = _threads()
    for _ in range(_TRIES):
        if _threads() == 1:
            return None
        time.sleep(0.005)
    names = " and ".join(culprits) or "foretell"
    return f"importing {names} starts a thread, and a process with threads cannot be forked"


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _thread_limiter() -> Callable[[int], object] | None:
    """A function that sets the threads of the numerical libraries loaded by now; the search for them is done here."""
    try:
        controller = importlib.import_module("threadpoolctl").ThreadpoolController()
    except Exception:  # not installed, or at a loss with a library: then the environment alone has to do
        return None
    return lambda threads: controller.limit(limits=threads)


@final
@dataclass(frozen=True, slots=True)
class _Template:
    control: socket.socket
    exits: int
    memory: int
    payload: Payload
    fork: bool
    limit_threads: Callable[[int], object] | None
    children: set[int]

    def serve(self, coordinator: int) -> None:
        """Start, end and reap processes until the coordinator is gone, then end them all."""
        woken, wakes = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(wakes, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        own = (self.control.fileno(), self.exits, woken, wakes, *_watch(coordinator))
        waited = [descriptor for descriptor in own if descriptor not in (self.exits, wakes)]
        try:
            while True:
                ready = select.select(waited, [], [])[0]
                if woken in ready:
                    os.read(woken, 4096)
                    self._reap()
                if self.control.fileno() in ready and not self._answer(own):
                    return
                if set(ready) - {woken, self.control.fileno()}:
                    return
        finally:
            for pid in self.children:
                _kill_group(pid, signal.SIGKILL)
            for pid in self.children:
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(BrokenPipeError):
                    os.write(self.exits, EXIT.pack(pid, code))

    def _reap(self) -> None:
        for pid in sorted(self.children):
            code = _exit_code(pid)
            if code is not None:
                self.children.discard(pid)
                os.write(self.exits, EXIT.pack(pid, code))

    def _answer(self, own: Sequence[int]) -> bool:
        received = receive(self.control)
        if received is None:
            return False
        message, descriptors = received
        if "kill" in message:
            if message["kill"] in self.children:
                _kill_group(message["kill"], message["signal"])
            return True
        try:
            reply: dict[str, object] = {"pid": self._start(message["spawn"], descriptors, own)}
        except OSError as error:
            reply = {"error": str(error)}
        for descriptor in descriptors:
            os.close(descriptor)
        send(self.control, reply | {"number": message["number"]})
        return True

    def _start(self, order: dict[str, Any], descriptors: Sequence[int], own: Sequence[int]) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        template = os.getpid()
        # No signal may be handled by the child with the template's handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pid = os.fork()
        if pid == 0:
            try:
                self._become_attempt(order, descriptors, own, template)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        self.children.add(pid)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        return pid

    def _become_attempt(
        self, order: dict[str, Any], descriptors: Sequence[int], own: Sequence[int], template: int
    ) -> None:
        channel, log = descriptors
        os.setsid()
        _die_with(template)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for descriptor in own:
            os.close(descriptor)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(order["threads"])) | order["environment"])
        if self.fork:
            _set_threads(order["threads"], self.limit_threads)
            _run(order, self.payload, channel)
        written = anonymous_file()
        with open(written, "wb", closefd=False) as file:
            file.write(json.dumps(order | {"argv": sys.argv}).encode())
        for descriptor in (written, channel):
            os.set_inheritable(descriptor, True)
        arguments = command(__name__, attempt.__name__, written, channel, self.memory)
        os.execv(arguments[0], arguments)


def _watch(coordinator: int) -> list[int]:
    """The coordinator's death as a descriptor: its socket stays open if another process has inherited it."""
    if sys.platform != "linux":
        return []
    try:
        watched = os.pidfd_open(coordinator)
    except OSError:
        watched = -1
    if os.getppid() != coordinator:
        raise ConnectionError("the coordinator is gone")
    return [watched] if watched >= 0 else []


def _exit_code(pid: int) -> int | None:
    """The exit code of an ended child, whose process group is ended with it; None while it runs."""
    if hasattr(os, "waitid"):  # macOS has it since Python 3.13
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        _kill_group(pid, signal.SIGKILL)  # before it is reaped, while its number can belong to no one else
    reaped, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if reaped else None


def _kill_group(pid: int, number: int) -> None:
    # A child that has not yet called setsid has no group of its own.
    for end in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            end(pid, number)
            return


def _die_with(template: int) -> None:
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != template:  # it had died before the line above
        os._exit(1)


def attempt(order: int, channel: int, memory: int) -> None:
    """Run one training in a fresh interpreter.

    Args:
        order: a descriptor of the order as JSON.
        channel: a descriptor of the socket to the coordinator.
        memory: a descriptor of the payload.
    """
    with open(order, "rb") as file:
        file.seek(0)
        settings = json.load(file)
    os.set_inheritable(channel, False)
    sys.argv[:] = settings["argv"]
    payload = from_memory(memory)
    os.close(memory)
    _run(settings, payload, channel)


def _set_threads(threads: int, limit_threads: Callable[[int], object] | None) -> None:
    if limit_threads is not None:
        limit_threads(threads)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


def _run(order: dict[str, Any], payload: Payload, channel: int) -> None:
    """Load the function, call the entry and end the process with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    faulthandler.enable(2)
    code = 1
    try:
        with socket.socket(fileno=channel) as connection:
            code = _call_entry(order, payload, connection)
    except SystemExit as end:
        code = _code_of(end)
    except BaseException:
        traceback.print_exc()
    _leave(code)


def _call_entry(order: dict[str, Any], payload: Payload, channel: socket.socket) -> int:
    module, _, name = order["entry"].partition(":")
    entry = getattr(importlib.import_module(module), name)
    load_error: BaseException | None = None
    function = None
    try:
        function = unpack(payload)
    except BaseException as error:
        load_error = error
    return int(entry(function, order["task"], channel, load_error=load_error) or 0)


def _code_of(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)
    return 1


def _leave(code: int) -> None:
    """End as an interpreter does, but without tearing modules down: that is slow and frameworks survive it badly."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code & 0xFF)
