"""The early stopping of other libraries, driven with scalars: no model, no data, only the decision.

Each driver takes losses (or, with `scores`, their negatives as scores of a metric that is to grow) and returns the
index of the check at which the library stops, and that of its best value. None: it never stopped, or keeps no best.
Several drivers reach for private methods, which is why the versions are pinned in the docstring of `PatienceLike`.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

from tests.conftest import needs


class Outcome(NamedTuple):
    """Indices of the stop and of the best value."""

    stop: int | None
    best: int | None


class Setting(NamedTuple):
    """What all libraries can be told, each in its own words."""

    patience: int
    min_delta: float = 0.0
    relative: bool = False
    baseline: float | None = None
    scores: bool = False

    def values(self, losses: Sequence[float]) -> list[float]:
        return [-loss for loss in losses] if self.scores else list(losses)

    @property
    def mode(self) -> str:
        return "max" if self.scores else "min"


def quietly(package: str, module: str = "") -> ModuleType:
    """Their own warnings on import are theirs; the package must be there, the rest of the name follows it."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = needs(package)
        return importlib.import_module(module) if module else found


def keras(losses: Sequence[float], setting: Setting) -> Outcome:
    callbacks = quietly("keras").callbacks
    stopper = callbacks.EarlyStopping(
        "m", min_delta=setting.min_delta, patience=setting.patience, mode=setting.mode, baseline=setting.baseline,
        restore_best_weights=True,
    )  # fmt: skip
    restored: list[int] = []
    model = SimpleNamespace(stop_training=False, set_weights=restored.append)
    stopper.set_model(model)
    stopper.on_train_begin()
    stop = None
    for index, value in enumerate(setting.values(losses)):
        model.get_weights = lambda index=index: index
        stopper.on_epoch_end(index, {"m": value})
        if model.stop_training:
            stop = index
            break
    stopper.on_train_end()
    assert restored in ([], [stopper.best_epoch])
    return Outcome(stop, restored[0] if restored else None)


def lightning(losses: Sequence[float], setting: Setting, check_finite: bool = True) -> Outcome:
    torch = needs("torch")
    module = quietly("lightning", "lightning.pytorch.callbacks.early_stopping")
    stopper = module.EarlyStopping(
        "m", min_delta=setting.min_delta, patience=setting.patience, mode=setting.mode, check_finite=check_finite
    )
    for index, value in enumerate(setting.values(losses)):
        if stopper._evaluate_stopping_criteria(torch.tensor(value))[0]:
            return Outcome(index, None)
    return Outcome(None, None)


def lightning_unchecked(losses: Sequence[float], setting: Setting) -> Outcome:
    return lightning(losses, setting, check_finite=False)


def hf(losses: Sequence[float], setting: Setting) -> Outcome:
    module = quietly("transformers", "transformers.trainer_callback")
    stopper = module.EarlyStoppingCallback(setting.patience, setting.min_delta)
    trainer = quietly("transformers", "transformers.trainer").Trainer
    strategy = quietly("transformers", "transformers.trainer_utils").SaveStrategy.EPOCH
    args = SimpleNamespace(metric_for_best_model="m", greater_is_better=setting.scores, save_strategy=strategy)
    state = SimpleNamespace(best_metric=None, best_global_step=None)
    control = SimpleNamespace(should_training_stop=False)
    for state.global_step, value in enumerate(setting.values(losses)):
        stopper.on_evaluate(args, state, control, {"eval_m": value})
        trainer._determine_best_metric(SimpleNamespace(args=args, state=state), {"eval_m": value}, None)
        if control.should_training_stop:
            return Outcome(state.global_step, state.best_global_step)
    return Outcome(None, state.best_global_step)


def ignite(losses: Sequence[float], setting: Setting, cumulative: bool = False) -> Outcome:
    handlers, engines = quietly("ignite", "ignite.handlers"), quietly("ignite", "ignite.engine")
    trainer = engines.Engine(lambda engine, batch: None)
    current = [0.0]
    stopper = handlers.EarlyStopping(
        setting.patience, lambda engine: current[0], trainer, threshold=setting.min_delta, cumulative=cumulative,
        threshold_mode="rel" if setting.relative else "abs", mode=setting.mode,
    )  # fmt: skip
    stopper.logger.disabled = True
    for index, current[0] in enumerate(setting.values(losses)):
        stopper(trainer)
        if trainer.should_terminate:
            return Outcome(index, None)
    return Outcome(None, None)


