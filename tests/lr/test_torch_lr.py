"""Schedules on PyTorch's optimisers, and the range test that leaves no trace."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from foretell.lr import LRSchedule, warmup
from foretell.lr.constant import Constant
from foretell.lr.cosine import Cosine
from foretell.lr.gradient_norm import GradientNorm
from foretell.lr.greedy import Greedy
from foretell.lr.one_cycle import OneCycle
from foretell.lr.plateau import Plateau
from foretell.lr.step import Step

torch = pytest.importorskip("torch")
torch_lr = pytest.importorskip("foretell.integrations.torch_lr")
ScheduledLR, lr_range_test = torch_lr.ScheduledLR, torch_lr.lr_range_test
nn, optim = torch.nn, torch.optim

SCHEDULES = [Cosine(0.1, 12), warmup(3, Step(0.1, 4)), OneCycle(0.1, 12)]
RATES = [
    *SCHEDULES, Plateau(0.1, 0.5, patience=1), Greedy(0.1, 1.0, factor=0.5, patience=1), GradientNorm(0.1, 0.01),
    GradientNorm(0.5, 0.5, reading="accumulated", power=0.5),
]  # fmt: skip


def net(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))


def made(model: Any, kind: Callable[..., Any] = optim.SGD, **settings: Any) -> Any:
    """Two groups, the second at a tenth of the first one's rate."""
    second = [*model[1].parameters(), *model[4].parameters()]
    return kind([{"params": model[0].parameters()}, {"params": second, "lr": 0.02}], **{"lr": 0.2, **settings})


def rates(optimizer: Any) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def train(model: Any, optimizer: Any, scheduler: Any, steps: range) -> list[list[float]]:
    """The rates of both groups in each step."""
    follows_loss = isinstance(scheduler.rate, Plateau | Greedy)
    found = []
    for step in steps:
        torch.manual_seed(step)
        x = torch.randn(16, 4)
        optimizer.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        found.append(rates(optimizer))
        scheduler.step(*([loss] if follows_loss else []))
    return found


# ---------------------------------------------------------------------- schedules on an optimiser


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_the_first_group_has_the_rate_and_the_others_their_ratio(schedule: LRSchedule) -> None:
    model = net()
    optimizer = made(model)
    found = train(model, optimizer, ScheduledLR(optimizer, schedule), range(15))
    assert found == [pytest.approx([schedule(step), schedule(step) / 10], abs=1e-12) for step in range(15)]


def test_it_is_torch_s_own_cosine() -> None:
    ours, theirs = net(), net()
    for model, make in ((ours, lambda o: ScheduledLR(o, Cosine(0.2, 12, after="climb"))),
                        (theirs, lambda o: optim.lr_scheduler.CosineAnnealingLR(o, 12))):  # fmt: skip
        optimizer = made(model)
        scheduler = make(optimizer)
        scheduler.rate = getattr(scheduler, "rate", None)
        train(model, optimizer, scheduler, range(15))
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=1e-6)


def test_timm_s_layer_decay_is_honoured() -> None:
    model = net()
    decayed = {"params": model[0].parameters(), "lr_scale": 0.25}
    optimizer = optim.SGD([decayed, {"params": model[4].parameters()}], lr=0.2)
    ScheduledLR(optimizer, Constant(0.1))
    assert rates(optimizer) == pytest.approx([0.025, 0.1])


def test_a_schedule_in_epochs_is_stepped_by_batches() -> None:
    model = net()
    optimizer = made(model)
    found = train(model, optimizer, ScheduledLR(optimizer, Cosine(0.1, 3), steps_per_unit=4), range(12))
    assert [one[0] for one in found] == pytest.approx([Cosine(0.1, 3)(step / 4) for step in range(12)])


def test_a_tensor_rate_is_filled_in_place() -> None:
    model = net()
    held = torch.tensor(0.5)
    optimizer = optim.AdamW(model.parameters(), lr=held, capturable=False, foreach=False)
    scheduler = ScheduledLR(optimizer, Step(0.1, 1))
    optimizer.step()
    scheduler.step()
    scheduler.load_state_dict(scheduler.state_dict())
    assert optimizer.param_groups[0]["lr"] is held and float(held) == pytest.approx(0.01)


