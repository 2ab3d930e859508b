"""The README's programs, run as they are written: in a fresh process, without a guard, only with a smaller budget."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import needs

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)

TORCH = """
import torch
from torch import nn
x = torch.linspace(-1, 1, 64)[:, None]
y = 3 * x
def build(params):
    model = nn.Sequential(nn.Linear(1, params["width"]), nn.ReLU(), nn.Linear(params["width"], 1))
    if params["optimizer"] == "sgd":
        return model, torch.optim.SGD(model.parameters(), lr=params["lr"], momentum=params["momentum"])
    return model, torch.optim.AdamW(model.parameters(), lr=params["lr"])
def train_one_epoch(model, optimizer):
    optimizer.zero_grad()
    ((model(x) - y) ** 2).mean().backward()
    optimizer.step()
def evaluate(model):
    return ((model(x) - y) ** 2).mean()
def test_accuracy(run):
    model, _ = build(run.params)
    run.track(model=model)
    return evaluate(model).item()
"""
NUMPY = """
import numpy as np
x = np.linspace(-1, 1, 64)
def build(params):
    return {"w": np.zeros(1)}, {"v": np.zeros(1), "lr": params["lr"], "momentum": params.get("momentum", 0.0)}
def train_one_epoch(model, optimizer):
    gradient = np.mean(2 * (model["w"] * x - 3 * x) * x)
    optimizer["v"][:] = optimizer["momentum"] * optimizer["v"] - optimizer["lr"] * gradient
    model["w"] += optimizer["v"]
def evaluate(model):
    return np.mean((model["w"] * x - 3 * x) ** 2)
def test_accuracy(run):
    model, _ = build(run.params)
    run.track(model=model)
    return float(evaluate(model))
"""
STATE_DICT = """
class Model:
    def __init__(self, rate):
        self.w, self.rate = 0.0, rate
    def state_dict(self):
        return {"w": self.w}
    def load_state_dict(self, state):
        self.w = state["w"]
def build(params):
    return Model(params["lr"]), Model(0.0)
def train_one_epoch(model, optimizer):
    model.w += model.rate * (3 - model.w)
def evaluate(model):
    return (3 - model.w) ** 2
def test_accuracy(run):
    model, _ = build(run.params)
    run.track(model=model)
    return evaluate(model)
"""


def script(folder: Path, name: str, text: str) -> str:
    """The standard output of a program run in a folder of its own."""
    (folder / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-W", "error", name], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("prelude", [TORCH, NUMPY, STATE_DICT], ids=["torch", "numpy", "state_dict"])
def test_the_eight_lines(tmp_path: Path, prelude: str) -> None:
    if prelude is TORCH:
        needs("torch")
    program = BLOCKS[0].replace('budget="30 min"', 'budget="150 epochs"')
    assert "150 epochs" in program
    first = script(tmp_path, "tune.py", prelude + program)
    verdict, verified = first.strip().splitlines()[-2:]
    assert "Stop: the budget of 150 epochs is spent" in verdict
    assert re.fullmatch(r"trial \d+: \S+", verified)
    again = script(tmp_path, "tune.py", prelude + program.replace("150 epochs", "200 epochs"))
    assert "Stop: the budget of 200 epochs is spent" in again and "measured earlier" in again


def test_the_run_alone(tmp_path: Path) -> None:
    program = "import foretell as ft\nlosses = iter(0.99 ** k for k in range(1000))\n"
    program += "def train_one_epoch():\n    return next(losses)\n" + BLOCKS[1]
    assert script(tmp_path, "loop.py", program).strip() == (
        "Stop: loss 0.009921 reached the threshold 0.01 at epoch 460"
    )


def test_a_typo_in_the_metric_is_told_with_what_was_reported(tmp_path: Path) -> None:
    program = NUMPY + BLOCKS[0].replace('budget="30 min"', 'budget="20 epochs"').replace('"val_loss"', '"val_los"')
    (tmp_path / "typo.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "typo.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 1
    assert "'val_los' was not reported by epoch 3" in done.stderr and "Did you mean 'val_loss'?" in done.stderr
