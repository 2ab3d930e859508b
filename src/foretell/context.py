"""What a member may know besides the record when it is asked: nothing else reaches it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import numpy as np

from foretell.budget import Budget
from foretell.objective import Objective
from foretell.space import Space


@final
@dataclass(slots=True)
class Context:
    """The circumstances of one decision of a study.

    Args:
        space: of the study.
        objective: of the study.
        budget: of the study, over all its sessions.
        seed: of the study.
        decision: how many trials there are, so that the n-th proposal draws the same numbers in every session.
        now: seconds on the executor's clock.
        workers: how many trainings may run at once.
        complete: whether no new trial can be started any more: the budget's are all made, or the sampler is exhausted.
    """

    space: Space
    objective: Objective
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    decision: int = 0
    now: float = 0.0
    workers: int = 1
    complete: bool = False
    _rng: np.random.Generator | None = None

    @property
    def rng(self) -> np.random.Generator:
        """Randomness of this decision, made from (study seed, decision number)."""
        if self._rng is None:
            self._rng = np.random.default_rng((self.seed, self.decision))
        return self._rng