@pytest.mark.parametrize("rate", RATES, ids=repr)
def test_resumed_at_any_step_it_goes_on_as_before(rate: Any) -> None:
    model = net()
    optimizer = made(model)
    whole = train(model, optimizer, ScheduledLR(optimizer, rate), range(10))
    for cut in (0, 1, 4, 9):
        model = net()
        optimizer = made(model)
        scheduler = ScheduledLR(optimizer, rate)
        begun = train(model, optimizer, scheduler, range(cut))
        saved = json.loads(json.dumps(scheduler.state_dict()))
        second = net()
        second.load_state_dict(model.state_dict())
        again = made(second)
        again.load_state_dict(optimizer.state_dict())
        later = ScheduledLR(again, rate)
        later.load_state_dict(saved)
        assert rates(again) == rates(optimizer)
        assert begun + train(second, again, later, range(cut, 10)) == whole


def test_a_group_may_come_later() -> None:
    model = net()
    optimizer = optim.SGD(model[0].parameters(), lr=0.2)
    scheduler = ScheduledLR(optimizer, Constant(0.1))
    optimizer.add_param_group({"params": model[4].parameters(), "lr": 0.02})
    optimizer.step()
    scheduler.step()
    assert rates(optimizer) == pytest.approx([0.1, 0.01])


# ---------------------------------------------------------------------- adaptive rates


@pytest.mark.parametrize("reading", ["batch", "accumulated"])
@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam])
def test_the_norm_is_that_of_all_gradients_of_this_step(reading: str, kind: Any) -> None:
    model, rule = net(), GradientNorm(0.1, 0.5, reading=reading)
    optimizer = made(model, kind)
    scheduler, state = ScheduledLR(optimizer, rule), rule.init()
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(16, 4)).square().mean().backward()
        state = rule.update(state, sum(float(p.grad.double().square().sum()) for p in model.parameters()))
        optimizer.step()
        assert rates(optimizer) == pytest.approx([rule.rate(state), rule.rate(state) / 10], rel=1e-5)
        scheduler.step()
        assert scheduler.get_last_lr() == rates(optimizer)


def test_the_rate_is_the_one_that_the_step_is_made_with() -> None:
    weight = nn.Parameter(torch.tensor([3.0]))
    optimizer = optim.SGD([weight], lr=1.0)
    scheduler = ScheduledLR(optimizer, GradientNorm(0.5, 1.0))
    (2 * weight).sum().backward()
    optimizer.step()
    scheduler.step()
    assert weight.item() == pytest.approx(3 - 2 * 0.5 / (1 + 4 / 0.25))


@pytest.mark.parametrize("fused", [False, True])
def test_a_scaled_gradient_is_unscaled_first(fused: bool) -> None:
    found = []
    for scale in (1.0, 1024.0):
        weight = nn.Parameter(torch.tensor([3.0]))
        optimizer = optim.SGD([weight], lr=1.0, fused=fused)
        scheduler = ScheduledLR(optimizer, GradientNorm(0.5, 1.0))
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        scaler.scale((2 * weight).sum()).backward()
        scaler.step(optimizer)
        scheduler.step()
        found.append(rates(optimizer)[0])
    assert found == pytest.approx([0.5 / 17, 0.5 / 17])


def test_plateau_follows_the_loss() -> None:
    optimizer = optim.SGD(net().parameters(), lr=1.0)
    scheduler = ScheduledLR(optimizer, Plateau(0.4, 0.5, patience=1))
    found = []
    for loss in (1.0, 0.9, 0.9, torch.tensor(0.9), 0.9, math.nan):
        optimizer.step()
        scheduler.step(loss)
        found += rates(optimizer)
    assert found == [0.4, 0.4, 0.4, 0.2, 0.2, 0.1]


def test_what_step_is_given() -> None:
    optimizer = optim.SGD(net().parameters(), lr=1.0)
    with pytest.raises(ValueError, match=r"scheduler\.step\(loss\)"):
        ScheduledLR(optimizer, Plateau(0.4)).step()
    with pytest.raises(ValueError, match=r"scheduler\.step\(\)"):
        ScheduledLR(optimizer, Cosine(0.4, 3)).step(1.0)


@pytest.mark.parametrize("rate", [None, 0.1, Cosine, lambda step: 0.1])
def test_what_is_no_rate(rate: Any) -> None:
    with pytest.raises(TypeError, match="neither a schedule nor"):
        ScheduledLR(optim.SGD(net().parameters(), lr=1.0), rate)


def test_ratios_need_a_rate() -> None:
    with pytest.raises(ValueError, match="rate of 0"):
        ScheduledLR(optim.SGD(net().parameters(), lr=0.0), Constant(0.1))
    with pytest.raises(ValueError, match="steps_per_unit=0"):
        ScheduledLR(optim.SGD(net().parameters(), lr=0.1), Constant(0.1), steps_per_unit=0)


# ---------------------------------------------------------------------- the range test


