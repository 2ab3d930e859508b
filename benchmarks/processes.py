"""From the request to the first line of a training process that has torch."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.figures import Figure, Settings, in_fresh_process, repeated
from benchmarks.torch_client import first_line
from foretell.events import Ended, Reported
from foretell.executors import Lost, Message, Reply, Task, Work
from foretell.executors.processes import Processes
from foretell.objective import Objective

TITLE = "start of a training process with torch imported, wall time"
GOAL_MS, BEGUN = 50.0, "begun"


def measure(settings: Settings) -> Iterator[Figure]:
    """Milliseconds to the first line of the training function, beside a fresh interpreter."""
    starts, repeats = (2, 1) if settings.quick else (30, 5)
    template, later, method = _starts(starts)
    fresh = repeated(repeats, _fresh)[0]
    peer = "fresh interpreter"
    yield Figure("each start", "ms", statistics.median(later), fresh, peer, GOAL_MS, note=method)
    yield Figure("the slowest of them", "ms", max(later), fresh, peer)
    yield Figure("the first, which starts the template", "ms", template, fresh, peer, note="once a study")


def _starts(count: int) -> tuple[float, list[float], str]:
    """Milliseconds of the first start, of each later one, and how they were made."""
    taken: list[float] = []
    running = True
    with tempfile.TemporaryDirectory() as folder:
        executor = Processes(1)

        def deliver(messages: Sequence[Message]) -> None:
            nonlocal running
            for trial, _, event in messages:
                if isinstance(event, Lost) or (isinstance(event, Ended) and event.error):
                    raise RuntimeError(f"the training process failed: {event}")
                if isinstance(event, Reported):
                    taken.append(1000 * (event.metrics[BEGUN] - asked))
                running = not isinstance(event, Ended) and running
                executor.reply(trial, Reply())

        try:
            asked = time.monotonic()
            executor.open(Work(first_line, Objective(BEGUN, "minimize")), deliver)
            for number in range(count + 1):
                asked, running = (asked if number == 0 else time.monotonic()), True
                executor.submit(Task(number, 1, {}, seed=0, folder=str(Path(folder) / str(number))))
                while running:
                    executor.wait(None)
            method = executor.start_method
        finally:
            executor.close()
    return taken[0], taken[1:], method


def _fresh() -> float:
    """Milliseconds to the first line of a program that imports what the training function needs."""
    program = "import benchmarks.torch_client, time; print(time.monotonic())"
    asked = time.monotonic()
    return 1000 * (float(in_fresh_process("-c", program)) - asked)
