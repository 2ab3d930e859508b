"""The process that runs a study is killed at random and at every named point; the study goes on as if nothing was."""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path

import pytest

from foretell import events
from foretell._faults import COORDINATOR_POINTS
from tests.faults import Bench, parent

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and waits for process descriptors"),
]
KILLS = 25  # in each of the two studies
ONCE = ("coordinator-before-recovery", "coordinator-before-conclusion")  # passed once in a session
AT_THE_ENDS = ("store-before-migration", "coordinator-before-conclusion")


@pytest.mark.parametrize("budget", ["70 trials", "320 epochs"])
def test_kills_at_random(tmp_path: Path, budget: str) -> None:
    rng = random.Random(budget)
    with Bench(tmp_path, budget=budget) as bench:
        for kill in range(KILLS):
            assert bench.kill(bench.start(), rng.randint(1, 10)), f"the study was over after {kill} kills: enlarge it"
            if kill % 2:  # else the next session begins while the trainings of this one may still be there
                bench.settle()
                bench.check()
        bench.complete()


def killed_at(bench: Bench, point: str) -> None:
    code, words = bench.finish(bench.start(point))
    assert code == -signal.SIGKILL, f"{point} was not passed; the study ended with {code}\n{words}"
    bench.check()


def test_kills_at_every_named_point(tmp_path: Path) -> None:
    with Bench(tmp_path, budget="60 trials") as bench:
        for point in COORDINATOR_POINTS:
            if point not in AT_THE_ENDS:
                killed_at(bench, f"{point}:1")
                killed_at(bench, f"{point}:{1 if point in ONCE else 5}")
        bench.complete()


def test_kills_before_there_are_tables_and_when_all_is_trained(tmp_path: Path) -> None:
    with Bench(tmp_path, budget="3 trials") as bench:
        first, last = AT_THE_ENDS
        code, _ = bench.finish(bench.start(first))
        assert code == -signal.SIGKILL
        assert bench.log() == []
        for _ in range(2):
            killed_at(bench, last)
        bench.complete()


def test_kills_between_an_epoch_and_the_answer_to_it_and_then_in_the_recovery(tmp_path: Path) -> None:
    """Each trial that was at the end of its grant must be remembered, however often the session after it is killed."""
    recovered = 0
    with Bench(tmp_path, budget="12 trials") as bench:
        for commits in range(3, 9):
            killed_at(bench, f"journal-after-commit:{commits}")
            lost = unended(bench)
            killed_at(bench, "journal-after-commit:2")  # the first is the session's begin, the second the recovery
            last = [type(entry.event) for entry in bench.log()[-2:]]
            # On a slow machine both trainings may have ended in the last commit; then nothing was to be recovered.
            assert not lost or (last[-1] is events.Ended and events.Started not in last)
            recovered += bool(lost)
        bench.complete()
    assert recovered


def unended(bench: Bench) -> set[tuple[int, int]]:
    """Attempts of which the log does not know how they ended."""
    log = [entry.event for entry in bench.log()]
    started = {(event.trial, event.attempt) for event in log if isinstance(event, events.Started)}
    return started - {(event.trial, event.attempt) for event in log if isinstance(event, events.Ended)}


@pytest.mark.parametrize("reports", [3, 8, 16])
def test_epochs_that_are_trained_again_are_paid_for(tmp_path: Path, reports: int) -> None:
    """Two full trainings have reserved the whole budget when they are thrown back to their last checkpoints."""
    with Bench(tmp_path, budget="18 epochs", scheduler="full") as bench:
        assert bench.kill(bench.start(), reports)
        bench.settle()
        bench.check()
        bench.complete()


def test_an_attempt_waits_until_the_one_before_it_is_gone(tmp_path: Path) -> None:
    """The template is stopped, so that the trainings outlive their coordinator; the next session trains beside them."""
    with Bench(tmp_path, budget="3 trials", train="hanging", scheduler="full") as bench:
        first = bench.hang()
        template = parent(bench.lines[-1].pid)
        os.kill(template, signal.SIGSTOP)
        first.kill()
        bench.wait(first)
        bench.settings = bench.settings._replace(workers=3)
        second, begun = bench.start(), set()
        for line in bench.listen(second):
            if (line.trial, line.what) == (2, "hang"):
                break
        assert {line.attempt for line in bench.lines} == {1}
        os.kill(template, signal.SIGCONT)
        for line in bench.listen(second):
            begun.add((line.trial, line.attempt))
            if begun >= {(0, 2), (1, 2)}:
                break
        second.kill()
        bench.finish(second)
        bench.check()
