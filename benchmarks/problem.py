"""The problem that overhead is measured on: ten parameters of three kinds, and an objective that costs nothing."""

from __future__ import annotations

import optuna

from foretell import Choice, Float, Int, Space

FLOATS = {
    "lr": (1e-5, 1.0, True),
    "weight_decay": (1e-6, 0.1, True),
    "momentum": (0.0, 0.99, False),
    "dropout": (0.0, 0.8, False),
    "smoothing": (0.0, 0.3, False),
}
INTS = {"layers": (1, 8, False), "width": (16, 1024, True), "batch_size": (8, 512, True)}
CHOICES = {"optimizer": ("sgd", "adam", "rmsprop", "adagrad"), "activation": ("relu", "gelu", "tanh")}


def space() -> Space:
    """The problem as foretell reads it."""
    return Space(
        {name: Float(low, high, log=log) for name, (low, high, log) in FLOATS.items()}
        | {name: Int(low, high, log=log) for name, (low, high, log) in INTS.items()}
        | {name: Choice(options) for name, options in CHOICES.items()}
    )


def suggested(trial: optuna.Trial) -> dict[str, object]:
    """The problem as Optuna reads it."""
    params: dict[str, object] = {}
    for name, (low, high, log) in FLOATS.items():
        params[name] = trial.suggest_float(name, low, high, log=log)
    for name, (lowest, highest, log) in INTS.items():
        params[name] = trial.suggest_int(name, lowest, highest, log=log)
    for name, options in CHOICES.items():
        params[name] = trial.suggest_categorical(name, options)
    return params


def optuna_study(pruner: optuna.pruners.BasePruner | None = None) -> optuna.Study:
    """Random search in memory, silent."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.RandomSampler(seed=0)
    return optuna.create_study(sampler=sampler, pruner=pruner or optuna.pruners.NopPruner())
