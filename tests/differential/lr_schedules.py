"""The learning-rate schedules of other libraries: each gives its rates at whole steps, for the case of a name.

The cases and our own schedules are those of `tests/lr/golden.py`.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from tests.conftest import needs

Rates = Callable[[list[int]], list[float]]


def quietly(package: str, module: str = "") -> ModuleType:
    """Their own warnings on import are theirs; the package must be there, the rest of the name follows it."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = needs(package)
        return importlib.import_module(module) if module else found


def _stepped(make: Callable[[Any], Any], lr: float) -> Rates:
    """A scheduler of PyTorch's kind, stepped one by one."""

    def rates(steps: list[int]) -> list[float]:
        torch = quietly("torch")
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SequentialLR warns of its own use of `step(epoch)`
            scheduler, found = make(optimizer), []
            for _ in range(max(steps) + 1):
                found.append(float(optimizer.param_groups[0]["lr"]))
                optimizer.step()
                scheduler.step()
        return [found[step] for step in steps]

    return rates


def _torch(name: str, lr: float = 0.1, **settings: Any) -> Rates:
    return _stepped(lambda optimizer: getattr(_schedulers(), name)(optimizer, **settings), lr)


def _torch_warm() -> Rates:
    def make(optimizer: Any) -> Any:
        module = _schedulers()
        rise = module.LinearLR(optimizer, start_factor=0.1, total_iters=5)
        return module.SequentialLR(optimizer, [rise, module.CosineAnnealingLR(optimizer, 35)], milestones=[5])

    return _stepped(make, 0.1)


def _schedulers() -> Any:
    return quietly("torch").optim.lr_scheduler


def _transformers(name: str, lr: float = 0.1, **settings: Any) -> Rates:
    def make(optimizer: Any) -> Any:
        return getattr(quietly("transformers", "transformers.optimization"), name)(optimizer, **settings)

    return _stepped(make, lr)


def _called(make: Callable[[], Any], steps: Iterable[int]) -> list[float]:
    schedule = make()
    return [float(schedule(step)) for step in steps]


def _optax(name: str, *args: Any, **settings: Any) -> Rates:
    def rates(steps: list[int]) -> list[float]:
        optax, jax = quietly("optax"), quietly("jax")
        with jax.enable_x64(True):
            return _called(lambda: getattr(optax, name)(*args, **settings), steps)

    return rates


def _keras(name: str, *args: Any, **settings: Any) -> Rates:
    def rates(steps: list[int]) -> list[float]:
        schedules = quietly("keras", "keras.optimizers.schedules")
        return _called(lambda: getattr(schedules, name)(*args, **settings), steps)

    return rates


LIBRARIES: dict[str, dict[str, Rates]] = {
    "torch": {
        "constant": _torch("ConstantLR", factor=1.0, total_iters=3),
        "inverse time": _torch("LambdaLR", lr_lambda=lambda epoch: 1 / (1 + 0.3 * epoch)),
        "exponential": _torch("ExponentialLR", gamma=0.9),
        "step": _torch("StepLR", step_size=7),
        "piecewise": _torch("MultiStepLR", milestones=[10, 25], gamma=0.5),
        "polynomial": _torch("PolynomialLR", total_iters=40, power=2.0),
        "linear": _torch("LinearLR", start_factor=1.0, end_factor=0.2, total_iters=40),
        "cosine, climbing": _torch("CosineAnnealingLR", T_max=40, eta_min=0.01),
        "restarts": _torch("CosineAnnealingWarmRestarts", T_0=8, T_mult=2, eta_min=0.01),
        "restarts, equal": _torch("CosineAnnealingWarmRestarts", T_0=8),
        "one cycle": _torch("OneCycleLR", max_lr=0.1, total_steps=61, cycle_momentum=False),
        "one cycle, three phases": _torch(
            "OneCycleLR", max_lr=0.1, total_steps=61, three_phase=True, anneal_strategy="linear", cycle_momentum=False
        ),
        "warm-up and cosine, climbing": _torch_warm(),
    },
    "keras": {
        "inverse time": _keras("InverseTimeDecay", 0.1, 1, 0.3),
        "inverse time, stairs": _keras("InverseTimeDecay", 0.1, 7, 2.0, staircase=True),
        "exponential": _keras("ExponentialDecay", 0.1, 1, 0.9),
        "exponential, stairs": _keras("ExponentialDecay", 0.1, 7, 0.5, staircase=True),
        "piecewise, old at the boundary": _keras("PiecewiseConstantDecay", [10, 25], [0.1, 0.05, 0.025]),
        "polynomial": _keras("PolynomialDecay", 0.1, 40, 0.0, power=2.0),
        "linear": _keras("PolynomialDecay", 0.1, 40, 0.02),
        "cosine": _keras("CosineDecay", 0.1, 40, alpha=0.1),
        "restarts": _keras("CosineDecayRestarts", 0.1, 8, t_mul=2.0, alpha=0.1),
        "restarts, lower": _keras("CosineDecayRestarts", 0.1, 8, t_mul=1.0, m_mul=0.5, alpha=0.1),
        "warm-up and cosine": _keras("CosineDecay", 0.01, 35, warmup_target=0.1, warmup_steps=5),
    },
    "optax": {
        "constant": _optax("constant_schedule", 0.1),
        "exponential": _optax("exponential_decay", 0.1, 1, 0.9),
        "exponential, stairs": _optax("exponential_decay", 0.1, 7, 0.5, staircase=True),
        "piecewise": _optax("piecewise_constant_schedule", 0.1, {10: 0.5, 25: 0.5}),
        "polynomial": _optax("polynomial_schedule", 0.1, 0.0, 2.0, 40),
        "linear": _optax("linear_schedule", 0.1, 0.02, 40),
        "cosine": _optax("cosine_decay_schedule", 0.1, 40, alpha=0.1),
        "one cycle of optax": _optax("cosine_onecycle_schedule", 60, 0.1),
        "one cycle of optax, three phases": _optax("linear_onecycle_schedule", 60, 0.1),
        "warm-up and cosine": _optax("warmup_cosine_decay_schedule", 0.01, 0.1, 5, 40),
    },
    "transformers": {
        "warm-up and cosine, climbing from 0": _transformers(
            "get_cosine_schedule_with_warmup", num_warmup_steps=5, num_training_steps=40
        ),
        "wsd": _transformers("get_wsd_schedule", num_warmup_steps=5, num_decay_steps=10, num_training_steps=40,
                             decay_type="linear"),
        "wsd, cosine": _transformers("get_wsd_schedule", num_warmup_steps=5, num_decay_steps=10, num_training_steps=40),
        "wsd, sqrt": _transformers("get_wsd_schedule", num_warmup_steps=5, num_decay_steps=10, num_training_steps=40,
                                   decay_type="1-sqrt", min_lr_ratio=0.1),
    },
}  # fmt: skip


