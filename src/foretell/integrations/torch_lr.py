"""PyTorch: any schedule or adaptive rate on an optimiser, and the learning-rate range test of a model."""

from __future__ import annotations

import copy
import math
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from foretell import adapters
from foretell.integrations._torch_free import require_scheduled
from foretell.lr import AdaptiveRate, LRSchedule, Rates
from foretell.lr.gradient_norm import GradientNorm
from foretell.lr.range_test import RangeTest, analyse
from foretell.run import Run

__all__ = ["ScheduledLR", "lr_range_test"]

_BLOWN_UP = 4.0  # times the best loss, or the fall, at which a range test ends
_SMOOTHING = 0.9
_under_test: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()


class ScheduledLR(torch.optim.lr_scheduler.LRScheduler):
    """Applies a schedule or an adaptive rate to an optimiser, as any scheduler of PyTorch does.

    The first parameter group gets the rate, and the others keep the ratio to it that they had at the start; where a
    group has an `lr_scale` (timm's layer decay), its rate is multiplied by it.

    With `Plateau` or `Greedy`, call `step(loss)`. With `GradientNorm` the norm of all gradients is taken by itself just
    before each `optimizer.step()`, thus behind a GradScaler's unscaling, and behind clipping if there is any.

    Args:
        optimizer: its groups' rates are the ratios.
        rate: a schedule, an adaptive rate, or a `Run` whose `schedule` is set, and which may be set
            anew at any time.
        steps_per_unit: calls of `step()` in one step of the schedule, > 0: 1, or the batches of an epoch if the
            schedule counts epochs and `step()` is called after every batch.
        last_epoch: number of the last step, as in PyTorch.

    Raises:
        TypeError: `rate` is none of these.
        ValueError: the first group's rate is 0, so that there are no ratios to it; or the optimiser does without a
            schedule, as those of `schedulefree` do.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        rate: LRSchedule | AdaptiveRate | Run,
        *,
        steps_per_unit: float = 1.0,
        last_epoch: int = -1,
    ) -> None:
        self._given = rate
        adaptive = all(hasattr(self.rate, name) for name in ("init", "update", "rate"))
        if isinstance(rate, Run) and rate.schedule is None:
            raise TypeError("The run has no schedule to follow: say run.schedule = Cosine(0.1, 90) first.")
        if isinstance(self.rate, type) or not (adaptive or isinstance(self.rate, Rates)):
            raise TypeError(f"{self.rate!r} is neither a schedule nor an adaptive rate: use e.g. Cosine(0.1, 90).")
        if not steps_per_unit > 0:
            raise ValueError(f"steps_per_unit={steps_per_unit} must be above 0.")
        require_scheduled(optimizer)
        self.steps_per_unit = steps_per_unit
        self.state: dict[str, Any] | None = self.rate.init() if adaptive else None
        self._made = False
        super().__init__(optimizer, last_epoch)
        self._made = True
        if isinstance(rate, GradientNorm):
            _watch_gradients(self)

    @property
    def rate(self) -> Any:
        """The schedule or adaptive rate, which may be planned anew; that of the run, as it is now, if one was given."""
        return self._given.schedule if isinstance(self._given, Run) else self._given

    @rate.setter
    def rate(self, rate: LRSchedule | AdaptiveRate | Run) -> None:
        self._given = rate

    def step(self, signal: float | torch.Tensor | None = None) -> None:
        """One step on; for `Plateau` and `Greedy` with the loss (of a score that is to grow, its negative)."""
        if self._made and self.state is not None and not isinstance(self.rate, GradientNorm):
            if signal is None:
                raise ValueError(f"{type(self.rate).__name__} follows the loss: call scheduler.step(loss).")
            value = signal.detach() if isinstance(signal, torch.Tensor) else signal
            self.state = self.rate.update(self.state, float(value))
        elif signal is not None:
            raise ValueError(f"{type(self.rate).__name__} looks at no loss: call scheduler.step().")
        super().step()

    def get_lr(self) -> list[float | torch.Tensor]:
        """The rates of all groups at the current step."""
        now = self.rate(max(self.last_epoch, 0) / self.steps_per_unit) if self.state is None else self._adapted()
        return [now * ratio for ratio in _ratios(self.optimizer)]

    def observe(self, signal: float) -> None:
        """Show an adaptive rate one signal and set the rates at once; `GradientNorm` is shown its own by itself."""
        assert self.state is not None
        self.state = self.rate.update(self.state, signal)
        self._apply()

    def state_dict(self) -> dict[str, Any]:
        """Position and state; the settings are the program's own."""
        return {"last_epoch": self.last_epoch, "step_count": self._step_count, "state": copy.deepcopy(self.state)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a position, and set the rates that belong to it."""
        self.last_epoch, self._step_count = state_dict["last_epoch"], state_dict["step_count"]
        self.state = copy.deepcopy(state_dict["state"])
        self._apply()

    def _adapted(self) -> float:
        assert self.state is not None
        return float(self.rate.rate(self.state))

    def _apply(self) -> None:
        rates = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            _set_rate(group, float(lr))
        self._last_lr = rates


def lr_range_test(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: Callable[[torch.nn.Module, Any], torch.Tensor],
    batches: Iterable[Any],
    *,
    between: tuple[float, float] = (1e-7, 10.0),
    steps: int = 100,
    scaler: torch.amp.GradScaler | None = None,
) -> RangeTest:
    """Train a few batches with growing rates and read off which are worth trying; then put everything back.

    Put back are weights, buffers (those of batch normalisation too), gradients, the optimiser, the scaler, all random
    numbers, and the position in the data. The model is used in the mode it is in; groups keep their ratios.

    Args:
        model: on the device of the batches.
        optimizer: of the model's parameters.
        loss_fn: (model, batch) -> scalar loss; with autocast inside, if it is used.
        batches: a DataLoader, or anything that can be read from its start again and again.
        between: the first rate, > 0, and the last, which is larger.
        steps: how many rates, >= 20.
        scaler: the GradScaler, if one is used.

    Raises:
        ValueError: `batches` is an iterator, which could not be put back, or the range makes no sense.
    """
    if isinstance(batches, Iterator) and not hasattr(batches, "load_state_dict"):
        raise ValueError("batches is an iterator, and what it gave is gone: pass the DataLoader or the list itself.")
    low, high = between
    if not (0 < low < high < math.inf and steps >= 20):
        raise ValueError(f"between={between}, steps={steps}: take rates above 0, the larger last, and 20 or more.")
    lrs = [low * (high / low) ** (index / (steps - 1)) for index in range(steps)]
    with _put_back(model, optimizer, batches, scaler):
        losses = list(_losses(model, optimizer, loss_fn, batches, lrs, scaler))
    return analyse(lrs[: len(losses)], losses)


def _losses(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss_fn: Callable[[torch.nn.Module, Any], torch.Tensor],
    batches: Iterable[Any], lrs: list[float], scaler: torch.amp.GradScaler | None,
) -> Iterator[float]:  # fmt: skip
    ratios, data = _ratios(optimizer), _endless(batches)
    mean, first, best = 0.0, None, math.inf
    for count, lr in enumerate(lrs, start=1):
        for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
            _set_rate(group, lr * ratio)
        optimizer.zero_grad()
        loss = loss_fn(model, next(data))
        value = float(loss.detach())
        yield value
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * value
        smoothed = mean / (1 - _SMOOTHING**count)
        first, best = smoothed if first is None else first, min(best, smoothed)
        if not math.isfinite(value) or smoothed > best + (_BLOWN_UP - 1) * max(abs(best), first - best):
            return
        (loss if scaler is None else scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()


@contextmanager
def _put_back(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, batches: Any, scaler: torch.amp.GradScaler | None
) -> Iterator[None]:
    # Not through state_dict: it leaves buffers out, and loading one rounds moments to the type of their parameter.
    grouped = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    tensors = {id(t): t for t in (*model.parameters(), *model.buffers(), *grouped)}.values()
    values = [(tensor, tensor.detach().clone(), tensor.grad) for tensor in tensors]
    groups = [{key: value for key, value in group.items() if key != "lr"} for group in _groups(optimizer)]
    rates = [copy.deepcopy(group["lr"]) for group in _groups(optimizer)]
    moments, owned = optimizer.state, [g for g in _generators(batches) if g is not None]
    randoms = [(adapter, adapter.rng_state()) for adapter in adapters.active()]
    streams = [(generator, generator.get_state()) for generator in owned]
    position = batches.state_dict() if hasattr(batches, "load_state_dict") else None
    scale = copy.deepcopy(scaler.state_dict()) if scaler is not None else None
    optimizer.state = defaultdict(dict, {key: copy.deepcopy(value) for key, value in moments.items()})
    for tensor, _, _ in values:
        tensor.grad = None
    _under_test.add(optimizer)
    try:
        yield
    finally:
        _under_test.discard(optimizer)
        optimizer.state = moments
        for group, settings, lr in zip(_groups(optimizer), groups, rates, strict=True):
            _set_rate(group, lr)
            settings["lr"] = group["lr"]
            group.clear()
            group.update(settings)
        with torch.no_grad():
            for tensor, value, gradient in values:
                tensor.copy_(value)
                tensor.grad = gradient
        if scaler is not None:
            scaler.load_state_dict(scale)  # type: ignore[arg-type]
        if position is not None:
            batches.load_state_dict(position)
        for adapter, state in randoms:
            if state is not None:
                adapter.set_rng_state(state)
        for generator, state in streams:
            generator.set_state(state)


def _groups(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    return optimizer.param_groups


def _generators(batches: Any) -> Iterator[torch.Generator | None]:
    """The random numbers that a DataLoader shuffles by."""
    for owner in (batches, getattr(batches, "sampler", None), getattr(batches, "batch_sampler", None)):
        yield getattr(owner, "generator", None)


def _endless(batches: Iterable[Any]) -> Iterator[Any]:
    while True:
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty:
            raise ValueError("batches has no batch in it: see whether the data set is empty.")


def _ratios(optimizer: torch.optim.Optimizer) -> list[float]:
    """Each group's rate over the first one's, as they were at the start, and times its `lr_scale`."""
    base = [float(group.setdefault("initial_lr", copy.deepcopy(group["lr"]))) for group in _groups(optimizer)]
    if base[0] <= 0:
        raise ValueError("The first parameter group has a rate of 0, so no rate is a multiple of it: give it 1.0.")
    scales = [float(group.get("lr_scale", 1.0)) for group in _groups(optimizer)]
    return [lr / base[0] * scale for lr, scale in zip(base, scales, strict=True)]


def _set_rate(group: dict[str, Any], lr: float | torch.Tensor) -> None:
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].fill_(lr)  # capturable optimisers hold on to the tensor itself
    else:
        group["lr"] = lr


def _watch_gradients(scheduler: ScheduledLR) -> None:
    """Show the squared norm of all gradients to the rate just before each step of its optimiser."""
    weak = weakref.ref(scheduler)

    def before(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        living = weak()
        if living is None or optimizer in _under_test:
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        # A fused optimiser unscales within its step: a GradScaler hands it the scale instead.
        scale = getattr(optimizer, "grad_scale", None)
        norm = norm if scale is None else norm / float(scale)
        living.observe(norm * norm)

    scheduler.optimizer.register_step_pre_hook(before)
