"""Optimisers without a schedule or a rate: the weights that are judged, saved and handed on are the right ones."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest

import foretell as ft
from foretell.errors import CheckpointError
from foretell.lr import warmup
from foretell.lr.cosine import Cosine
from foretell.lr.wsd import WSD
from tests.conftest import needs

torch: Any = pytest.importorskip("torch")
torch_free: Any = pytest.importorskip("foretell.integrations.torch_free")
torch_lr: Any = pytest.importorskip("foretell.integrations.torch_lr")
parameter_free, training = torch_free.parameter_free, torch_free.training
NAMES = {
    "adadelta": "torch", "prodigy": "prodigyopt", "schedulefree_adamw": "schedulefree",
    "schedulefree_radam": "schedulefree", "schedulefree_sgd": "schedulefree",
}  # fmt: skip
AVERAGING = [name for name in NAMES if name.startswith("schedulefree")]
RATE: dict[str, dict[str, float]] = {name: {"lr": 0.05} if name in AVERAGING else {} for name in NAMES}
EPOCHS = 6


def built(name: str, seed: int = 0, *, norm: bool = False, **settings: Any) -> tuple[Any, Any]:
    needs(NAMES[name])
    torch.manual_seed(seed)
    layers = [torch.nn.Linear(3, 5), *([torch.nn.BatchNorm1d(5)] if norm else []), torch.nn.Linear(5, 1)]
    model = torch.nn.Sequential(*layers)
    return model, parameter_free(name, model.parameters(), **settings)


def steps(model: Any, optimizer: Any, epoch: int, count: int = 4) -> None:
    generator = torch.Generator().manual_seed(epoch)
    for _ in range(count):
        x = torch.randn(8, 3, generator=generator)
        optimizer.zero_grad()
        (model(x) - x.sum(1, keepdim=True)).square().mean().backward()
        optimizer.step()


def off(model: Any) -> float:
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        return float((model(x) - x.sum(1, keepdim=True)).square().mean())


def weights(model: Any) -> list[Any]:
    return [tensor.detach().clone() for tensor in model.state_dict().values()]


def same(one: list[Any], other: list[Any]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_each_learns(name: str) -> None:
    model, optimizer = built(name, **RATE[name])
    first = off(model)
    for epoch in range(60):
        with training(model, optimizer):
            steps(model, optimizer, epoch)
    assert off(model) < 0.9 * first


@pytest.mark.parametrize("name", AVERAGING)
def test_outside_of_training_the_weights_are_those_to_be_judged(name: str) -> None:
    model, optimizer = built(name, **RATE[name])
    with training(model, optimizer):
        steps(model, optimizer, 0, count=10)
        assert model.training and optimizer.param_groups[0]["train_mode"]
        trained = weights(model)
        reference = copy.deepcopy((model, optimizer))
    assert not model.training and not optimizer.param_groups[0]["train_mode"]
    reference[1].eval()
    assert same(weights(model), weights(reference[0])) and not same(weights(model), trained)
    with pytest.raises(KeyError), training(model, optimizer):
        raise KeyError
    assert not model.training and not optimizer.param_groups[0]["train_mode"]


def test_other_optimisers_come_to_no_harm() -> None:
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with training(model, optimizer):
        steps(model, optimizer, 0)
        optimizer.state_dict()
        trained = weights(model)
        assert model.training
    assert same(weights(model), trained) and not model.training


def trained(name: str, folder: Path | None, *, dies_in: int | None = None) -> tuple[list[Any], float]:
    """The best weights of a run whose loss is best in the fourth epoch, and what was measured with them there."""
    model, optimizer = built(name, **RATE[name])
    run = ft.Run(minimize="loss", folder=folder, seed=0)
    run.track(model=model, optimizer=optimizer)
    measured = math.nan
    for epoch in run.epochs(EPOCHS):
        with training(model, optimizer):
            steps(model, optimizer, epoch)
        if epoch == dies_in:
            raise KeyError
        if epoch == 3:
            measured = off(model)
        run.report(loss=abs(epoch - 3))
    if not math.isnan(measured):
        assert off(model) == measured
    return weights(model), measured


@pytest.fixture(name="_every_epoch")
def _saved_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foretell._keeper._SHARE", math.inf)


@pytest.mark.usefixtures("_every_epoch")
@pytest.mark.parametrize("name", NAMES)
def test_best_weights_and_resume_to_the_last_bit(name: str, tmp_path: Path) -> None:
    expected, _ = trained(name, None)
    for death in (2, 5):
        with pytest.raises(KeyError):
            trained(name, tmp_path, dies_in=death)
    found, _ = trained(name, tmp_path)
    assert same(found, expected)


@pytest.mark.parametrize("name", AVERAGING)
def test_weights_that_are_not_to_be_judged_are_not_saved(name: str) -> None:
    model, optimizer = built(name)
    run = ft.Run(minimize="loss")
    run.track(model=model, optimizer=optimizer)
    optimizer.train()
    loop = run.epochs(2)
    next(loop)
    steps(model, optimizer, 0)
    run.report(loss=1.0)
    with pytest.raises(CheckpointError, match=r"with training\(model, optimizer\)"):
        next(loop)


# --- batch normalisation ----------------------------------------------------------------------------------------------


def test_statistics_belong_to_the_weights_that_are_judged() -> None:
    model, optimizer = built("schedulefree_sgd", norm=True)
    batches = [torch.randn(16, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    before = torch.get_rng_state()
    with training(model, optimizer, refresh=[(batch, "label") for batch in batches]):
        steps(model, optimizer, 0)
    assert torch.equal(before, torch.get_rng_state())
    inner = torch.stack([model[0](batch).mean(0) for batch in batches]).mean(0)
    assert torch.allclose(model[1].running_mean, inner, atol=1e-6)
    assert model[1].momentum == 0.1 and not model[1].training
    with pytest.raises(ValueError, match="no batch in it"), training(model, optimizer, refresh=[]):
        pass
    assert torch.allclose(model[1].running_mean, inner, atol=1e-6)


def test_it_says_that_statistics_would_be_wrong() -> None:
    model, optimizer = built("schedulefree_sgd", norm=True)
    with pytest.warns(UserWarning, match="batch normalisation"), training(model, optimizer):
        pass


# --- rates ------------------------------------------------------------------------------------------------------------


def test_a_schedule_on_top() -> None:
    _, averaging = built("schedulefree_sgd")
    with pytest.raises(ValueError, match="leave the schedule out"):
        torch_lr.ScheduledLR(averaging, Cosine(1.0, 10))
    _, prodigy = built("prodigy")
    with pytest.warns(UserWarning, match="finds its own rate"):
        torch_lr.ScheduledLR(prodigy, Cosine(1.0, 10))


def test_one_rate_for_all_groups() -> None:
    needs("prodigyopt")
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 1))
    groups = [{"params": [*model[0].parameters()], "lr": 0.1}, {"params": [*model[1].parameters()]}]
    with pytest.raises(ValueError, match=r"groups have 0\.1, 1: give all groups the same"):
        parameter_free("prodigy", groups)
    groups[0]["lr"] = 0.0
    parameter_free("prodigy", groups)
    with pytest.warns(UserWarning, match="leave lr out"):
        parameter_free("prodigy", model.parameters(), lr=0.5)


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="Did you mean 'prodigy'"):
        parameter_free("prodigi", [])
    for name, package in (("prodigy", "prodigyopt"), ("schedulefree_sgd", "schedulefree")):
        monkeypatch.setitem(__import__("sys").modules, package, None)
        with pytest.raises(ModuleNotFoundError, match="pip install schedulefree prodigyopt"):
            parameter_free(name, [torch.nn.Parameter(torch.ones(1))])


# --- a run's schedule -------------------------------------------------------------------------------------------------


def test_a_scheduler_follows_its_run() -> None:
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    run = ft.Run()
    with pytest.raises(TypeError, match=r"run\.schedule = Cosine"):
        torch_lr.ScheduledLR(optimizer, run)
    run.schedule = plan = warmup(2, WSD(0.5, 18))
    scheduler, rates = torch_lr.ScheduledLR(optimizer, run, steps_per_unit=3), []
    for epoch in run.epochs(10):
        if epoch == 5:
            run.schedule = plan.stretch(10)
        for _ in range(3):
            optimizer.step()
            scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [plan(epoch) for epoch in range(1, 6)] + [plan.stretch(10)(epoch) for epoch in range(6, 11)]
