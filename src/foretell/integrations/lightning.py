"""Lightning: one callback, alone as an early stopping, and in a study as the way to its run."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or "lightning" in sys.modules or "pytorch_lightning" not in sys.modules:
    from lightning.pytorch.callbacks import EarlyStopping
else:  # the same library under its older name, whose Trainer knows its own classes only
    from pytorch_lightning.callbacks import EarlyStopping

from foretell.curve import Point
from foretell.errors import MetricError
from foretell.integrations._loop import Loop, lone_run, metric_of, rule_of, without
from foretell.run import Run
from foretell.stopping import StoppingRule, saved
from foretell.stopping.divergence import Divergence
from foretell.stopping.epoch_limit import EpochLimit
from foretell.stopping.threshold import Threshold

__all__ = ["Foretell"]

_ENDLESS = 2**31


# It is an EarlyStopping, so that Lightning calls it when what the module logs at the end of an epoch is there.
class Foretell(EarlyStopping):  # type: ignore[misc,unused-ignore]
    """Ends a fit when going on is not worth it, and leaves module and optimisers as they were at their best.

    Alone it takes the arguments of Lightning's `EarlyStopping`. Given the run of a study, it reports every epoch,
    pauses and resumes, and ends the fit when the study says so. The best weights are back whatever ended it, an
    exception included.

    A check comes with each epoch; where validation runs several times in one (`val_check_interval`), with each
    validation: such a run can be stopped, but not paused. A rule may decide before `min_epochs` and take it back.

    Args:
        run: of a study, or an `ft.Run` of your own; it knows what to watch. None begins a run with each fit.
        monitor: name of the metric to watch; a run knows it by itself.
        min_delta: smallest gain that counts, >= 0.
        patience: checks without improvement that are borne, 0 counts as 1; None is Lightning's 3, or without limit if
            there is a run or a rule. With a run, it comes on top of the run's own rule.
        verbose: whether the verdict is printed.
        mode: "min" or "max"; a run knows it by itself.
        strict: whether a metric that is missing where it is due is an error.
        check_finite: whether NaN and infinity end the fit; otherwise they count as no check at all.
        stopping_threshold: goal, at which the fit ends.
        divergence_threshold: bound, beyond which the fit ends.
        check_on_train_epoch_end: True checks once an epoch even if validation runs more often.
        log_rank_zero_only: whether only rank 0 prints.
        restore_best: whether the best weights are put back; a run knows it by itself.
        stopping: any rule of foretell.
    """

    def __init__(  # noqa: PLR0913 - as many as Lightning's, in its order
        self,
        run: Run | None = None,
        *,
        monitor: str | None = None,
        min_delta: float = 0.0,
        patience: int | None = None,
        verbose: bool = False,
        mode: str = "min",
        strict: bool = True,
        check_finite: bool = True,
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
        check_on_train_epoch_end: bool | None = None,
        log_rank_zero_only: bool = False,
        restore_best: bool = True,
        stopping: StoppingRule | None = None,
    ) -> None:
        metric = metric_of_run(run, monitor)
        super().__init__(
            metric, min_delta, 3 if patience is None else patience, verbose, mode, strict, check_finite,
            stopping_threshold, divergence_threshold, check_on_train_epoch_end, log_rank_zero_only,
        )  # fmt: skip
        self.run, self.restore_best = run, restore_best
        self.rule = rule_of(patience, min_delta, default=3 if run is None else None, stopping=stopping)
        for bound, kind in ((divergence_threshold, Divergence), (stopping_threshold, Threshold)):
            if bound is not None:
                self.rule = kind(bound) if self.rule is None else kind(bound) | self.rule
        self._is_alone = run is None
        self._loop: Loop | None = None
        self._turned = False  # whether an epoch is over whose successor has not begun
        self._seen: dict[str, Any] = {}
        self._measured: set[str] = set()
        self._earlier: list[Point] = []
        self._kept: Any = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """A run of its own, or the given one from where it was."""
        often = trainer.val_check_interval != 1.0 or trainer.check_val_every_n_epoch is None
        self._per_validation = not self._check_on_train_epoch_end and often and trainer.enable_validation
        checks = max(1, int(trainer.num_training_batches // trainer.val_check_batch)) if self._per_validation else 1
        rule = self.rule
        if rule is not None and trainer.fit_loop.min_epochs:
            rule = rule & EpochLimit(trainer.fit_loop.min_epochs * checks)
        if self._is_alone:
            self.run = lone_run(
                self.monitor, is_score=self.mode == "max", stopping=rule, restore_best=self.restore_best,
                earlier=self._earlier, kept=self._kept,
            )  # fmt: skip
        assert self.run is not None
        position = _Position(trainer)
        self.run.track(**_tracked(trainer, pl_module, position))
        self._seen, self._measured, self._turned, self._earlier = dict(trainer.callback_metrics), set(), False, []
        self._kept = None
        self._loop = Loop(
            self.run, _epochs(trainer) * checks, start=trainer.current_epoch * checks,
            stopping=None if self._is_alone else rule, pausable=not self._per_validation,
        )  # fmt: skip
        position.is_live = True
        trainer.should_stop |= self._loop.left

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Between two epochs, when rate schedulers have stepped, the study is heard."""
        assert self._loop is not None
        if self._turned:
            self._turned = False
            self._loop.advance()
        if self._loop.left:
            raise StopIteration  # as Lightning's own loops end: no empty epoch, and whatever min_epochs says

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> Any:
        """Nothing is trained after the study ended the run within an epoch."""
        return -1 if self._loop is not None and self._loop.left else None

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Check, if checks come with epochs."""
        if not self._per_validation:
            every = trainer.check_val_every_n_epoch or 1
            self._check(trainer, not trainer.enable_validation or (trainer.current_epoch + 1) % every == 0)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Check, if checks come with validations."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking and self._per_validation:
            self._check(trainer, True)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Best weights back."""
        loop = self._loop
        assert loop is not None and self.run is not None
        loop.close()
        if self.verbose and (trainer.is_global_zero or not self.log_rank_zero_only):
            print(f"foretell: {self.run.verdict}")
        if self.strict and self._measured and self.monitor and self.monitor not in self._measured:
            raise self._missing()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Best weights back."""
        if self._loop is not None:
            self._loop.close()

    def state_dict(self) -> dict[str, Any]:
        """What was measured, from which a resumed fit takes up its rule; the settings are the program's own."""
        if self.run is None:
            return {}
        curve = [list(point[:3]) for point in self.run.curve]
        return {"curve": curve, "rule": saved(self.run._stopping, self.run._rule_state)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what was measured."""
        self._earlier = [Point(int(step), loss, seconds) for step, loss, seconds in state_dict.get("curve", [])]
        self._kept = state_dict.get("rule")

    def _check(self, trainer: Any, is_due: bool) -> None:
        loop, run = self._loop, self.run
        assert loop is not None and run is not None
        if loop.over:
            return
        # Lightning hands out old values as long as there are no new ones.
        known = dict(trainer.callback_metrics)
        metrics = {name: float(value) for name, value in known.items() if value is not self._seen.get(name)}
        self._seen = known
        self._measured.update(metrics)
        if self.strict and is_due and self.monitor and self.monitor not in known:
            raise self._missing()
        if not self.check_finite and not math.isfinite(metrics.get(self.monitor, 0.0)):
            del metrics[self.monitor]
        if metrics:
            run.report(metrics)
        if self._per_validation or loop.is_last:
            loop.advance()
        else:
            self._turned = True
        if trainer.strategy.reduce_boolean_decision(run.verdict.stop, all=False):
            trainer.should_stop, self.stopped_epoch = True, trainer.current_epoch
            self.stopping_reason_message = str(run.verdict)

    def _missing(self) -> MetricError:
        return without(self.monitor, self._measured, "Log it under this name with self.log, or name another one.")


class _Position:
    """Where the trainer's loops are, in epochs and steps: restored when a run resumes, not with its best weights."""

    def __init__(self, trainer: Any) -> None:
        self.trainer, self.is_live = trainer, False

    def state_dict(self) -> dict[str, int]:
        batches = self.trainer.fit_loop.epoch_loop._batches_that_stepped
        return {"epoch": self.trainer.current_epoch, "step": self.trainer.global_step, "batches": batches}

    def load_state_dict(self, state: dict[str, int]) -> None:
        if self.is_live:
            return
        fit, batch = self.trainer.fit_loop, self.trainer.fit_loop.epoch_loop
        for counts in (fit.epoch_progress.current, fit.epoch_progress.total):
            counts.ready = counts.started = counts.processed = counts.completed = state["epoch"]
        is_automatic = self.trainer.lightning_module.automatic_optimization
        automatic, manual = batch.automatic_optimization.optim_progress, batch.manual_optimization.optim_step_progress
        steps = automatic.optimizer.step.total if is_automatic else manual.total
        steps.ready = steps.completed = state["step"]
        batch._batches_that_stepped = state["batches"]


def metric_of_run(run: Run | None, monitor: str | None) -> str:
    """What is watched; "" for a run that watches nothing."""
    if run is not None and not isinstance(run, Run):
        raise TypeError(f"Foretell({run!r}) is no run: name the metric as monitor={run!r}.")
    if run is None and monitor is None:
        raise MetricError("Foretell() has nothing to watch: give it monitor='val_loss', or the run of a study.")
    if run is not None and monitor not in (None, metric_of(run)):
        raise MetricError(f"The run watches {metric_of(run)!r}, and not {monitor!r}: leave monitor= out.")
    return monitor or (metric_of(run) if run is not None else None) or ""


def _tracked(trainer: Any, pl_module: Any, position: _Position) -> dict[str, Any]:
    objects = {"model": pl_module, "position": position}
    schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
    for name, members in (("optimizer", trainer.optimizers), ("scheduler", schedulers)):
        objects |= {f"{name}{index or ''}": member for index, member in enumerate(members)}
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return objects | ({"scaler": scaler} if scaler is not None else {})


def _epochs(trainer: Any) -> int:
    """Of the full training: by `max_epochs` or `max_steps`, whichever comes first."""
    epochs = trainer.max_epochs if trainer.max_epochs not in (None, -1) else _ENDLESS
    if trainer.max_steps == -1 or not 0 < trainer.num_training_batches < math.inf:
        return int(epochs)
    return int(
        min(epochs, math.ceil(trainer.max_steps * trainer.accumulate_grad_batches / trainer.num_training_batches))
    )