def data(shuffled: bool = True) -> Any:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(320, 4, generator=generator)
    pairs = torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True))
    return torch.utils.data.DataLoader(pairs, batch_size=32, shuffle=shuffled, generator=generator)


def loss_of(model: Any, batch: Any) -> Any:
    np.random.random(), random.random()  # the user's own, which must be put back too
    return (model(batch[0]) - batch[1]).square().mean()


def everything(model: Any, optimizer: Any, loader: Any, scaler: Any) -> Any:
    groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    moments = [optimizer.state.get(p) for p in model.parameters()]
    randoms = [torch.get_rng_state(), loader.generator.get_state(), repr(np.random.get_state()), random.getstate()]
    return copy.deepcopy(
        [[*model.state_dict().items()], groups, gradients, moments, randoms, scaler.state_dict() if scaler else None]
    )


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("kind", [optim.SGD, optim.AdamW])
def test_nothing_is_left_of_a_range_test(kind: Any, warm: bool, scaled: bool) -> None:
    model, loader = net(), data()
    optimizer = made(model, kind)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=2) if scaled else None
    if warm:  # in the middle of a training: moments, gradients and a scheduler are there
        ScheduledLR(optimizer, GradientNorm(0.1, 0.1, reading="accumulated"))
        for batch in loader:
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()
    before = everything(model, optimizer, loader, scaler)
    found = lr_range_test(model, optimizer, loss_of, loader, steps=40, scaler=scaler)
    assert same(before, everything(model, optimizer, loader, scaler))
    assert len(found.lrs) >= 20


def test_it_finds_a_rate_that_trains() -> None:
    model, loader = net(), data()
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    found = lr_range_test(model, optimizer, loss_of, loader, between=(1e-5, 10.0), steps=100)
    assert found.lr is not None and 1e-3 < found.lr < 1

    def after(lr: float) -> float:
        model = net()
        optimizer = optim.SGD(model.parameters(), lr=lr)
        for batch in [*loader] * 3:
            optimizer.zero_grad()
            loss = loss_of(model, batch)
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    assert after(found.lr) < after(found.lr / 100) and not after(found.lr) > after(found.lr * 100)


def test_a_training_after_a_range_test_is_the_same_as_without() -> None:
    ends = []
    for tested in (False, True):
        model, loader = net(), data()
        optimizer = made(model, optim.Adam)
        scheduler = ScheduledLR(optimizer, GradientNorm(0.1, 0.01, reading="accumulated"))
        if tested:
            lr_range_test(model, optimizer, loss_of, loader, steps=30)
        for batch in loader:
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()
            scheduler.step()
        ends.append([*model.state_dict().values()])
    assert same(*ends)


def test_an_exception_in_a_range_test_leaves_nothing_either() -> None:
    model, loader = net(), data()
    optimizer = made(model)
    before, calls = everything(model, optimizer, loader, None), iter(range(30))

    def broken(model: Any, batch: Any) -> Any:
        if next(calls) == 7:
            raise RuntimeError("out of memory")
        return loss_of(model, batch)

    with pytest.raises(RuntimeError, match="out of memory"):
        lr_range_test(model, optimizer, broken, loader)
    assert same(before, everything(model, optimizer, loader, None))


def test_groups_keep_their_ratios_while_rates_grow() -> None:
    model, seen = net(), []
    optimizer = made(model)
    optimizer.register_step_pre_hook(lambda *_: seen.append(rates(optimizer)))
    found = lr_range_test(model, optimizer, loss_of, data(), between=(1e-5, 1e-2), steps=25)
    grown = np.geomspace(1e-5, 1e-2, 25)
    assert found.lrs == pytest.approx(grown)
    assert np.array(seen) == pytest.approx(np.stack([grown, grown / 10], axis=1))


def test_it_ends_when_the_loss_blows_up() -> None:
    model = net()
    found = lr_range_test(model, made(model), loss_of, data(), between=(1e-4, 1e6), steps=60)
    assert 20 <= len(found.lrs) < 60


def test_what_it_refuses() -> None:
    model = net()
    optimizer = made(model)
    with pytest.raises(ValueError, match="is an iterator"):
        lr_range_test(model, optimizer, loss_of, iter(data()))
    with pytest.raises(ValueError, match="no batch in it"):
        lr_range_test(model, optimizer, loss_of, [])
    for wrong in ((0.0, 1.0), (1.0, 0.1), (0.1, math.inf)):
        with pytest.raises(ValueError, match="between="):
            lr_range_test(model, optimizer, loss_of, data(), between=wrong)
    with pytest.raises(ValueError, match="steps=5"):
        lr_range_test(model, optimizer, loss_of, data(), steps=5)
