"""Keras 3 on any back end: one callback, alone as an early stopping, and in a study as the way to its run."""

from __future__ import annotations

from typing import Any, Self

import keras

from foretell.errors import CheckpointError, MetricError, ReportError
from foretell.integrations._keras_state import ADAPTER
from foretell.integrations._loop import Loop, lone_run, metric_of, rule_of, without
from foretell.run import Run
from foretell.stopping import StoppingRule

__all__ = ["ADAPTER", "Foretell"]

_GROWS = {"accuracy": True, "acc": True, "crossentropy": False, "ce": False}  # what `compile` turns into other names


class Foretell(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Ends `fit` when going on is not worth it, and leaves the model and its optimiser as they were at their best.

    Alone it takes the arguments of `keras.callbacks.EarlyStopping`. Given the run of a study, it reports every epoch,
    pauses and resumes, and ends `fit` when the study says so.

    The best weights are back after `fit`, whatever ended it; after an exception or Ctrl-C if used as a context:
    `with Foretell(patience=5) as stopper: model.fit(..., callbacks=[stopper])`.

    Args:
        run: of a study, or an `ft.Run` of your own; it knows what to watch. None begins a run with each `fit`.
        monitor: name of the metric to watch; None is the run's, or else "val_loss".
        min_delta: smallest gain that counts, >= 0.
        patience: checks without improvement that are borne; None is Keras' 0 (which counts as 1), or without limit if
            there is a run or a rule. With a run, it comes on top of the run's own rule.
        verbose: above 0, the verdict is printed.
        mode: "min", "max", or "auto" to ask the metric.
        baseline: value to be beaten.
        restore_best_weights: whether the best weights are put back; a run knows it by itself.
        start_from_epoch: epochs of which no rule sees anything.
        stopping: any rule of foretell, e.g. `ft.Threshold(0.01)` or `ft.PatienceLike("keras", patience=5)`.
    """

    def __init__(  # noqa: PLR0913 - as many as Keras', in its order
        self,
        run: Run | None = None,
        *,
        monitor: str | None = None,
        min_delta: float = 0.0,
        patience: int | None = None,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = True,
        start_from_epoch: int = 0,
        stopping: StoppingRule | None = None,
    ) -> None:
        super().__init__()
        if run is not None and not isinstance(run, Run):
            raise TypeError(f"Foretell({run!r}) is no run: name the metric as monitor={run!r}.")
        if run is not None and monitor not in (None, metric_of(run)):
            raise MetricError(f"The run watches {metric_of(run)!r}, and not {monitor!r}: leave monitor= out.")
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"Foretell(mode={mode!r}) is 'auto', 'min' or 'max'.")
        self.monitor = (monitor or "val_loss") if run is None else metric_of(run)
        self.mode, self.verbose, self.restore_best_weights = mode, verbose, restore_best_weights
        self.rule = rule_of(
            patience, abs(min_delta), default=0 if run is None else None, stopping=stopping, baseline=baseline,
            warmup=start_from_epoch,
        )  # fmt: skip
        self.run = run
        self._is_alone = run is None
        self._loop: Loop | None = None
        self._names: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """A run of its own, or the given one from where it was."""
        self._names = set()
        if self._is_alone:
            assert self.monitor is not None
            is_score = _is_score(self.model, self.monitor, self.mode)
            self.run = lone_run(
                self.monitor, is_score=is_score, stopping=self.rule, restore_best=self.restore_best_weights
            )
            self._loop = None  # begins with the first epoch's end: by then every model has its weights
            return
        if not self.model.built:
            raise CheckpointError(
                "The model has no weights yet, which could be restored: give it an Input, or call model.build(shape)."
            )
        self._begin(0, self.rule)
        assert self._loop is not None
        self.model._initial_epoch = self.params["epochs"] if self._loop.over else self._loop.epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Report, and go on or not."""
        if self._loop is None:
            self._begin(epoch, None)
        assert self.run is not None and self._loop is not None
        if self._loop.over:
            return
        if epoch != self._loop.epoch:
            raise ReportError(f"fit is in epoch {epoch}, and its run in {self._loop.epoch}: leave initial_epoch= out.")
        metrics = dict(logs or {})
        self._names.update(metrics)
        late = str(self.monitor).startswith("val_") and not any(name.startswith("val_") for name in metrics)
        if self.monitor not in (None, *metrics) and not late:
            raise self._missing()
        if metrics:
            self.run.report(metrics)
        if not self._loop.advance() and self.run.verdict.stop:
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Best weights back."""
        self._close()
        if self.verbose > 0 and self.run is not None:
            print(f"foretell: {self.run.verdict}")
        if self.monitor is not None and self._names and self.monitor not in self._names:
            raise self._missing()

    def _begin(self, epoch: int, rule: StoppingRule | None) -> None:
        assert self.run is not None
        optimizer = self.model.optimizer
        if optimizer is not None and not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        self.run.track(model=self.model, **({"optimizer": optimizer} if optimizer is not None else {}))
        self._loop = Loop(self.run, self.params["epochs"], start=epoch, stopping=rule)

    def _close(self) -> None:
        if self._loop is not None:
            self._loop.close()
            if not self._is_alone:
                self.model._initial_epoch = None

    def _missing(self) -> MetricError:
        cure = "Name it in monitor= (or in the study); val_ metrics need validation_data= or validation_split=."
        return without(str(self.monitor), self._names, cure)


def _is_score(model: Any, monitor: str, mode: str) -> bool:
    """Whether the metric is to grow: as told, or as the compiled metric says of itself."""
    name = monitor.removeprefix("val_")
    if mode != "auto" or name == "loss" or name.endswith("_loss"):
        return mode == "max"
    compiled = getattr(getattr(model, "_compile_metrics", None), "_user_metrics", None)
    for given in keras.tree.flatten(compiled):
        if given == name and name in _GROWS:
            return _GROWS[name]
        metric = keras.metrics.get(given) if isinstance(given, str) else given
        if name in (given, getattr(metric, "name", None)) and hasattr(metric, "_direction"):
            return bool(metric._direction == "up")
    raise MetricError(f"Whether {monitor!r} is to fall or to grow is not known: say mode='min' or mode='max'.")
