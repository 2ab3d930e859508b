"""Keras: a learning rate that follows the gradient, and an end as soon as going on is not worth it, in half a minute.

Real data (scikit-learn's 1,797 digits, in training, validation and test), one small network, four trainings of at most
50 epochs (`--quick`: 5): all of them, with Keras' EarlyStopping, with foretell's patience, and with that at a
gradient-norm rate.
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # or "torch"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from foretell.integrations.keras import Foretell
from foretell.integrations.keras_lr import GradientNormOptimizer
from foretell.lr.gradient_norm import GradientNorm

EPOCHS, PATIENCE, LR = 5 if "--quick" in sys.argv else 50, 4, 0.5


def split() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pixels (n, 64) in [0, 1] and their digits, in three parts that do not overlap."""
    images, digits = load_digits(return_X_y=True)
    rest, test = train_test_split(np.arange(len(digits)), test_size=500, random_state=0, stratify=digits)
    train, val = train_test_split(rest, test_size=400, random_state=0, stratify=digits[rest])
    x = images.astype(np.float32) / 16
    return {name: (x[rows], digits[rows]) for name, rows in (("train", train), ("val", val), ("test", test))}


DATA = split()


def network(optimizer: keras.optimizers.Optimizer) -> keras.Model:
    """The same network from the same weights, whatever the optimiser."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(64, "relu"), keras.layers.Dense(64, "relu"), keras.layers.Dense(10)]
    model = keras.Sequential([keras.Input((64,)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def fixed() -> keras.optimizers.Optimizer:
    """Gradient descent at one rate."""
    return keras.optimizers.SGD(LR)


def by_gradient_norm() -> keras.optimizers.Optimizer:
    """Gradient descent whose rate is the smaller, the more gradient has been seen: AdaGrad-norm."""
    rate = GradientNorm(beta=2 * LR, gamma=0.03, reading="accumulated", power=0.5)
    return GradientNormOptimizer(keras.optimizers.SGD(), rate)


def trained(name: str, optimizer: keras.optimizers.Optimizer, *callbacks: keras.callbacks.Callback) -> None:
    """Train and print one line of the table."""
    model, begun = network(optimizer), time.perf_counter()
    history = model.fit(
        *DATA["train"], batch_size=32, epochs=EPOCHS, validation_data=DATA["val"], callbacks=[*callbacks], verbose=0
    )
    seconds, epochs = time.perf_counter() - begun, len(history.epoch)
    (loss, _), (_, accuracy) = (model.evaluate(*DATA[part], verbose=0) for part in ("val", "test"))
    print(f"{name:36}{epochs:>8}{seconds:>9.1f}{loss:>17.4f}{accuracy:>15.3f}", flush=True)


def main() -> None:
    """Three ways to end, two ways to step."""
    print(f"{'':36}{'epochs':>8}{'seconds':>9}{'validation loss':>17}{'test accuracy':>15}")
    trained("all epochs, fixed rate", fixed())
    trained("Keras' EarlyStopping, fixed rate", fixed(), keras.callbacks.EarlyStopping(patience=PATIENCE))
    stopper = Foretell(patience=PATIENCE)
    trained("foretell, fixed rate", fixed(), stopper)
    print(f"    {stopper.run.verdict}")
    stopper = Foretell(patience=PATIENCE)
    trained("foretell, gradient-norm rate", by_gradient_norm(), stopper)
    print(f"    {stopper.run.verdict}")


if __name__ == "__main__":
    main()
