"""What the bindings add to an epoch beside the frameworks' own early stopping, and the gradient norm to a step."""

# ruff: noqa: PLC0415 - each framework is imported in the process that measures it, and in no other
from __future__ import annotations

import json
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.figures import Figure, Settings, in_fresh_process

TITLE = "bindings: time of our callback in an epoch, beside the framework's own; gradient norm in a step"
GOAL_US, GOAL_PERCENT, NEVER = 50.0, 5.0, 10**6
HOOKS = (
    "on_epoch_begin", "on_epoch_end", "on_train_batch_start", "on_train_epoch_start", "on_train_epoch_end",
    "on_validation_end", "on_step_begin", "on_step_end", "on_evaluate",
)  # fmt: skip


def measure(settings: Settings) -> Iterator[Figure]:
    """Each framework in a process of its own. No epoch improves on the first, so that no weights are copied."""
    for name, peer in (("tensorflow", "Keras"), ("torch", "Keras"), ("lightning", "Lightning"), ("hf", "transformers")):
        found = json.loads(
            in_fresh_process("-m", "benchmarks.bindings", name, str(int(settings.quick))).splitlines()[-1]
        )
        what = f"Keras on {name}" if peer == "Keras" else peer
        ours, theirs = found["ours"], found["theirs"]
        note = f"{ours - theirs:+.0f} us beside the framework's own"
        yield Figure(f"{what}: callback", "us an epoch", ours, theirs, peer, goal=theirs + GOAL_US, note=note)
        for reading, percent in found.get("norm", {}).items():
            yield Figure(f"{what}: norm of the {reading}", "% of a step", percent, goal=GOAL_PERCENT, note="small CNN")


def timed(callback: Any) -> tuple[Any, list[float]]:
    """The callback, and the seconds of each call of its hooks."""
    spent: list[float] = []

    def timing(hook: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            result = hook(*args, **kwargs)
            spent.append(time.perf_counter() - begun)
            return result

        return wrapper

    for name in HOOKS:
        if hasattr(callback, name):
            setattr(callback, name, timing(getattr(callback, name)))
    return callback, spent


def compared(fit: Callable[[Any, int], None], ours: Any, theirs: Any, epochs: int) -> dict[str, Any]:
    """Microseconds of an epoch in each callback, without the slowest twentieth of its hooks: the machine's doing."""
    found = {}
    for name, callback in (("ours", ours), ("theirs", theirs)):
        watched, spent = timed(callback)
        fit(watched, epochs)
        found[name] = 1e6 * sum(sorted(spent)[: int(0.95 * len(spent)) or 1]) / (0.95 * epochs)
    return found


def keras_on(backend: str, quick: bool) -> dict[str, Any]:
    """Callback and gradient norm."""
    os.environ |= {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    import keras
    import numpy as np

    from foretell.integrations.keras import Foretell
    from foretell.integrations.keras_lr import GradientNormOptimizer
    from foretell.lr.gradient_norm import GradientNorm

    one = np.ones((1, 1), np.float32)

    def fit(callback: Any, epochs: int) -> None:
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.0), "mse")
        model.fit(one, one, validation_data=(one, one), epochs=epochs, callbacks=[callback], verbose=0)

    theirs = keras.callbacks.EarlyStopping(patience=NEVER, restore_best_weights=True)
    found = compared(fit, Foretell(patience=NEVER), theirs, 5 if quick else 200)
    rng = np.random.default_rng(0)
    images, digits = rng.random((32, 16, 16, 1)).astype(np.float32), rng.integers(0, 10, 32)

    def network(optimizer: Any) -> Any:
        layers = [keras.layers.Conv2D(16, 3, activation="relu"), keras.layers.Conv2D(32, 3, activation="relu")]
        model = keras.Sequential([keras.Input((16, 16, 1)), *layers, keras.layers.Flatten(), keras.layers.Dense(10)])
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    plain = network(keras.optimizers.SGD(0.001))
    for reading in ("batch", "accumulated"):
        rate = GradientNorm(0.001, 0.0, reading=reading)
        normed = network(GradientNormOptimizer(keras.optimizers.SGD(), rate))
        steps, rounds = (2, 2) if quick else (20, 40)
        seconds = _in_turns([lambda m=m: m.train_on_batch(images, digits) for m in (plain, normed)], steps, rounds)
        found.setdefault("norm", {})[reading] = 100 * max(seconds[1] / seconds[0] - 1, 1e-3)
    return found


def _in_turns(steps: list[Callable[[], Any]], count: int, rounds: int) -> list[float]:
    """The median CPU seconds of each, taken in turns."""
    taken: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds + 1):
        for values, step in zip(taken, steps, strict=True):
            begun = time.process_time()
            for _ in range(count):
                step()
            values.append(time.process_time() - begun)
    return [statistics.median(values[1:]) for values in taken]


def lightning(quick: bool) -> dict[str, Any]:
    """Callback."""
    import torch
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import EarlyStopping

    from foretell.integrations.lightning import Foretell

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch: Any, _: int) -> Any:
            return self.layer(batch).sum()

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("val_loss", 1.0)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.0)

    def fit(callback: Any, epochs: int) -> None:
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        data = torch.utils.data.DataLoader(torch.ones(1, 1))
        made = Trainer(accelerator="cpu", logger=False, max_epochs=epochs, callbacks=[callback], **quiet)
        made.fit(Module(), data, data)

    ours, theirs = Foretell(monitor="val_loss", patience=NEVER), EarlyStopping("val_loss", patience=NEVER)
    return compared(fit, ours, theirs, 5 if quick else 300)


def hf(quick: bool) -> dict[str, Any]:
    """Callback."""
    import torch
    import transformers

    from foretell.integrations.transformers import Foretell

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def forward(self, x: Any = None, return_loss: bool = True) -> dict[str, Any]:
            return {"loss": self.layer(x).sum(), "output": x}

    def fit(callback: Any, epochs: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            quiet = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "logging_strategy": "no"}
            given = transformers.TrainingArguments(
                folder, num_train_epochs=epochs, eval_strategy="epoch", use_cpu=True, learning_rate=0.0,
                metric_for_best_model="loss", **quiet,
            )  # fmt: skip
            data = [{"x": torch.ones(1)}]
            transformers.Trainer(Module(), given, train_dataset=data, eval_dataset=data, callbacks=[callback]).train()

    theirs = transformers.EarlyStoppingCallback(NEVER)
    return compared(fit, Foretell(early_stopping_patience=NEVER), theirs, 5 if quick else 200)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    part, is_quick = sys.argv[1], bool(int(sys.argv[2]))
    parts = {"lightning": lightning, "hf": hf}
    measured = parts[part](is_quick) if part in parts else keras_on(part, is_quick)
    print(f"\n{json.dumps(measured)}")
