"""foretell: train less, get more. Hyperparameter search and early termination of trainings under one budget."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from foretell._version import __version__ as __version__

_FROM = {
    "Budget": "budget",
    "Checkpoint": "checkpoint",
    "Choice": "space",
    "Curve": "curve",
    "Float": "space",
    "ForetellError": "errors",
    "Int": "space",
    "Objective": "objective",
    "Paused": "errors",
    "Run": "run",
    "Space": "space",
    "State": "trial",
    "Study": "study",
    "Trial": "trial",
    "Verdict": "trial",
    "maximize": "search",
    "minimize": "search",
    "after": "stopping",
    "every": "stopping",
    "Divergence": "stopping.divergence",
    "EpochLimit": "stopping.epoch_limit",
    "Forecast": "stopping.forecast",
    "Patience": "stopping.patience",
    "PatienceLike": "stopping.patience_like",
    "CalibratedThreshold": "stopping.calibrated_threshold",
    "RelativeChange": "stopping.relative_change",
    "GoalReached": "stopping.goal_reached",
    "Hopeless": "stopping.hopeless",
    "GeneralizationLoss": "stopping.generalization_loss",
    "SuccessiveIncreases": "stopping.successive_increases",
    "ProgressQuotient": "stopping.progress_quotient",
    "Threshold": "stopping.threshold",
    "TimeLimit": "stopping.time_limit",
    "Belief": "samplers",
    "GP": "samplers.gp",
    "GridSearch": "samplers.grid_search",
    "QMC": "samplers.qmc",
    "RandomSearch": "samplers.random_search",
    "TPE": "samplers.tpe",
    "LastValue": "curve_models.last_value",
    "Mixture": "curve_models.mixture",
    "PowerLaw": "curve_models.power_law",
    "ASHA": "schedulers.asha",
    "Full": "schedulers.full",
    "Hyperband": "schedulers.hyperband",
    "source": "transfer.sources",
    "Replay": "executors.replay",
    "Recording": "executors.replay",
}
__all__ = ["__version__", *sorted(_FROM)]  # noqa: PLE0604 - texts, as the table above shows

if TYPE_CHECKING:
    from foretell.budget import Budget as Budget
    from foretell.checkpoint import Checkpoint as Checkpoint
    from foretell.curve import Curve as Curve
    from foretell.curve_models.last_value import LastValue as LastValue
    from foretell.curve_models.mixture import Mixture as Mixture
    from foretell.curve_models.power_law import PowerLaw as PowerLaw
    from foretell.errors import ForetellError as ForetellError
    from foretell.errors import Paused as Paused
    from foretell.executors.replay import Recording as Recording
    from foretell.executors.replay import Replay as Replay
    from foretell.objective import Objective as Objective
    from foretell.run import Run as Run
    from foretell.samplers import Belief as Belief
    from foretell.samplers.gp import GP as GP
    from foretell.samplers.grid_search import GridSearch as GridSearch
    from foretell.samplers.qmc import QMC as QMC
    from foretell.samplers.random_search import RandomSearch as RandomSearch
    from foretell.samplers.tpe import TPE as TPE
    from foretell.schedulers.asha import ASHA as ASHA
    from foretell.schedulers.full import Full as Full
    from foretell.schedulers.hyperband import Hyperband as Hyperband
    from foretell.search import maximize as maximize
    from foretell.search import minimize as minimize
    from foretell.space import Choice as Choice
    from foretell.space import Float as Float
    from foretell.space import Int as Int
    from foretell.space import Space as Space
    from foretell.stopping import after as after
    from foretell.stopping import every as every
    from foretell.stopping.calibrated_threshold import CalibratedThreshold as CalibratedThreshold
    from foretell.stopping.divergence import Divergence as Divergence
    from foretell.stopping.epoch_limit import EpochLimit as EpochLimit
    from foretell.stopping.forecast import Forecast as Forecast
    from foretell.stopping.generalization_loss import GeneralizationLoss as GeneralizationLoss
    from foretell.stopping.goal_reached import GoalReached as GoalReached
    from foretell.stopping.hopeless import Hopeless as Hopeless
    from foretell.stopping.patience import Patience as Patience
    from foretell.stopping.patience_like import PatienceLike as PatienceLike
    from foretell.stopping.progress_quotient import ProgressQuotient as ProgressQuotient
    from foretell.stopping.relative_change import RelativeChange as RelativeChange
    from foretell.stopping.successive_increases import SuccessiveIncreases as SuccessiveIncreases
    from foretell.stopping.threshold import Threshold as Threshold
    from foretell.stopping.time_limit import TimeLimit as TimeLimit
    from foretell.study import Study as Study
    from foretell.transfer.sources import source as source
    from foretell.trial import State as State
    from foretell.trial import Trial as Trial
    from foretell.trial import Verdict as Verdict


def __getattr__(name: str) -> Any:
    """Names load on first use, so that `import foretell` costs next to nothing (PEP 562)."""
    if name not in _FROM:
        raise AttributeError(f"module 'foretell' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"foretell.{_FROM[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