def ignite_cumulative(losses: Sequence[float], setting: Setting) -> Outcome:
    return ignite(losses, setting, cumulative=True)


def skorch(losses: Sequence[float], setting: Setting) -> Outcome:
    callbacks = quietly("skorch", "skorch.callbacks")
    stopper = callbacks.EarlyStopping(
        "m", patience=setting.patience, threshold=setting.min_delta, lower_is_better=not setting.scores,
        threshold_mode="rel" if setting.relative else "abs",
    )  # fmt: skip
    net = SimpleNamespace(verbose=0, history=None)
    stopper.on_train_begin(net)
    stop = None
    for index, value in enumerate(setting.values(losses)):
        net.history = {(-1, "m"): value, (-1, "epoch"): index + 1}
        try:
            stopper.on_epoch_end(net)
        except KeyboardInterrupt:
            stop = index
            break
    return Outcome(stop, stopper.best_epoch_ - 1 if stopper.best_epoch_ else None)


def sklearn_mlp(losses: Sequence[float], setting: Setting) -> Outcome:
    network = quietly("sklearn", "sklearn.neural_network").MLPRegressor(tol=setting.min_delta)
    network.validation_scores_, network.loss_curve_, network._no_improvement_count = [], [], 0
    network.best_validation_score_, network.best_loss_ = -float("inf"), float("inf")
    best = None
    network.intercepts_ = []
    for index, loss in enumerate(losses):
        network.coefs_ = [SimpleNamespace(copy=lambda index=index: index)]
        if setting.scores:
            network._score = lambda X, y, sample_weight, loss=loss: -loss
        network.loss_curve_.append(loss)
        before = network.best_loss_
        network._update_no_improvement_count(setting.scores, None, None, None)
        if setting.scores:
            best = network._best_coefs[0] if hasattr(network, "_best_coefs") else None
        elif network.best_loss_ != before:
            best = index
        if network._no_improvement_count > setting.patience:
            return Outcome(index, best)
    return Outcome(None, best)


def sklearn_hgb(losses: Sequence[float], setting: Setting) -> Outcome:
    ensemble = quietly("sklearn", "sklearn.ensemble")
    booster = ensemble.HistGradientBoostingRegressor(n_iter_no_change=setting.patience, tol=setting.min_delta)
    scores = [-loss for loss in losses]
    stops = (index for index in range(len(scores)) if booster._should_stop(scores[: index + 1]))
    return Outcome(next(stops, None), None)


def xgboost(losses: Sequence[float], setting: Setting) -> Outcome:
    callbacks = quietly("xgboost", "xgboost.callback")
    stopper = callbacks.EarlyStopping(rounds=setting.patience, maximize=setting.scores, min_delta=setting.min_delta)
    attributes: dict[str, str] = {}
    model = SimpleNamespace(set_attr=lambda **given: attributes.update(given))
    for index, value in enumerate(setting.values(losses)):
        if stopper.after_iteration(model, index, {"valid": {"m": [value]}}):
            return Outcome(index, int(attributes["best_iteration"]))
    return Outcome(None, int(attributes["best_iteration"]) if attributes else None)


def lightgbm(losses: Sequence[float], setting: Setting) -> Outcome:
    callbacks = quietly("lightgbm", "lightgbm.callback")
    stopper = callbacks._EarlyStoppingCallback(setting.patience, verbose=False, min_delta=setting.min_delta)
    for index, value in enumerate(setting.values(losses)):
        result = callbacks.EvalResult("valid", "m", value, setting.scores)
        env = callbacks.CallbackEnv(None, {}, index, 0, len(losses) + 1, [result])
        try:
            stopper(env)
        except callbacks.EarlyStopException as end:
            return Outcome(index, end.best_iteration)
    return Outcome(None, stopper.best_iter[0] if stopper.best_iter and stopper.enabled else None)


Driver = Callable[[Sequence[float], Setting], Outcome]
DRIVERS: dict[str, Driver] = {
    driver.__name__: driver
    for driver in (
        keras, lightning, lightning_unchecked, hf, ignite, ignite_cumulative, skorch, sklearn_mlp, sklearn_hgb, xgboost,
        lightgbm,
    )
}  # fmt: skip
