"""Named points at which a test can have the process killed, to prove that nothing acknowledged is ever lost.

The environment variable FORETELL_FAULT names the point, "store-before-commit", or the count-th pass through it,
"store-before-commit:3". It is read once, on import, and training processes inherit it: each counts for itself.
"""

from __future__ import annotations

import os
import signal

COORDINATOR_POINTS = (
    "store-before-migration",  # the file is there, its tables are not
    "store-before-begin",
    "store-before-commit",
    "store-after-commit",  # durable, and nobody knows
    "journal-after-commit",  # nothing is answered or deleted yet
    "coordinator-before-recovery",  # the session has begun; lost attempts still count as running
    "coordinator-before-submit",  # trials are claimed, and no process trains them
    "executor-before-spawn",
    "executor-after-spawn",  # a process trains, and the executor does not know it yet
    "coordinator-before-saved-commit",  # a checkpoint is whole on disk, and the store does not know it
    "retention-before-delete",  # the store has dropped a checkpoint, and its folder is still there
    "coordinator-before-end-commit",  # an attempt ended, and the store does not know it
    "coordinator-before-conclusion",  # nothing is left to train, and the log does not say why
)
"""Points in the process that runs the study."""

TRAINING_POINTS = (
    "attempt-before-send",
    "attempt-after-reply",
    "checkpoint-before-rename",  # a staged folder is left behind
    "checkpoint-after-rename",  # a checkpoint that nobody was told of
)
"""Points in the processes of trainings."""

POINTS = COORDINATOR_POINTS + TRAINING_POINTS
"""All points, by the order in which a study comes to them."""

_NAME, _, _COUNT = os.environ.get("FORETELL_FAULT", "").partition(":")
_passes = int(_COUNT or 1) if _NAME else 0


def fault(name: str) -> None:
    """Die here without any warning, if this is the point and the pass that the environment names."""
    if _NAME:
        _pass(name)


def _pass(name: str) -> None:
    global _passes  # noqa: PLW0603 -- a count of the process, like the environment it comes from
    assert name in POINTS, f"{name} is not listed in POINTS"
    assert _NAME in POINTS, f"FORETELL_FAULT={_NAME} names no point"
    if name == _NAME:
        _passes -= 1
        if _passes == 0:
            os.kill(os.getpid(), signal.SIGKILL)
