"""One attempt at one trial: call the user's function, and turn each way of ending into one `Ended` event."""

from __future__ import annotations

import errno
import random
import sys
import time
import traceback
from typing import Any

import numpy as np
import numpy.random  # its lazy import would cost every training 30 ms after the fork

from foretell import events
from foretell.errors import Paused
from foretell.executors import Task, Work
from foretell.run import Link, Run
from foretell.trial import CONTINUE, State

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def attempt(work: Work, task: Task, link: Link) -> None:
    """Train once; everything that can happen is said through the link, nothing but an interrupt is raised.

    Args:
        work: the function and what holds for every attempt.
        task: this attempt.
        link: to the coordinator.
    """
    assert work.function is not None
    seed_all(task.seed)
    begun = time.monotonic()
    run = Run.of_task(task, work, link)

    def ended(state: State, cause: str = "", error: str = "") -> None:
        verdict = CONTINUE if cause else run.verdict
        seconds = time.monotonic() - begun
        link.send(events.Ended(task.trial, task.attempt, state, run.step, seconds, verdict, cause, error))

    try:
        returned = work.function(run)
        run.require_objective(returned)
        state = outcome(run)
        run.conclude(keep=run.keep and state in (State.DONE, State.STOPPED))
    except Paused:
        ended(State.PAUSED)
    except KeyboardInterrupt:
        raise
    except SystemExit as error:
        run.abandon()
        ended(State.FAILED, "exit", f"The training called sys.exit({error.code!r}).\n{traceback.format_exc()}")
    except Exception as error:  # whatever the user's code raises is an outcome of the trial
        run.abandon()
        ended(State.FAILED, cause_of(error), traceback.format_exc())
    else:
        ended(state)


def outcome(run: Run) -> State:
    """The state of a trial whose function came back."""
    if run.verdict.action == "pause":
        return State.PAUSED  # the function caught `ft.Paused`, but its state is saved
    if run.verdict.rule == "diverged":
        return State.DIVERGED
    return State.STOPPED if run.stopped_by_study else State.DONE


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and, if it is there, torch, so that a retried trial repeats itself."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # the global generator is what users' code draws from
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


def cause_of(error: BaseException) -> str:
    """What kind of failure an exception is: "oom", "disk" or "error"."""
    if isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "ResourceExhaustedError"):
        return "oom"
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.errno in _NO_SPACE:
            return "disk"
        inner = inner.__cause__ or inner.__context__
    return "error"
