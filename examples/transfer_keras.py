"""Keras: from a network of your own to a related task, in half a minute.

The source was trained on scikit-learn's digits 0 to 7. The target has five each of the digits 2 to 9, other images,
moved by one pixel and noisy. Its weights are mapped by `transfer.map_weights`, those of the head by class; then the
head is trained alone for two epochs, and all layers after it. Against training from scratch at equal epochs, over five
seeds (`--quick`: two).
"""

from __future__ import annotations

import os
import statistics
import sys

os.environ.setdefault("KERAS_BACKEND", "torch")  # or "tensorflow", or "jax", which compile every model anew

import keras
import numpy as np
from sklearn.datasets import load_digits

from foretell import transfer

SEEDS, EPOCHS, PROBE, RATES = 2 if "--quick" in sys.argv else 5, 8, 2, (0.003, 0.01)
CLASSES = [str(digit) for digit in range(8)], [str(digit) for digit in range(2, 10)]
Data = tuple[np.ndarray, np.ndarray]


def split() -> dict[str, Data]:
    """Images (n, 8, 8, 1) in [-1, 1] and classes from 0 to 7, in four parts that do not overlap."""
    images, digits = load_digits(return_X_y=True)
    x, rng = (images / 8 - 1).astype(np.float32).reshape(-1, 8, 8, 1), np.random.default_rng(0)
    order = rng.permutation(len(x))
    ours, theirs = order[:900], order[900:]
    ours, theirs = ours[digits[ours] < 8], theirs[digits[theirs] > 1]
    train = np.concatenate([theirs[digits[theirs] == digit][:5] for digit in range(2, 10)])
    rest = theirs[~np.isin(theirs, train)]
    moved = np.roll(x, 1, axis=2) + rng.normal(0, 0.3, x.shape).astype(np.float32)
    parts = {"train": train, "val": rest[:150], "test": rest[150:]}
    target = {name: (moved[rows], digits[rows] - 2) for name, rows in parts.items()}
    return {"source": (x[ours], digits[ours]), **target}


DATA = split()


def network(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    conv = [keras.layers.Conv2D(width, 3, padding="same", activation="relu") for width in (16, 32)]
    return keras.Sequential(
        [
            *(keras.Input((8, 8, 1)), *conv, keras.layers.MaxPooling2D(), keras.layers.Flatten()),
            *(keras.layers.Dense(32, activation="relu"), keras.layers.Dense(8, name="head")),
        ]
    )


def fit(model: keras.Model, part: str, epochs: int, lr: float) -> float:
    """Train what is trainable; the best accuracy in the target's validation."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(lr), loss, metrics=["accuracy"])
    val = None if part == "source" else DATA["val"]
    history = model.fit(*DATA[part], batch_size=10, epochs=epochs, verbose=0, validation_data=val)
    return max(history.history.get("val_accuracy", [0.0]))


def trained(source: keras.Model | None, lr: float, seed: int) -> tuple[float, float]:
    """Accuracy in validation and in the test."""
    model = network(seed)
    if source is None:
        best = fit(model, "train", EPOCHS, lr)
    else:
        transfer.map_weights(source, model, classes=CLASSES)
        for layer in model.layers[:-1]:
            layer.trainable = False
        fit(model, "train", PROBE, lr)
        for layer in model.layers:
            layer.trainable = True
        best = fit(model, "train", EPOCHS - PROBE, lr)
    images, classes = DATA["test"]
    return best, float((np.argmax(model.predict(images, verbose=0), 1) == classes).mean())


def main() -> None:
    source, table = network(100), {}
    fit(source, "source", 5, 0.003)
    print(transfer.map_weights(source, network(0), classes=CLASSES, dry_run=True), end="\n\n")
    for name, start in (("from scratch", None), ("from digits 0-7", source)):
        best = [max(trained(start, lr, seed) for lr in RATES) for seed in range(SEEDS)]
        table[name] = [test for _, test in best]
    print(f"{EPOCHS} epochs, 40 images, the better of {len(RATES)} rates by validation; test accuracy, {SEEDS} seeds")
    for name, values in table.items():
        shown = " ".join(f"{value:.3f}" for value in values)
        print(f"{name:<16} {statistics.mean(values):.3f} (sd {statistics.stdev(values):.3f})  {shown}")


if __name__ == "__main__":
    main()
