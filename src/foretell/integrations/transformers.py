"""Hugging Face transformers: one callback for the Trainer, alone as an early stopping, and in a study."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Self

from transformers import TrainerCallback

from foretell.curve import Point
from foretell.errors import MetricError
from foretell.integrations._loop import Loop, lone_run, metric_of, rule_of, without
from foretell.run import Run
from foretell.stopping import StoppingRule

__all__ = ["Foretell"]

_PREFIX = "eval_"


class Foretell(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Ends a training when going on is not worth it, and leaves model and optimiser as they were at their best.

    Alone it takes the arguments of `EarlyStoppingCallback`, and watches `metric_for_best_model` (the loss, if none is
    named); neither `load_best_model_at_end` nor saving is needed. Given the run of a study, it reports every
    evaluation, pauses and resumes, and ends the training when the study says so.

    With `eval_strategy="epoch"` a check comes with each epoch. With "steps" it comes with each evaluation, and what
    foretell calls an epoch is an evaluation: such a run can be stopped, but not paused.

    The best weights are back after `train`; after an exception or Ctrl-C too, if used as a context:
    `with Foretell(early_stopping_patience=3) as stopper: Trainer(..., callbacks=[stopper]).train()`.

    Args:
        run: of a study, or an `ft.Run` of your own; it knows what to watch. None begins a run with each training.
        early_stopping_patience: evaluations without improvement that are borne, 0 counts as 1; None is transformers' 1,
            or without limit if there is a run or a rule. With a run, it comes on top of the run's own rule.
        early_stopping_threshold: smallest gain that counts, >= 0; many small ones add up.
        restore_best: whether the best weights are put back; a run knows it by itself.
        stopping: any rule of foretell.
    """

    def __init__(
        self,
        run: Run | None = None,
        *,
        early_stopping_patience: int | None = None,
        early_stopping_threshold: float = 0.0,
        restore_best: bool = True,
        stopping: StoppingRule | None = None,
    ) -> None:
        if run is not None and not isinstance(run, Run):
            raise TypeError(f"Foretell({run!r}) is no run: give the patience as early_stopping_patience={run!r}.")
        default = 1 if run is None else None
        self.rule = rule_of(early_stopping_patience, early_stopping_threshold, default=default, stopping=stopping)
        self.run, self.restore_best = run, restore_best
        self._is_alone = run is None
        self._metric: str | None = None
        self._loop: Loop | None = None
        self._waiting: dict[str, float] = {}  # measured at this check, before what is watched
        self._begun = self._checked = -1  # global steps

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._loop is not None:
            self._loop.close()

    def on_train_begin(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        """A run of its own, or the given one from where it was."""
        if args.eval_strategy == "no":
            raise MetricError("The Trainer never evaluates, so there is nothing to watch: set eval_strategy='epoch'.")
        by_steps, earlier = args.eval_strategy == "steps", []
        if self._is_alone:
            self._metric = args.metric_for_best_model or "loss"
            earlier = list(_measured(state, _full(self._metric), bool(args.greater_is_better), by_steps))
            self.run = lone_run(
                self._metric, is_score=bool(args.greater_is_better), stopping=self.rule, earlier=earlier,
                restore_best=self.restore_best,
            )  # fmt: skip
        run = self.run
        assert run is not None
        self._metric = metric_of(run)
        position = _Position(state)
        run.track(
            model=objects["model"], optimizer=objects["optimizer"], scheduler=objects["lr_scheduler"], position=position
        )
        self._loop = Loop(
            run, _checks(args, state) if by_steps else _epochs(args, state),
            start=len(earlier) if by_steps else round(state.epoch or 0),
            stopping=None if self._is_alone else self.rule, pausable=not by_steps,
        )  # fmt: skip
        position.is_live = True
        self._shift = run.step if run.resumed else 0
        _shift_seeds(objects.get("train_dataloader"), self._shift)
        self._waiting, self._begun, self._checked = {}, state.global_step, -1
        control.should_training_stop |= self._loop.over

    def on_step_begin(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        """An evaluation is over, if there was one."""
        self._require_all()

    def on_step_end(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        """The Trainer counts the epochs of a resumed run from 0."""
        state.epoch += self._shift

    def on_epoch_end(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        """An epoch without an evaluation (`eval_delay`) is one all the same."""
        if args.eval_strategy == "epoch" and not control.should_evaluate:
            self._advance(control)

    def on_evaluate(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        """Report, and go on or not."""
        loop, run, metrics = self._loop, self.run, objects["metrics"]
        if loop is None or run is None or loop.over or state.global_step in (self._begun, self._checked):
            return  # not within the training, or before its first step, or another data set behind the one watched
        found = {name: float(value) for name, value in metrics.items() if isinstance(value, int | float)}
        if self._metric is not None and self._metric not in found and _full(self._metric) in found:
            found[self._metric] = found.pop(_full(self._metric))  # as `metric_for_best_model` may be written
        self._waiting |= found
        if self._metric is None or self._metric in found:
            waiting, self._waiting, self._checked = self._waiting, {}, state.global_step
            run.report(waiting)
            self._advance(control)
        elif _PREFIX + "runtime" in metrics:  # so it is the only data set that is evaluated
            self._require_all()

    def on_train_end(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        """Best weights back."""
        if self._loop is not None:
            self._loop.close()
        self._require_all()

    def _advance(self, control: Any) -> None:
        assert self._loop is not None
        if not self._loop.over and not self._loop.advance():
            control.should_training_stop = True

    def _require_all(self) -> None:
        if self._waiting and self._metric is not None:
            cure = "Name one of them as metric_for_best_model (or in the study), or return it from compute_metrics."
            raise without(self._metric, self._waiting, cure)


class _Position:
    """The Trainer's count of steps; restored when a run resumes, but not with its best weights."""

    def __init__(self, state: Any) -> None:
        self.state, self.is_live = state, False

    def state_dict(self) -> dict[str, int]:
        return {"global_step": self.state.global_step}

    def load_state_dict(self, saved: dict[str, int]) -> None:
        if not self.is_live:
            self.state.global_step = saved["global_step"]


def _full(metric: str) -> str:
    return metric if metric.startswith(_PREFIX) else _PREFIX + metric


def _epochs(args: Any, state: Any) -> int:
    return int(state.num_train_epochs) if state.num_train_epochs else math.ceil(args.num_train_epochs)


def _checks(args: Any, state: Any) -> int:
    """Evaluations of the full training: one every `eval_steps`, from `eval_delay` on, and one at the end."""
    steps, every = int(state.max_steps), int(state.eval_steps)
    before = max(math.ceil(float(args.eval_delay) / every) - 1, 0)
    return max(math.ceil(steps / every) - before, 0)


def _measured(state: Any, metric: str, is_score: bool, by_steps: bool) -> Iterator[Point]:
    """What the Trainer's own history knows of a training that it resumed."""
    entries = [entry for entry in state.log_history if metric in entry]
    for count, entry in enumerate(entries, start=1):
        value = float(entry[metric])
        yield Point(count if by_steps else round(entry["epoch"]), -value if is_score else value, 0.0)


def _shift_seeds(batches: Any, epochs: int) -> None:
    """Samplers shuffle by their seed plus the number of the epoch, which the Trainer counts from 0 again."""
    found = (batches, getattr(batches, "sampler", None), getattr(batches, "batch_sampler", None))
    samplers = {id(one): one for owner in found for one in (owner, getattr(owner, "sampler", None))}
    for sampler in samplers.values():
        for name in ("initial_seed", "seed"):
            if isinstance(getattr(sampler, name, None), int):
                setattr(sampler, name, getattr(sampler, name) + epochs)
