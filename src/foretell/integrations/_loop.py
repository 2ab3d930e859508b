"""A run whose loop a framework drives: the framework says where it is, and is told whether to go on."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import Any, final

from foretell.curve import Curve, Point
from foretell.errors import MetricError, did_you_mean
from foretell.run import Run
from foretell.stopping import StoppingRule, after, require_rule, resumed
from foretell.stopping.patience import Patience

__all__ = ["Loop", "lone_run", "metric_of", "rule_of", "without"]


@final
class Loop:
    """`Run.epochs` for a framework that has a loop of its own: `advance` after each of its turns, `close` at its end.

    The weights are touched in `close` alone, so that what the framework does after the last check, such as saving, sees
    the weights of that check. A study that stops the run is the exception: it is heard between two epochs, and then the
    best weights are back at once.

    Args:
        run: what is reported to, with everything tracked that is to be.
        horizon: turns of the full training, >= 0: epochs, or checks where these are no whole epochs.
        start: number of the first turn, 0 <= start <= horizon; a resumed run begins where it was.
        stopping: a rule that comes on top of the run's own.
        pausable: whether the framework can go on at each turn where it was.
    """

    def __init__(
        self, run: Run, horizon: int, *, start: int = 0, stopping: StoppingRule | None = None, pausable: bool = True
    ) -> None:
        if stopping is not None:
            _add(run, stopping)
        run._may_pause = run._may_pause and pausable
        self.run, self.epoch = run, start
        self.over = False  # whether the framework's loop should end, or is at its end
        self.left = False  # whether the run's own has ended, so that the best weights are back
        self._horizon, self._closed = horizon, False
        self._epochs = run.epochs(horizon, start=start)
        self._abandoned = weakref.finalize(self, _abandon, run, self._epochs)
        self._next()

    @property
    def is_last(self) -> bool:
        """Whether the turn in progress is the run's last one, as far as is known without the study."""
        return self.run.verdict.stop or self.epoch + 1 == self._horizon

    def advance(self) -> bool:
        """The turn in progress is over: whether there is another one.

        Raises:
            Paused: the study paused the run, which is saved.
        """
        if self.is_last:
            self.over = True
        else:
            self._next()
        return not self.over

    def close(self) -> None:
        """The framework's loop is over, however it ended: best weights back. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._abandoned.detach() is None:
            # The study had stopped it, and a framework that only looks up behind a step has made one more since.
            if self.run._restore_best is not False and self.left:
                self.run._keeper.restore_best(None)
        elif self.over:
            next(self._epochs, None)
        else:
            self._epochs.close()  # type: ignore[attr-defined]
        self.over = self.left = True

    def _next(self) -> None:
        try:
            self.epoch = next(self._epochs)
        except StopIteration:
            self.epoch, self.over, self.left = self.run.step, True, True
            self._abandoned.detach()
        except BaseException:
            self._abandoned.detach()
            raise


def lone_run(
    metric: str, *, is_score: bool, stopping: StoppingRule | None, restore_best: bool, earlier: Iterable[Point] = (),
    kept: Any = None,
) -> Run:  # fmt: skip
    """The run of a binding that is used alone, as the framework's own early stopping is.

    Args:
        metric: to watch.
        is_score: whether it is to grow.
        stopping: its rule.
        restore_best: whether the best weights are put back.
        earlier: what a training that the framework resumed had measured before.
        kept: the state of its rule, as `foretell.stopping.saved` made it.
    """
    watched: dict[str, Any] = {"maximize" if is_score else "minimize": metric}
    run = Run(**watched, stopping=stopping, restore_best=restore_best)
    curve = Curve(earlier)
    if len(curve):
        run._curve, run._rule_state = curve, resumed(stopping, kept, curve)
        run._first, run._elapsed_before = curve.last.step, curve.last.seconds
    return run


def metric_of(run: Run) -> str | None:
    """The name of the metric that a run watches, or None."""
    return run._objective.metric if run._objective is not None else None


def rule_of(
    patience: int | None, min_delta: float, *, default: int | None, stopping: StoppingRule | None,
    baseline: float | None = None, warmup: int = 0,
) -> StoppingRule | None:  # fmt: skip
    """What a framework's arguments ask for, as a rule; None if they ask for nothing.

    Args:
        patience: checks without improvement that are borne; 0 counts as 1, since the first miss comes no earlier.
        min_delta: smallest gain that counts, >= 0.
        default: the framework's patience, for a binding that is told neither a patience nor a rule.
        stopping: a rule of foretell, beside the patience.
        baseline: to be beaten, in the units of the metric.
        warmup: epochs of which the rule sees nothing.
    """
    rule = stopping
    if stopping is not None:
        require_rule(stopping)
    if patience is None and stopping is None:
        patience = default
    if patience is not None:
        own = Patience(patience or 1, min_delta=min_delta, baseline=baseline)
        rule = own if rule is None else rule | own
    return after(warmup, rule) if rule is not None and warmup else rule


def without(metric: str, names: Iterable[str], cure: str) -> MetricError:
    """The error of a training that never measures what is to be watched; it lists what it measures instead."""
    return MetricError(f"{metric!r} is to be watched, but was not measured. {did_you_mean(metric, names)} {cure}")


def _add(run: Run, rule: StoppingRule) -> None:
    if run._objective is None:
        raise MetricError("A stopping rule needs a metric to watch: give the Run minimize='name' or maximize='name'.")
    run._stopping = rule if run._stopping is None else run._stopping | rule
    run._rule_state = resumed(run._stopping, run._kept_rule, run.curve)


def _abandon(run: Run, epochs: Iterator[int]) -> None:
    # Nobody said that the training was over: it failed, some time ago. The model may be in other hands by now, and the
    # end of the generator must not change it under them.
    run.abandon()
    run._restore_best = False
    epochs.close()  # type: ignore[attr-defined]
