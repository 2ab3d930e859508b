"""Small torch models for the tests of weight mapping, and what is asked of them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from tests.conftest import needs

torch = needs("torch")
nn = torch.nn


def mlp(*widths: int, between: Any = nn.ReLU) -> Any:
    layers = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), between()]
    return nn.Sequential(*layers[:-1])


def cnn(channels: int = 3, width: int = 4, classes: int = 5) -> Any:
    model = nn.Sequential(
        nn.Conv2d(channels, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 2 * width, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(2 * width * 16, classes),
    )  # fmt: skip
    with torch.no_grad():
        for _ in range(3):
            model(3 * torch.randn(8, channels, 8, 8) + 1)
    return model


def batch(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def state(model: Any) -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


class Holder(nn.Module):  # type: ignore[misc, name-defined]
    """A model under a name."""

    def __init__(self, name: str, model: Any) -> None:
        super().__init__()
        self.name = name
        setattr(self, name, model)

    def forward(self, x: Any) -> Any:
        return getattr(self, self.name)(x)


class Words(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, tokens: int, tied: bool = True) -> None:
        super().__init__()
        self.wte = nn.Embedding(tokens, 6)
        self.body = nn.Linear(6, 6)
        self.lm_head = nn.Linear(6, tokens, bias=False)
        if tied:
            self.lm_head.weight = self.wte.weight
