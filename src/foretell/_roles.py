"""Who decides in a study, what holds for all of its trials, and who carries answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final

from foretell.executors import Reply
from foretell.samplers import Sampler
from foretell.schedulers import Scheduler
from foretell.termination import Terminator


@final
@dataclass(frozen=True)
class Members:
    """Who decides what in a study."""

    sampler: Sampler
    scheduler: Scheduler
    terminator: Terminator


@final
@dataclass(frozen=True)
class Policy:
    """What holds for every trial of a study.

    Args:
        seed: of the study.
        retries: how often a failing trial is tried again.
        keep_checkpoints: how many of the best ended trials keep their weights on disk, >= 1.
        grace: seconds that running trainings get to save themselves when the study ends.
    """

    seed: int = 0
    retries: int = 1
    keep_checkpoints: int = 1
    grace: float = 30.0


class Desk(Protocol):
    """What a coordinator needs of an executor to answer: the part that `ask` and `tell` offer too."""

    slots: int

    def reply(self, trial: int, reply: Reply) -> None:
        """Answer the last message of a trial."""

    def now(self) -> float:
        """Seconds on its clock."""
