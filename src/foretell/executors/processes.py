"""Trainings run in processes of their own on this machine, forked from a template that never ran the user's code."""

from __future__ import annotations

import json
import math
import os
import select
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, final

from foretell import events
from foretell._faults import fault
from foretell.errors import StudyError
from foretell.executors import Deliver, Lost, Message, Reply, Task, Work
from foretell.executors._attempt import CHECK_IN, LENGTH, pack, reply_to_json
from foretell.executors._launcher import Child, Launcher

__all__ = ["Processes"]

_LOG_TAIL = 2000  # characters of a failed training's output that go into its record
_READ = 1 << 16


@final
@dataclass
class _Running:
    task: Task
    child: Child
    log: Path
    gpus: tuple[str, ...]
    received: bytearray = field(default_factory=bytearray)
    ended: bool = False


@final
class Processes:
    """Local processes, one for each attempt.

    Args:
        workers: trainings at once, >= 1.
        threads: of each training's numerical libraries; None shares the machine's cores among the workers.
        gpus_per_run: CUDA devices each training sees, >= 0; workers beyond the devices wait.

    Raises:
        StudyError: a number of workers below 1, or fewer devices than one training needs.
    """

    def __init__(self, workers: int = 1, *, threads: int | None = None, gpus_per_run: int = 0) -> None:
        if workers < 1:
            raise StudyError(f"workers={workers}: use 1 or more processes, or workers=0 to train in this one.")
        self._threads = threads or max(1, _cores() // workers)
        self._gpus_per_run = gpus_per_run
        self._free_gpus = list(_devices()) if gpus_per_run else []
        if gpus_per_run and len(self._free_gpus) < gpus_per_run:
            raise StudyError(
                f"gpus_per_run={gpus_per_run}, but {len(self._free_gpus)} devices are visible: check nvidia-smi and "
                "CUDA_VISIBLE_DEVICES, or leave gpus_per_run out."
            )
        self.slots = min(workers, len(self._free_gpus) // gpus_per_run) if gpus_per_run else workers
        self._origin = time.time() - time.monotonic()
        self._runs: dict[int, _Running] = {}  # by trial
        self._by_pid: dict[int, _Running] = {}
        self._killed: set[int] = set()
        self._oom_kills = _oom_kills()
        self._launcher: Launcher | None = None
        self._deliver: Deliver | None = None

    def open(self, work: Work, deliver: Deliver) -> None:
        """Start the template.

        Raises:
            FunctionError: the function, or something it uses, cannot be sent to another process.
        """
        self._deliver = deliver
        assert work.function is not None
        # The function comes first, so that whatever cannot be sent is named from there.
        self._launcher = Launcher(partial(work.function, work.with_function(None)), threads=self._threads)
        self._launcher.start()

    @property
    def start_method(self) -> str:
        """How processes come about: "fork" of the template, or "spawn" and why."""
        assert self._launcher is not None
        reason = self._launcher.reason
        return f"{self._launcher.mode} ({reason})" if reason else self._launcher.mode

    def submit(self, task: Task) -> None:
        """Start a process for an attempt."""
        assert self._launcher is not None
        assert task.folder is not None, "processes need a place for their output"
        folder = Path(task.folder)
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / f"output-{task.attempt}.log"
        gpus = self._take_gpus()
        environment = {**task.environment, **({"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {})}
        fault("executor-before-spawn")
        child = self._launcher.spawn(asdict(task), environment=environment, log=log)
        fault("executor-after-spawn")
        child.channel.setblocking(False)
        self._runs[task.trial] = self._by_pid[child.pid] = _Running(task, child, log, gpus)

    def reply(self, trial: int, reply: Reply) -> None:
        """Answer an attempt; one that has died meanwhile is told by its exit."""
        self._send(trial, reply_to_json(reply))

    def signal(self, trial: int) -> None:
        """Ask an attempt to speak up at its next epoch boundary."""
        self._send(trial, {CHECK_IN: True})

    def kill(self, trial: int) -> None:
        """End an attempt and everything it started."""
        run = self._runs.get(trial)
        if run is not None and self._launcher is not None:
            self._killed.add(trial)
            self._launcher.kill(run.child.pid, signal.SIGKILL)

    def wait(self, timeout: float | None) -> None:
        """Deliver everything that has come since the last time, waiting for the first of it."""
        assert self._launcher is not None
        assert self._deliver is not None
        # A fresh poll each time: descriptors change hands when a process or the template dies.
        poll, channels = select.poll(), {}
        for number in self._launcher.filenos():
            poll.register(number, select.POLLIN)
        for run in self._by_pid.values():
            if run.child.channel.fileno() >= 0:
                poll.register(run.child.channel, select.POLLIN)
                channels[run.child.channel.fileno()] = run
        milliseconds = None if timeout is None else math.ceil(1000 * timeout)
        ready = [channels[number] for number, _ in poll.poll(milliseconds) if number in channels]
        messages = [message for run in ready for message in self._read(run)]
        for pid, code in self._launcher.exits():
            messages += self._exited(pid, code)
        if messages:
            self._deliver(messages)

    def now(self) -> float:
        """Seconds since the epoch, on a clock that never goes back."""
        return self._origin + time.monotonic()

    def close(self) -> None:
        """End every process that is left, and the template."""
        for run in self._by_pid.values():
            run.child.channel.close()
        if self._launcher is not None:
            self._launcher.close()
        self._runs.clear()
        self._by_pid.clear()

    # ------------------------------------------------------------------ one process

    def _send(self, trial: int, message: Mapping[str, Any]) -> None:
        run = self._runs.get(trial)
        if run is None or run.child.channel.fileno() < 0:
            return
        with suppress(OSError):  # its exit will tell
            _send_all(run.child.channel, pack(message))

    def _read(self, run: _Running) -> list[Message]:
        """The whole messages that have arrived from one process."""
        try:
            data = run.child.channel.recv(_READ)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            run.child.channel.close()
            return []
        run.received += data
        messages = []
        while len(run.received) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(run.received)
            if len(run.received) < LENGTH.size + length:
                break
            body = bytes(run.received[LENGTH.size : LENGTH.size + length])
            del run.received[: LENGTH.size + length]
            event = events.from_json(json.loads(body))
            if isinstance(event, events.Ended):
                run.ended = True
                if event.cause:
                    event = _with_output(event, run.log)
            messages.append(Message(run.task.trial, run.task.attempt, event))
        return messages

    def _exited(self, pid: int, code: int) -> list[Message]:
        run = self._by_pid.pop(pid, None)
        if run is None:
            return []
        messages: list[Message] = []
        while run.child.channel.fileno() >= 0:  # what it said before it ended
            before = len(messages), len(run.received)
            messages += self._read(run)
            if (len(messages), len(run.received)) == before:
                run.child.channel.close()
        self._free_gpus += run.gpus
        trial = run.task.trial
        if self._runs.get(trial) is run:
            del self._runs[trial]
        if not run.ended:
            messages.append(Message(trial, run.task.attempt, self._lost(trial, code, run)))
        self._killed.discard(trial)
        return messages

    def _lost(self, trial: int, code: int, run: _Running) -> Lost:
        if trial in self._killed:
            return Lost("cancelled", "ended because the study did")
        output = f"\n{tail(run.log)}"
        if code >= 0:
            return Lost("exit", f"The process ended with exit code {code} in the middle of the training.{output}")
        name = signal.Signals(-code).name
        kills, self._oom_kills = self._oom_kills, _oom_kills()
        if -code == signal.SIGKILL and self._oom_kills > kills:
            return Lost("oom", f"The process was killed because memory ran out.{output}")
        hint = " (memory may have run out: see `dmesg`)" if -code == signal.SIGKILL else ""
        return Lost("signal", f"The process was killed by {name}{hint}.{output}")

    def _take_gpus(self) -> tuple[str, ...]:
        """Devices for one training; waits for a process that is about to end to let go of its."""
        while len(self._free_gpus) < self._gpus_per_run:
            self.wait(None)
        taken = tuple(self._free_gpus[: self._gpus_per_run])
        del self._free_gpus[: self._gpus_per_run]
        return taken


def tail(log: Path) -> str:
    """The end of a training's output."""
    try:
        return log.read_text(errors="replace")[-_LOG_TAIL:].strip()
    except OSError:
        return ""


def _with_output(event: events.Ended, log: Path) -> events.Ended:
    output = tail(log)
    error = f"{event.error.rstrip()}\nThe end of its output:\n{output}" if output else event.error
    return events.Ended(
        event.trial, event.attempt, event.state, event.step, event.seconds, event.verdict, event.cause, error
    )


def _send_all(channel: socket.socket, data: bytes) -> None:
    """Send on a socket that does not block; messages are far smaller than its buffer, so this hardly ever waits."""
    view = memoryview(data)
    while view:
        try:
            view = view[channel.send(view) :]
        except BlockingIOError:
            select.select([], [channel], [])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _devices() -> list[str]:
    """The CUDA devices this process may use, without touching CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [device for device in visible.split(",") if device.strip()]
    folder = Path("/proc/driver/nvidia/gpus")
    return [str(index) for index, _ in enumerate(folder.iterdir())] if folder.is_dir() else []


def _oom_kills() -> int:
    """How often the kernel has killed for memory in this control group, or 0 where that cannot be known."""
    try:
        lines = Path("/sys/fs/cgroup/memory.events").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
