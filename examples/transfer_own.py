"""Transfer between networks of your own: which earlier study to start from, and what it saves, in about a minute.

Three earlier studies left a small network each: on signals of other classes, on the same signals backwards, and on
scikit-learn's digits read line by line. The target has 50 signals of five new classes. The sources are ranked, raced in
one study together with training from scratch, and then each is compared with training from scratch at equal epochs,
over seven seeds (`--quick`: two).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from functools import partial

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import foretell as ft
from foretell import transfer
from foretell.transfer.ranking import Shortlist

SEEDS, EPOCHS, RATES = 2 if "--quick" in sys.argv else 7, 10, (0.003, 0.01, 0.03)
TRIALS = "6 trials" if "--quick" in sys.argv else "20 trials"
LENGTH, CLASSES = 40, 5
Data = tuple[Tensor, Tensor]


def signals(classes: range, per_class: int, seed: int) -> Data:
    """Curves (n, 1, 40) drawn after a template for each class: shifted, stretched, tilted, with noise on top."""
    templates = np.random.default_rng(11).normal(size=(10, 9)).cumsum(1)
    rng, x = np.random.default_rng(seed), np.linspace(0, 1, LENGTH)
    labels = np.repeat(np.arange(len(classes)), per_class)
    rows = [
        np.interp((x - rng.uniform(0, 0.35)) * rng.uniform(1.2, 1.5), np.linspace(0, 1, 9), templates[classes[label]])
        + rng.normal(0, 1.0) * x + rng.normal(0, 0.5, LENGTH)
        for label in labels
    ]  # fmt: skip
    values = torch.tensor(np.array(rows), dtype=torch.float32)[:, None]
    return (values - values.mean()) / values.std(), torch.tensor(labels)


def lines() -> Data:
    """The digits 0 to 4, line by line: (n, 1, 64)."""
    images, labels = load_digits(return_X_y=True)
    kept = labels < CLASSES
    return torch.tensor(images[kept] / 8 - 1, dtype=torch.float32)[:, None], torch.tensor(labels[kept])


def backwards(data: Data) -> Data:
    return data[0].flip(2), data[1]


TASKS = {"signals": signals(range(5), 200, 1), "backwards": backwards(signals(range(5), 200, 1)), "digits": lines()}
TRAIN, VAL, TEST = (signals(range(5, 10), n, seed) for n, seed in ((10, 2), (40, 3), (200, 4)))


def network() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv1d(1, 16, 5, padding=2), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(2)),
        *(nn.Conv1d(16, 32, 5, padding=2), nn.BatchNorm1d(32), nn.ReLU(), nn.MaxPool1d(2)),
        *(nn.Conv1d(32, 32, 3, padding=1), nn.BatchNorm1d(32), nn.ReLU(), nn.AdaptiveAvgPool1d(4)),
        *(nn.Flatten(), nn.Linear(128, CLASSES)),
    )


def train_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, data: Data, size: int) -> None:
    model.train()
    for rows in torch.randperm(len(data[1])).split(size):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(data[0][rows]), data[1][rows]).backward()
        optimizer.step()


@torch.no_grad()
def accuracy(model: nn.Module, data: Data) -> float:
    model.eval()
    return float((model(data[0]).argmax(1) == data[1]).float().mean())


def train_source(run: ft.Run) -> None:
    """An earlier training, as any other; its study keeps the weights."""
    torch.manual_seed(run.seed)
    model, data = network(), TASKS[run.params["task"]]
    optimizer = torch.optim.AdamW(model.parameters(), lr=run.params["lr"])
    run.track(model=model)
    for _ in run.epochs(5):
        train_epoch(model, optimizer, (data[0][::2], data[1][::2]), 32)
        run.report(accuracy=accuracy(model, (data[0][1::2], data[1][1::2])))


def fine_tune(run: ft.Run, store: str) -> nn.Module:
    """Train on the target, from a source or from scratch."""
    torch.manual_seed(run.seed)
    model, params = network(), run.params
    if params["source"] == "none":
        tune = transfer.FineTune(model, torch.optim.AdamW, lr=params["lr"], policy="all", decay=1)
    else:
        source = transfer.source(f"study:{params['source']}", store=store)
        transfer.map_weights(source, model, pairs={"13": None})
        tune = transfer.FineTune(model, torch.optim.AdamW, lr=params["lr"], decay=params["decay"])
    run.track(model=model, tune=tune)
    for _ in tune.epochs(run, EPOCHS):
        train_epoch(model, tune.optimizer, TRAIN, 10)
        run.report(accuracy=accuracy(model, VAL))
    return model


def rank(store: str) -> Shortlist:
    models: dict[str, nn.Module] = {}
    for name in TASKS:
        models[name] = network()
        transfer.map_weights(
            f"study:{name}" if store == "studies" else transfer.source(f"study:{name}", store=store), models[name]
        )
    return transfer.rank(models, TRAIN[1].numpy(), inputs=TRAIN[0].numpy())


def race(run: ft.Run, store: str) -> None:
    fine_tune(run, store)


def one(source: str, seed: int, store: str) -> float:
    """Test accuracy, at the rate that was best in validation."""
    found = []
    for lr in RATES:
        run = ft.Run({"source": source, "lr": lr, "decay": 0.75}, maximize="accuracy", seed=seed)
        model = fine_tune(run, store)
        found.append((run.best, accuracy(model, TEST)))
    return max(found, key=lambda pair: pair[0])[1]


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as store:
        for name in TASKS:
            space = ft.Space(task=name, lr=ft.Float(1e-3, 1e-2, log=True))
            ft.maximize(train_source, "accuracy", space, "2 trials", store=store, name=name, workers=0, progress="none")
        shortlist = rank(store)
        print(shortlist, end="\n\n")
        source = transfer.choice(shortlist, params={"decay": ft.Float(0.5, 1)})
        space = ft.Space(source=source, lr=ft.Float(1e-3, 1e-1, log=True))
        study = ft.maximize(
            partial(race, store=store), "accuracy", space, TRIALS, name="race", scheduler="full", workers=0,
            progress="none",
        )  # fmt: skip
        print(transfer.savings(study), end="\n\n")
        print(f"{EPOCHS} epochs each, test accuracy over {SEEDS} seeds")
        table = {name: [one(name, seed, store) for seed in range(SEEDS)] for name in ("none", *shortlist.top(3))}
        for name, values in table.items():
            gain = statistics.mean(a - b for a, b in zip(values, table["none"], strict=True))
            wins = sum(a > b for a, b in zip(values, table["none"], strict=True))
            shown = (
                f"{gain:+.3f} against from scratch, better in {wins} of {SEEDS}" if name != "none" else "from scratch"
            )
            print(f"{name:<10} {statistics.mean(values):.3f} (sd {statistics.stdev(values):.3f})  {shown}")


if __name__ == "__main__":
    main()
