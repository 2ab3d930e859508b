"""Tune a small convolutional network on handwritten digits, on two cores, in about a minute.

Real data (scikit-learn's 1,797 digits), split into training, validation and a test set that no choice ever sees. Kill
it in any way and run it again: it goes on where it was. Begin anew with `--fresh`; `--quick` is a first glance.
"""

from __future__ import annotations

import shutil
import sys

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import foretell as ft

STORE, NAME, EPOCHS = "studies", "digits-cnn", 30
BUDGET = "60 epochs" if "--quick" in sys.argv else "60 s"
DEFAULT = {"lr": 0.001, "batch_size": 32, "channels": 16, "dropout": 0.25, "weight_decay": 1e-4, "optimizer": "adamw"}
SPACE = ft.Space(
    lr=ft.Float(1e-4, 1e-1, log=True),
    batch_size=ft.Choice([16, 32, 64, 128], ordered=True),
    channels=ft.Int(4, 48, log=True),
    dropout=ft.Float(0, 0.6),
    weight_decay=ft.Float(1e-6, 1e-1, log=True),
    optimizer=ft.Choice({"adamw": {}, "sgd": {"momentum": ft.Float(0, 0.98)}}),
)


def split() -> dict[str, tuple[Tensor, Tensor]]:
    """Images (n, 1, 8, 8) in [0, 1] and their digits, in three parts that do not overlap."""
    images, digits = load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(digits)
    rest, test = train_test_split(range(len(y)), test_size=360, random_state=0, stratify=digits)
    train, val = train_test_split(rest, test_size=360, random_state=0, stratify=digits[rest])
    return {name: (x[rows], y[rows]) for name, rows in (("train", train), ("val", val), ("test", test))}


DATA = split()


def build(params: dict) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The network and its optimiser for one configuration."""
    width = params["channels"]
    model = nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(params["dropout"]), nn.Linear(2 * width * 16, 10),
    )  # fmt: skip
    if params["optimizer"] == "sgd":
        settings = {"lr": params["lr"], "momentum": params["momentum"], "weight_decay": params["weight_decay"]}
        return model, torch.optim.SGD(model.parameters(), **settings)
    return model, torch.optim.AdamW(model.parameters(), lr=params["lr"], weight_decay=params["weight_decay"])


@torch.no_grad()
def measure(model: nn.Module, part: str) -> tuple[float, float]:
    """Mean cross-entropy and accuracy on one part of the data."""
    x, y = DATA[part]
    model.eval()
    scores = model(x)
    return nn.functional.cross_entropy(scores, y).item(), (scores.argmax(1) == y).float().mean().item()


def train(run: ft.Run) -> nn.Module:
    """One training: what a user writes."""
    torch.manual_seed(run.seed)
    model, optimizer = build(run.params)
    run.track(model=model, optimizer=optimizer)
    x, y = DATA["train"]
    for _ in run.epochs(EPOCHS):
        model.train()
        for rows in torch.randperm(len(y)).split(run.params["batch_size"]):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        loss, accuracy = measure(model, "val")
        run.report(val_loss=loss, val_accuracy=accuracy)
    return model


def test_accuracy(run: ft.Run) -> float:
    """Of the weights that the run restores, on data that no choice has seen."""
    model, _ = build(run.params)
    run.track(model=model)
    return measure(model, "test")[1]


def default_in_full() -> tuple[float, float]:
    """The default configuration trained to its end: its best validation loss, and the test accuracy there."""
    torch.set_num_threads(1)  # as in the search, where two trainings share the cores
    run = ft.Run(DEFAULT, minimize="val_loss", seed=0)
    model = train(run)
    return run.best, measure(model, "test")[1]


def main() -> None:
    """Search, verify the winner once, and compare with the default."""
    if "--fresh" in sys.argv:
        shutil.rmtree(STORE, ignore_errors=True)
    study = ft.minimize(train, "val_loss", SPACE, BUDGET, workers=2, store=STORE, name=NAME, default=DEFAULT)
    best, verification = study.best, study.verify(test_accuracy)
    default_loss, default_accuracy = default_in_full()
    print(f"\n{'':22}{'validation loss':>16}{'test accuracy':>16}")
    print(f"{'best of ' + str(len(study.trials)) + ' trials':22}{best.value:>16.4f}{verification.value:>16.4f}")
    print(f"{'default, trained fully':22}{default_loss:>16.4f}{default_accuracy:>16.4f}")
    print(f"\nBest parameters: {best.params}")
    print(f"{study.saving}\n")
    print("The winner's weights lie on disk. Load them with")
    print(f"    model, optimizer = build({best.params})")
    print(f"    {best.checkpoint.how_to_load}")


if __name__ == "__main__":
    main()
