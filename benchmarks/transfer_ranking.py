"""Does a ranking of sources agree with what fine-tuning them gives? 14 small sources, 3 targets, Kendall's tau.

    python -m benchmarks.transfer_ranking --spoken spoken_digits.npz

Sources are convolutional networks trained here on related and unrelated tasks, for long and for short, wide and narrow,
on shuffled labels and not at all. Every source is fine-tuned on every target, all layers, a few seeds; its mean test
accuracy is the truth that `foretell.transfer.rank` is compared with. Without a file of spoken digits (arrays "X" of
images and "y" of labels), the third target is left out.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from foretell import transfer
from foretell.transfer.ranking import kendall

SIZE, CLASSES = 16, 5
Data = tuple[torch.Tensor, torch.Tensor]


def resized(images: np.ndarray[Any, Any]) -> torch.Tensor:
    """(n, 1, 16, 16) of mean 0 and variance 1."""
    pictures = torch.tensor(np.asarray(images, np.float32))[:, None]
    small = nn.functional.interpolate(pictures, (SIZE, SIZE), mode="bilinear", antialias=True)
    return (small - small.mean()) / small.std()


def curves(per_class: int, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Ten templates of a line, each shifted, bent and blurred at random, drawn as pictures."""
    knots = np.random.default_rng(7).uniform(3, SIZE - 4, (10, 5))
    rng, pictures, labels = np.random.default_rng(seed), [], []
    x = np.linspace(0, 1, SIZE)
    for label in np.repeat(np.arange(10), per_class):
        heights = knots[label] + rng.normal(0, 1.2, 5) + rng.normal(0, 1.5)
        line = np.interp(x + rng.normal(0, 0.05), np.linspace(0, 1, 5), heights)
        pictures.append(np.exp(-0.5 * ((np.arange(SIZE)[:, None] - line) / 0.8) ** 2))
        labels.append(label)
    images = np.array(pictures)
    return images + rng.normal(0, 0.15, images.shape), np.array(labels)


def halves(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> tuple[Data, Data]:
    """The classes 0 to 4 for a source, and 5 to 9 for a target."""
    inputs, classes = resized(images), torch.tensor(np.asarray(labels, np.int64))
    return (inputs[classes < 5], classes[classes < 5]), (inputs[classes >= 5], classes[classes >= 5] - 5)


def network(width: int, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.AdaptiveAvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(8 * width, CLASSES)),
    )


def train(model: nn.Sequential, data: Data, epochs: int, seed: int, lr: float = 2e-3) -> nn.Sequential:
    inputs, classes = data
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(inputs), generator=generator).split(32):
            if len(rows) < 2:
                continue
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[rows]), classes[rows]).backward()
            optimizer.step()
    return model


def accuracy(model: nn.Sequential, data: Data) -> float:
    model.eval()
    with torch.no_grad():
        return float((model(data[0]).argmax(1) == data[1]).float().mean())


def make_sources(tasks: dict[str, Data]) -> dict[str, nn.Sequential]:
    made = {}
    for name, data in tasks.items():
        made |= {f"{name} wide": train(network(24, 1), data, 8, 1), f"{name} narrow": train(network(6, 2), data, 8, 2)}
        made[f"{name} short"] = train(network(12, 3), data, 1, 3)
    mixed = torch.cat([data[0] for data in tasks.values()]), torch.cat([data[1] for data in tasks.values()])
    made["all tasks"] = train(network(12, 4), mixed, 6, 4)
    first = next(iter(tasks.values()))
    shuffled = first[1][torch.randperm(len(first[1]), generator=torch.Generator().manual_seed(5))]
    made["shuffled labels"] = train(network(12, 5), (first[0], shuffled), 8, 5)
    made["turned"] = train(network(12, 6), (first[0].rot90(1, (2, 3)), first[1]), 8, 6)
    made |= {"untrained wide": network(24, 7), "untrained narrow": network(6, 8)}
    return made


def fine_tuned(source: nn.Sequential, data: Data, test: Data, epochs: int, seeds: int) -> float:
    """Mean test accuracy after all layers were trained from the source's."""
    found = []
    for seed in range(seeds):
        model = network(source[0].out_channels, 100 + seed)
        transfer.map_weights(source, model, pairs={"13": None})
        found.append(accuracy(train(model, data, epochs, seed, 1e-3), test))
    return float(np.mean(found))


def measure(name: str, sources: dict[str, nn.Sequential], data: Data, options: argparse.Namespace) -> Any:
    samples, epochs, seeds = options.samples, options.epochs, options.seeds
    order = torch.randperm(len(data[0]), generator=torch.Generator().manual_seed(options.draw))
    few = data[0][order[:samples]], data[1][order[:samples]]
    test = data[0][order[samples:][:600]], data[1][order[samples:][:600]]
    began = time.perf_counter()
    ranked = transfer.rank(dict(sources), few[1], inputs=few[0])
    ranking = time.perf_counter() - began
    truth = np.array([fine_tuned(source, few, test, epochs, seeds) for source in sources.values()])
    columns = {"score (default)": np.array([ranked[one].score for one in sources])}
    columns["size alone"] = np.array([float(sum(p.numel() for p in one.parameters())) for one in sources.values()])
    for kind in ranked.ranked[0].figures:
        columns[kind] = np.array([ranked[one].figures[kind].value for one in sources])
    columns["probe without prior"] = np.array([ranked[one].terms["probe"] for one in sources])
    taus = {kind: kendall(values, truth) for kind, values in columns.items()}
    chosen = {kind: float(truth[int(np.argmax(values))]) for kind, values in columns.items()}
    best = {"best": float(truth.max()), "mean": float(truth.mean()), "seconds": ranking}
    values = {kind: column.tolist() for kind, column in columns.items()}
    outcome = {"target": name, "tau": taus, "accuracy of the first": chosen, **best, "scores": values}
    outcome["came first"] = ranked.ranked[0].first
    return outcome | {"truth": dict(zip(sources, truth.tolist(), strict=True))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spoken", type=Path)
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draw", type=int, default=0, help="which samples of the targets are used")
    options = parser.parse_args()
    torch.set_num_threads(1)
    digits = load_digits()
    data = {"digits": halves(digits.images, digits.target), "curves": halves(*curves(120, 0))}
    if options.spoken:
        with np.load(options.spoken, allow_pickle=False) as spoken:
            data["spoken"] = halves(spoken["X"], spoken["y"])
    sources = make_sources({name: pair[0] for name, pair in data.items()})
    for name, (_, target) in data.items():
        print(json.dumps(measure(name, sources, target, options)), flush=True)


if __name__ == "__main__":
    main()
