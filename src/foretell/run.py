"""Run: what the user's training loop holds. The same code serves a lone loop and a trial of a study."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np

from foretell import events
from foretell._keeper import Keeper, Written
from foretell._metrics import Pending, number
from foretell._runfolder import RunFolder
from foretell.curve import Curve, Report
from foretell.errors import CheckpointError, MetricError, Paused, ReportError
from foretell.executors import Reply, Task, Work
from foretell.lr import LRSchedule, from_json, require_schedule, storable
from foretell.objective import Objective
from foretell.stopping import RunContext, StoppingRule, replayed, require_rule, resumed, saved
from foretell.trial import CONTINUE, Verdict

SAVED_UNDER = "checkpoints"


class Link(Protocol):
    """The way to whoever decides about a run: the coordinator of a study."""

    def send(self, event: events.Event) -> Reply:
        """Say what happened and wait for the answer, which comes after it is durable."""

    def asked(self) -> bool:
        """Whether the other side wants to be asked at the next epoch boundary."""


@final
class Run:
    """The handle inside training: configuration in, metrics out, and an end when going on is not worth it.

    Args:
        params: the configuration, e.g. a dict of hyperparameters.
        minimize: name of the metric to watch, if lower is better.
        maximize: name of the metric to watch, if higher is better.
        stopping: when to end, e.g. `ft.Threshold(0.01) | ft.Patience(10)`; needs a metric.
        restore_best: whether tracked objects get their best weights back when the loop ends; None means yes if tracked.
        folder: where to keep checkpoints, so that the same program run again goes on where it was; None keeps nothing.
        seed: of `run.rng`; None draws one.

    Raises:
        MetricError: both or, with a stopping rule, neither of `minimize` and `maximize` were given.
    """

    def __init__(
        self,
        params: Mapping[str, Any] | None = None,
        *,
        minimize: str | None = None,
        maximize: str | None = None,
        stopping: StoppingRule | None = None,
        restore_best: bool | None = None,
        folder: str | Path | None = None,
        seed: int | None = None,
    ) -> None:
        if minimize is not None and maximize is not None:
            raise MetricError("A run watches one metric: give minimize= or maximize=, not both.")
        if stopping is not None and minimize is None and maximize is None:
            raise MetricError("A stopping rule needs a metric to watch: give minimize='name' or maximize='name'.")
        if stopping is not None:
            require_rule(stopping)
        objective = None
        if minimize is not None or maximize is not None:
            objective = Objective(minimize or maximize or "", "minimize" if minimize is not None else "maximize")
        place = RunFolder(Path(folder)) if folder is not None else None
        if seed is None:
            seed = (place and place.seed) or int(np.random.SeedSequence().generate_state(1)[0])
        task = Task(0, 1, dict(params or {}), seed, str(folder) if folder is not None else None)
        self._prepare(place.begun(task) if place else task, objective, stopping, restore_best, place)

    @classmethod
    def of_task(cls, task: Task, work: Work, link: Link | None) -> Run:
        """The run of one attempt; for executors."""
        run = cls.__new__(cls)
        run._prepare(task, work.objective, work.stopping, work.restore_best, link)
        run._may_pause = work.can_pause and task.folder is not None
        return run

    def _prepare(
        self,
        task: Task,
        objective: Objective | None,
        stopping: StoppingRule | None,
        restore_best: bool | None,
        link: Link | None,
    ) -> None:
        self.params: dict[str, Any] = dict(task.params)
        self.seed = task.seed
        self.step = 0
        self.verdict = CONTINUE
        self.resumed = "newest" in task.restore
        self.logged: dict[str, list[float]] = {}
        self._task, self._objective, self._stopping, self._link = task, objective, stopping, link
        self._restore_best = restore_best
        self._folder = Path(task.folder) if task.folder is not None else None
        checkpoints = self._folder / SAVED_UNDER if self._folder is not None else None
        self._keeper = Keeper(checkpoints, str(task.attempt), task.restore, must_restore=task.must_restore)
        self._curve = Curve(task.curve)
        self._kept_rule: Any = None  # its state in the checkpoint that the run goes on from
        self._rule_state = replayed(stopping, self._curve)
        self._schedule: LRSchedule | None = None
        self._elapsed_before = self._curve.last.seconds if len(self._curve) else 0.0
        self._begun = time.monotonic()
        self._rng: np.random.Generator | None = None
        self._rng_state: dict[str, Any] | None = None  # of a checkpoint, until the loop begins
        self._first = 0  # epochs behind a resumed run
        self._pending = Pending()
        self._epoch: int | None = None  # the one in progress, from 1; None outside the loop
        self._horizon: int | None = None
        self._until: int | None = None
        self._opened = self._looped = self._restored = False
        self._within_epoch = False  # whether the loop was left before its epoch was reported
        self.stopped_by_study = False
        self.keep = True  # whether the study wants the best weights on disk
        self._may_pause = link is not None and self._folder is not None

    # ------------------------------------------------------------------ what a user reads

    @property
    def rng(self) -> np.random.Generator:
        """A NumPy generator made from `seed`; its state goes into checkpoints."""
        if self._rng is None:
            self._rng = np.random.default_rng(self.seed)
        return self._rng

    @property
    def folder(self) -> Path | None:
        """A folder of the run's own, made on first use; None if nothing is kept."""
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, over all attempts."""
        return self._elapsed_before + time.monotonic() - self._begun

    @property
    def best(self) -> float | None:
        """The best finite value of the objective so far, in its own units; None before the first."""
        if self._objective is None or not math.isfinite(self._curve.best):
            return None
        return self._objective.value(self._curve.best)

    @property
    def schedule(self) -> LRSchedule | None:
        """The learning rate by epoch, if the run was told; after `track`, a resumed run has that of its checkpoint."""
        return self._schedule

    @schedule.setter
    def schedule(self, schedule: LRSchedule) -> None:
        require_schedule("run.schedule", schedule)
        self._schedule = schedule

    @property
    def lr(self) -> float:
        """The learning rate of the epoch in progress, from `schedule`."""
        if self._schedule is None:
            raise ReportError("run.lr needs a schedule: say run.schedule = Cosine(0.1, 40) before the loop.")
        return self._schedule(self.step)

    @property
    def identity(self) -> tuple[int, int]:
        """Number of the trial and of the attempt."""
        return self._task.trial, self._task.attempt

    @property
    def curve(self) -> Curve:
        """The objective's losses by step (lower is better, whatever its direction)."""
        return self._curve

    def __repr__(self) -> str:
        return f"Run(step {self.step}, best {self.best}, {self.verdict})"

    # ------------------------------------------------------------------ what a user calls

    def track(self, **objects: Any) -> None:
        """Put objects in the run's care: best weights, pause, resume, crash recovery. One call, once they are built.

        It restores at once if there is something to restore from. What cannot be saved is told once: such a run can be
        stopped, but not paused.

        Args:
            objects: anything with state_dict and load_state_dict, (nested) dicts of arrays, arrays, NumPy, Python and
                torch generators; each under a name of its own.

        Raises:
            CheckpointError: a saved state does not fit the objects.
        """
        if self._opened:
            raise ReportError("run.track came after the loop began or a report: call it once the objects are built.")
        restored, progress = self._keeper.track(objects)
        self._rng_state = progress.get("rng")
        for name, reason in self._keeper.refused.items():
            print(f"foretell: {name} cannot be saved, so this run can be stopped, but not paused. {reason}", flush=True)
        for note in self._keeper.notes:
            print(f"foretell: {note}", flush=True)
        self._restored = restored is not None
        if restored and self.resumed:
            self.step = self._first = int(progress["step"])
            self._elapsed_before = float(progress["seconds"])
            self.logged = {}
            self._kept_rule, schedule = progress.get("rule"), progress.get("schedule")
            self._rule_state = resumed(self._stopping, self._kept_rule, self._curve)
            self._schedule = self._schedule or (from_json(schedule) if schedule is not None else None)

    def epochs(self, n: int, *, start: int = 0) -> Iterator[int]:
        """Epoch numbers `start`, ..., n - 1, as long as the run is worth going on; a resumed run begins where it was.

        When the loop ends, for whatever reason, tracked objects hold their best weights (see `restore_best`) and the
        code after the loop runs; only a paused run leaves through `ft.Paused`.

        Args:
            n: epochs of the full training, >= 0: the horizon.
            start: number of the first epoch, 0 <= start <= n.

        Raises:
            ReportError: a second loop in the same run, or `start` beyond `n`.
        """
        if self._looped:
            raise ReportError("run.epochs was begun twice: train in one loop, with all epochs in it.")
        if not 0 <= start <= n:
            raise ReportError(f"run.epochs({n}, start={start}) has no first epoch: 0 <= start <= n is needed.")
        if self.resumed and not self._restored:
            raise CheckpointError(
                "This training goes on from a checkpoint, but run.track was not called before run.epochs: track what "
                "the earlier attempt tracked, or begin a new study (or run folder)."
            )
        if len(self._curve) and self._curve.last.step > self._first:
            raise ReportError(
                "The objective was reported before run.epochs, so its first epoch would be the second step: give that "
                "report step=0."
            )
        self._looped = True
        return self._loop(n, max(start, self._first))

    def _loop(self, n: int, first: int) -> Iterator[int]:
        self.step = first
        self._keeper.begin()
        if self._rng_state is not None:
            self.rng.bit_generator.state = self._rng_state
        self._open(n)  # may pause at once: what is saved then has the random state of the checkpoint, not a fresh one
        paused = False
        try:
            for epoch in range(first, n):
                if self.verdict.stop:
                    break
                self._epoch = epoch + 1
                yield epoch
                self._close_epoch()
        except Paused:
            paused = True
            raise
        except GeneratorExit:  # the user's `break`: the epoch in progress counts if it was reported
            self._break_off()
            raise
        finally:
            self._epoch = None
            if not paused:
                self._leave()

    def report(self, metrics: Mapping[str, Any] | None = None, /, *, step: int | None = None, **named: Any) -> Verdict:
        """Say how the training does; the decision falls when the objective arrives.

        Calls of one epoch merge. Within `epochs` the step is the epoch; outside, a name reported again begins the next.

        Args:
            metrics: by name, for names that are no identifiers, e.g. {"val/acc": 0.9}.
            step: epochs trained so far (the number `epochs` gave is taken too); only needed in loops without `epochs`.
            named: numbers: Python, NumPy or torch scalars.

        Returns:
            The verdict; ask for `.stop` in loops without `epochs`.

        Raises:
            ReportError: not a number, a name twice in one epoch, or a step that goes back.
        """
        values = {name: number(name, value) for name, value in {**(metrics or {}), **named}.items()}
        if not values:
            raise ReportError("run.report was called without a metric: report at least one, e.g. val_loss=0.3.")
        at = self._pending.step_of(step, values, epoch=self._epoch, trained=self.step, looped=self._looped)
        if self._is_known(at, values):
            return self.verdict
        if at != self._pending.step:
            self._flush()
            self._pending.begin(at)
        self._pending.add(values)
        if self._objective is not None and self._objective.metric in values:
            self._decide()
        return self.verdict

    def log(self, **named: Any) -> None:
        """Keep per-batch values for later; nothing is decided on them.

        They are in `run.logged` until the end of the epoch, then in `log.jsonl` of the run's folder if it has one.

        Args:
            named: numbers: Python, NumPy or torch scalars.
        """
        for name, value in named.items():
            self.logged.setdefault(name, []).append(number(name, value))

    # ------------------------------------------------------------------ decisions

    def _decide(self) -> None:
        assert self._objective is not None
        loss = self._objective.loss(self._pending.values[self._objective.metric])
        if len(self._curve) and self._pending.step <= self._curve.last.step:
            raise ReportError(
                f"Step {self._pending.step} comes after step {self._curve.last.step}: steps go up. "
                "A report before the loop takes step=0."
            )
        self._open(None)
        self._curve.append(self._pending.step, loss, self.elapsed)
        own = self._judge(loss)
        if own.stop and not self.verdict.stop:
            self.verdict = own
        self._flush()
        if self._epoch is None:
            self.step = max(self.step, self._pending.step)
            self._remember_if_best()
            if not self.verdict.stop and self._until is not None and self.step >= self._until:
                self._ask()

    def _judge(self, loss: float) -> Verdict:
        assert self._objective is not None
        point = self._curve.last
        if not math.isfinite(loss):
            value = self._objective.value(loss)
            reason = f"{self._objective.metric} is {value} at epoch {point.step}"
            return Verdict("stop", "diverged", reason, step=point.step, value=value)
        if self._stopping is None:
            return CONTINUE
        report = Report(*point, dict(self._pending.values))
        self._rule_state = self._stopping.update(self._rule_state, report)
        context = RunContext(self._objective, self._horizon, self._schedule)
        return self._stopping.check(self._curve, self._rule_state, context)

    def _open(self, horizon: int | None) -> None:
        if self._opened and (horizon is None or horizon == self._horizon):
            return
        self._opened, self._horizon = True, horizon
        if self._link is None:
            return
        can_pause = self._may_pause and horizon is not None and self._keeper.complete
        tracked = self._keeper.tracked
        self._obey(self._link.send(events.Opened(*self.identity, horizon, can_pause, tracked, self.step)))
        if self.verdict.action == "pause":
            self._pause()

    def _flush(self) -> None:
        """Send what was reported since the last time; the objective goes with what came before it."""
        fresh = self._pending.fresh()
        if fresh and self._link is not None:
            self._open(None)
            self._obey(self._link.send(events.Reported(*self.identity, self._pending.step, fresh, self.elapsed)))

    def _obey(self, reply: Reply) -> None:
        self._until, self.keep = reply.until, reply.keep
        if reply.verdict.stop and not self.verdict.stop:
            self.verdict = reply.verdict
            self.stopped_by_study = True

    def _break_off(self) -> None:
        if self._epoch is None:
            return
        self._flush()
        if len(self._curve) and self._curve.last.step == self._epoch:
            self.step = self._epoch
            self._remember_if_best()
        else:
            self._within_epoch = True
        self._write_log()

    def _remember_if_best(self) -> None:
        if len(self._curve) and self._curve.last.step == self.step == self._curve.best_step:
            self._keeper.remember_best(self.step)

    def _complete(self) -> None:
        """The training has come to its own end: whatever the study said meanwhile cuts nothing short any more."""
        if self.stopped_by_study:
            self.verdict, self.stopped_by_study = CONTINUE, False

    def _ask(self) -> None:
        assert self._link is not None
        self._obey(self._link.send(events.Reached(*self.identity, self.step)))

    def _close_epoch(self) -> None:
        assert self._epoch is not None
        self._flush()
        self.step = self._epoch
        self._remember_if_best()
        self._write_log()
        if self.step == self._horizon:
            self._complete()
        if self.verdict.action == "stop" or self.step == self._horizon:
            return
        if self._link is not None:
            used_up = self._until is not None and self.step >= self._until
            if used_up and not len(self._curve):
                raise self._pending.missing(self._objective, f"by epoch {self.step}, where trainings are compared")
            if not self.verdict.stop and (used_up or self._link.asked()):
                self._ask()
            if self.verdict.action == "pause":
                self._pause()
            if not self.verdict.stop and self._keeper.due(self.elapsed):
                self._save(asked=False)

    def _pause(self) -> None:
        self._save(asked=True)
        raise Paused(str(self.verdict))

    def _save(self, *, asked: bool) -> None:
        progress = {"step": self.step, "seconds": self.elapsed, "curve": [list(point[:3]) for point in self._curve]}
        progress |= {"rule": saved(self._stopping, self._rule_state), "schedule": storable(self._schedule)}
        if self._rng is not None:
            progress["rng"] = self._rng.bit_generator.state
        for written in self._keeper.save(self.step, progress, asked=asked):
            self._announce(written)

    def _announce(self, written: Written) -> None:
        assert self._link is not None
        (trial, attempt), kinds = self.identity, (written.newest, written.best)
        what = events.Saved(trial, attempt, written.step, written.name, written.digest, *kinds, written.seconds)
        self._link.send(what)

    def _leave(self) -> None:
        """The loop is over: best weights back, and said so."""
        if self._restore_best is False or not self._keeper.tracked:
            return
        restored = self._keeper.restore_best(None if self._within_epoch else self.step)
        if restored is not None and self.verdict.stop:
            self.verdict = replace(self.verdict, restored=restored)
        if isinstance(self._link, RunFolder):
            self.conclude(keep=True)

    # ------------------------------------------------------------------ for executors

    def conclude(self, *, keep: bool) -> None:
        """The training has ended in good order: write the best weights if they are wanted."""
        written = self._keeper.save_best() if keep and self._restore_best is not False else None
        if written is not None:
            self._announce(written)
        if isinstance(self._link, RunFolder):
            self._link.ended(self.verdict)

    def abandon(self) -> None:
        """The training failed: nothing it may still do while it is cleaned up is heard."""
        self._link = None

    def require_objective(self, returned: Any) -> None:
        """After the function: take a returned number as the one report if there was none.

        Raises:
            MetricError: the objective was never reported; lists what was.
        """
        self._flush()
        assert self._objective is not None
        if len(self._curve) or (self.stopped_by_study and self.step == self._first):
            return  # a run that was ended before its first epoch owes nothing
        metric = self._objective.metric
        if isinstance(returned, Mapping) and metric in returned:
            self.report(returned)
            self._complete()
        elif returned is not None and not isinstance(returned, Mapping):
            self.report({metric: returned})
            self._complete()
        else:
            raise self._pending.missing(self._objective, "by the end of the training")

    # ------------------------------------------------------------------ helpers

    def _is_known(self, at: int, values: Mapping[str, float]) -> bool:
        """Reports that count no more: what a resumed run has behind it, and the objective once more after the loop."""
        if self._epoch is not None:
            return False
        if not self._looped:
            return self.resumed and at <= self._first
        again = self._objective is not None and self._objective.metric in values and len(self._curve) > 0
        if again and self._curve.last.step >= at:
            name = self._objective.metric if self._objective is not None else ""
            print(f"foretell: {name!r} was reported again after the loop; the values of the loop count.", flush=True)
            return True
        return False

    def _write_log(self) -> None:
        if self.logged and self.folder is not None:
            RunFolder(self.folder).write_log(self.step, self.logged)
            self.logged = {}
