"""Training processes are killed, and end in every other way; their siblings do not notice."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import sys
from pathlib import Path

import pytest

from foretell import events
from foretell._faults import TRAINING_POINTS
from foretell.coordinator import trial_seed
from foretell.stores import Entry
from foretell.study import Study
from foretell.trial import State
from tests.faults import Bench, Line, parent

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and waits for process descriptors"),
]
KILLS = 30


def lost(log: list[Entry]) -> set[tuple[int, int]]:
    """Trial and attempt of those that were killed."""
    return {(e.trial, e.attempt) for _, _, e in log if isinstance(e, events.Ended) and e.cause == "signal"}


def kill(line: Line) -> bool:
    """Kill the training that said this, unless it has ended."""
    try:
        process = os.pidfd_open(line.pid)
    except ProcessLookupError:
        return False
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
            return True
        return False
    finally:
        os.close(process)


def check_resumed_from_checkpoints(log: list[Entry]) -> int:
    """Each attempt begins at its trial's last checkpoint, or at 0; how many began beyond 0 after a kill."""
    newest: dict[int, int] = {}
    killed, resumed = lost(log), 0
    for _, _, event in log:
        if isinstance(event, events.Saved) and event.newest:
            newest[event.trial] = event.step
        elif isinstance(event, events.Started):
            assert event.step == newest.get(event.trial, 0)
            resumed += (event.trial, event.attempt - 1) in killed and event.step > 0
    return resumed


def test_kills_at_random(tmp_path: Path) -> None:
    rng = random.Random(1)
    with Bench(tmp_path, budget="40 trials", retries=100) as bench:
        session, killed, left = bench.start(), set(), rng.randint(1, 4)
        for line in bench.listen(session):
            left -= 1
            if left <= 0 and line.what not in ("end", str(9)) and len(killed) < 2 * KILLS and kill(line):
                killed.add((line.trial, line.attempt))
                left = rng.randint(1, 6)
        assert bench.finish(session) == (0, "")
        log = bench.check()
        assert len(lost(log)) >= KILLS, "too many of the kills came too late: kill more"
        assert lost(log) <= killed, "a training was lost that nobody killed"
        assert check_resumed_from_checkpoints(log) > 0
        assert len({line.pid for line in bench.lines}) == len({(line.trial, line.attempt) for line in bench.lines})
        bench.complete()


@pytest.mark.parametrize("point", TRAINING_POINTS)
def test_kills_at_every_named_point(tmp_path: Path, point: str) -> None:
    with Bench(tmp_path, budget="8 trials", retries=1) as bench:
        for passes in (1, 6 if point.startswith("attempt") else 2):
            code, words = bench.finish(bench.start(f"{point}:{passes}"))
            assert code == 0 or "TrainingError" in words
            check_resumed_from_checkpoints(bench.check())
        assert lost(bench.log())
        bench.complete()


def test_the_template_is_killed(tmp_path: Path) -> None:
    """The process that all trainings are forked from, and that ends them with itself."""
    with Bench(tmp_path, budget="8 trials", retries=1) as bench:
        session = bench.start()
        for line in bench.listen(session):
            if line.step is not None:
                os.kill(parent(line.pid), signal.SIGKILL)
                break
        code, words = bench.finish(session)
        assert code == 0, words
        assert 1 <= len(lost(bench.check())) <= 2
        bench.complete()


# --- how a training can end -------------------------------------------------------------------------------------------

ENDS = {
    "raise": ("error", "RuntimeError: as the test wants"),
    "_exit": ("exit", "exit code 3 in the middle of the training"),
    "kill": ("signal", "killed by SIGKILL"),
    "memory": ("oom", "MemoryError"),
    "exit": ("exit", "sys.exit('no more')"),
}


def test_failures_are_told_apart_and_tried_again_with_the_same_seed(tmp_path: Path) -> None:
    with Bench(tmp_path, budget="6 trials", train="failing", retries=2, workers=1, enqueue=("well", *ENDS)) as bench:
        assert bench.finish(bench.start()) == (0, "")
        log = bench.check()
        with contextlib.closing(Study.open(bench.settings.store)) as study:
            assert study.trials[0].state is State.DONE
            for trial, (how, (cause, words)) in zip(study.trials[1:], ENDS.items(), strict=True):
                ends = [e for _, _, e in log if isinstance(e, events.Ended) and e.trial == trial.number]
                assert [(end.cause, end.state) for end in ends] == [
                    (cause, State.QUEUED), (cause, State.QUEUED), (cause, State.FAILED)
                ]  # fmt: skip
                assert trial.params["how"] == how and trial.state is State.FAILED
                assert trial.error is not None and words in trial.error
                assert f"seed {trial_seed(0, trial.number)}" in trial.error, "its output belongs to the error"
                folder = study.record.folder / f"trials/{trial.number:06d}"
                for attempt in (1, 2, 3):
                    assert f"seed {trial_seed(0, trial.number)}" in (folder / f"output-{attempt}.log").read_text()


def test_a_function_that_always_fails_stops_the_study(tmp_path: Path) -> None:
    with Bench(tmp_path, budget="100 trials", train="broken", retries=1) as bench:
        code, words = bench.finish(bench.start())
        assert code == 1
        assert re.search(r"TrainingError: The first [34] trials all failed", words)
        assert 'in broken\n    raise RuntimeError("as the test wants")' in words
        started = {e.trial for _, _, e in bench.check() if isinstance(e, events.Started)}
        assert len(started) <= 4, "the study went on although its function is broken"