Moves = Callable[[list[float], dict[str, Any]], list[float]]


def torch_plateau(losses: list[float], setting: dict[str, Any]) -> list[float]:
    """PyTorch's ReduceLROnPlateau: the rate after each loss."""
    torch = quietly("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    mode = "rel" if setting["relative"] else "abs"
    rule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=setting["patience"], threshold=setting["threshold"], threshold_mode=mode,
        cooldown=setting["cooldown"], min_lr=0.1, eps=0.0,
    )  # fmt: skip
    found = []
    for loss in losses:
        rule.step(loss)
        found.append(float(optimizer.param_groups[0]["lr"]))
    return found


def keras_plateau(losses: list[float], setting: dict[str, Any]) -> list[float]:
    """Keras' ReduceLROnPlateau, whose minimum gain is absolute."""
    keras = quietly("keras")
    rule = keras.callbacks.ReduceLROnPlateau(
        "m", factor=0.5, patience=setting["patience"], min_delta=setting["threshold"], mode="min",
        cooldown=setting["cooldown"], min_lr=0.1,
    )  # fmt: skip
    model = type("Model", (), {})()
    model.optimizer = keras.optimizers.SGD(1.0)
    rule.set_model(model)
    rule.on_train_begin()
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # NumPy's, of how Keras reads its own variables
        for epoch, loss in enumerate(losses):
            rule.on_epoch_end(epoch, {"m": loss})
            found.append(float(model.optimizer.learning_rate))
    return found


def optax_plateau(losses: list[float], setting: dict[str, Any]) -> list[float]:
    """optax' reduce_on_plateau, with either a relative or an absolute tolerance."""
    quietly("optax")
    contrib, jax = quietly("optax", "optax.contrib"), quietly("jax")
    with jax.enable_x64(True):
        shares = {"rtol": setting["threshold"], "atol": 0.0}
        if not setting["relative"]:
            shares = {"rtol": 0.0, "atol": setting["threshold"]}
        rule = contrib.reduce_on_plateau(
            factor=0.5, patience=setting["patience"], cooldown=setting["cooldown"], min_scale=0.1, **shares
        )
        one = jax.numpy.ones(())
        state, update, found = rule.init(one), jax.jit(rule.update), []
        for loss in losses:
            _, state = update(one, state, value=loss)
            found.append(float(state.scale))
        return found


def greedy(losses: list[float], setting: dict[str, Any]) -> list[float]:
    """transformers' GreedyLR, its two pauses being of one length."""
    torch = quietly("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rule = quietly("transformers", "transformers.optimization").GreedyLR(
        optimizer, factor=0.5, patience=setting["patience"], threshold=setting["threshold"], min_lr=0.125, max_lr=4.0,
        cooldown=setting["cooldown"], warmup=setting["cooldown"], smooth=setting["window"] > 1, eps=0.0,
        window_size=setting["window"], reset_start=setting["reset"] or 10**9,
    )  # fmt: skip
    found = []
    for loss in losses:
        rule.step(loss)
        found.append(float(optimizer.param_groups[0]["lr"]))
    return found
