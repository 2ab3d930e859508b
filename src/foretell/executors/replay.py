"""Replay: recorded trainings under a virtual clock, through the same loop and with the timing of live ones.

The engine of tests and benchmarks: any number of simulated workers, thousands of reports a second.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from foretell.curve import Curve, Report
from foretell.errors import StudyError
from foretell.events import Ended, Event, Opened, Reached, Reported, Saved
from foretell.executors import Deliver, Lost, Message, Reply, Task, Work
from foretell.stopping import RunContext, StoppingRule
from foretell.trial import CONTINUE, State, Verdict

__all__ = ["Recording", "Replay"]


@final
@dataclass(frozen=True, slots=True)
class Recording:
    """What one configuration did when it was trained for real.

    Args:
        values: (epochs,) the objective after each epoch, in its own units; NaN where it diverged.
        seconds: of one epoch, or (epochs,) of each.
        metrics: other metrics, (epochs,) each.
        fails_at: epoch at which the training crashed, or None.
    """

    values: Sequence[float]
    seconds: float | Sequence[float] = 1.0
    metrics: Mapping[str, Sequence[float]] = field(default_factory=dict)
    fails_at: int | None = None

    def metrics_at(self, epoch: int) -> dict[str, float]:
        """The other metrics after epoch number `epoch`, from 1."""
        return {name: float(values[epoch - 1]) for name, values in self.metrics.items()}

    def epoch_seconds(self, epoch: int) -> float:
        """Of epoch number `epoch`, from 1."""
        return float(self.seconds) if isinstance(self.seconds, int | float) else float(self.seconds[epoch - 1])


@final
@dataclass
class _Attempt:
    task: Task
    recording: Recording
    step: int
    began: float
    trained: float  # seconds of training, over all attempts
    curve: Curve
    rule_state: Any
    until: int | None = None
    best_saved: int | None = None
    phase: str = "open"
    verdict: Verdict = CONTINUE


@final
class Replay:
    """Simulated workers that replay recordings.

    Args:
        recording: gives the recording of a configuration.
        workers: simulated.
        start_seconds: from a claim to the first epoch.
        resume_seconds: in addition, to load a checkpoint.
        save_seconds: to write one when pausing.
        can_pause: whether the simulated trainings track their state.
    """

    def __init__(
        self,
        recording: Callable[[dict[str, Any]], Recording],
        workers: int = 1,
        *,
        start_seconds: float = 0.0,
        resume_seconds: float = 0.0,
        save_seconds: float = 0.0,
        can_pause: bool = True,
    ) -> None:
        if workers < 1:
            raise StudyError(f"Replay with {workers} workers replays nothing: use 1 or more.")
        self.slots = workers
        self._recording, self._can_pause = recording, can_pause
        self._costs = {"start": start_seconds, "resume": resume_seconds, "save": save_seconds}
        self._now = 0.0
        self._queue: list[tuple[float, int, int, Event | Lost]] = []  # time, order, trial, what is said
        self._order = 0
        self._attempts: dict[int, _Attempt] = {}
        self._work: Work | None = None
        self._deliver: Deliver | None = None

    def open(self, work: Work, deliver: Deliver) -> None:
        """The function of `work` is never called: its recordings stand for it."""
        self._work, self._deliver = work, deliver

    def submit(self, task: Task) -> None:
        """A simulated worker begins: it opens after the start-up cost."""
        recording = self._recording(task.params)
        newest = task.restore.get("newest")
        step = newest[2] if newest is not None else 0
        trained = sum(recording.epoch_seconds(epoch) for epoch in range(1, step + 1)) if step else 0.0
        curve = Curve(task.curve)
        run = _Attempt(task, recording, step, self._now, trained, curve, self._rule_state(recording, curve))
        self._attempts[task.trial] = run
        cost = self._costs["start"] + (self._costs["resume"] if step else 0.0)
        horizon = len(recording.values)
        self._say(run, cost, Opened(task.trial, task.attempt, horizon, self._can_pause, self._can_pause, step))

    def reply(self, trial: int, reply: Reply) -> None:
        """The simulated training goes on with the answer."""
        run = self._attempts.get(trial)
        if run is None:
            return
        run.until = reply.until
        if run.phase == "ended":
            del self._attempts[trial]
        elif run.phase == "save":
            self._save(run)
        elif run.phase == "saved":
            self._end(run, State.PAUSED, run.verdict)
        elif run.phase == "diverged":
            self._end(run, State.DIVERGED, run.verdict)
        elif run.phase == "ruled":
            self._end(run, State.DONE, run.verdict)
        elif run.step >= len(run.recording.values):  # at its end there is nothing left to pause or stop
            self._end(run, State.DONE, CONTINUE)
        elif reply.verdict.action == "pause":
            self._pause(run, reply.verdict)
        elif reply.verdict.stop:
            self._end(run, State.STOPPED, reply.verdict)
        else:
            self._go_on(run)

    def signal(self, trial: int) -> None:
        """Answers come at every epoch anyway."""

    def kill(self, trial: int) -> None:
        """The simulated process dies."""
        self._queue = [item for item in self._queue if item[2] != trial]
        heapq.heapify(self._queue)
        self._say(self._attempts[trial], 0.0, Lost("cancelled", "killed"))

    def wait(self, timeout: float | None) -> None:
        """Advance the clock to the next message and deliver it; the timeout is of real time, so it does not matter."""
        assert self._deliver is not None
        if not self._queue:
            return
        time, _, trial, event = heapq.heappop(self._queue)
        self._now = max(self._now, time)
        run = self._attempts[trial]
        if isinstance(event, Lost):
            del self._attempts[trial]
        self._deliver([Message(trial, run.task.attempt, event)])

    def now(self) -> float:
        """Virtual seconds since the executor was made."""
        return self._now

    def close(self) -> None:
        """Forget everything."""
        self._queue.clear()
        self._attempts.clear()

    def _say(self, run: _Attempt, after: float, event: Event | Lost) -> None:
        self._order += 1
        heapq.heappush(self._queue, (self._now + after, self._order, run.task.trial, event))

    def _go_on(self, run: _Attempt) -> None:
        if run.until is not None and run.step >= run.until:
            self._say(run, 0.0, Reached(run.task.trial, run.task.attempt, run.step))
        else:
            self._train(run)

    def _train(self, run: _Attempt) -> None:
        assert self._work is not None
        epoch = run.step + 1
        seconds = run.recording.epoch_seconds(epoch)
        if run.recording.fails_at == epoch:
            self._say(run, seconds, Lost("error", f"recorded crash in epoch {epoch}"))
            return
        run.step, run.trained = epoch, run.trained + seconds
        value = float(run.recording.values[epoch - 1])
        objective = self._work.objective
        metrics = run.recording.metrics_at(epoch) | {objective.metric: value}
        run.phase = "train"
        if not abs(value) < float("inf"):
            reason = f"{objective.metric} is {value} at epoch {epoch}"
            run.phase, run.verdict = "diverged", Verdict("stop", "diverged", reason, step=epoch)
        else:
            self._judge(run, Report(epoch, objective.loss(value), run.trained, metrics))
        self._say(run, seconds, Reported(run.task.trial, run.task.attempt, epoch, metrics, run.trained))

    def _pause(self, run: _Attempt, verdict: Verdict) -> None:
        """A paused training writes its best state, if that is another one, and its newest."""
        run.phase, run.verdict = "save", verdict
        best = run.curve.best_step
        if best is not None and best not in (run.step, run.best_saved):
            run.best_saved = best
            self._say(run, 0.0, self._saved(run, best, newest=False))
        else:
            self._save(run)

    def _save(self, run: _Attempt) -> None:
        """The newest state, and after it the end of the attempt."""
        if run.phase == "save":
            run.phase = "saved"
            self._say(run, self._costs["save"], self._saved(run, run.step, newest=True))

    def _saved(self, run: _Attempt, step: int, *, newest: bool) -> Saved:
        number, attempt = run.task.trial, run.task.attempt
        name = f"replayed-{step}-{attempt}{'' if newest else '-best'}"
        return Saved(number, attempt, step, name, "", newest, step == run.curve.best_step, self._costs["save"])

    def _rule(self) -> StoppingRule | None:
        return self._work.stopping if self._work is not None else None

    def _rule_state(self, recording: Recording, curve: Curve) -> Any:
        """Of the run's own rule; a live run has it from its checkpoint, and a recording tells everything again."""
        rule = self._rule()
        if rule is None or self._work is None:
            return None
        state, objective = rule.init(), self._work.objective
        for point in curve:
            metrics = recording.metrics_at(point.step) | {objective.metric: objective.value(point.loss)}
            state = rule.update(state, Report(*point, metrics))
        return state

    def _judge(self, run: _Attempt, report: Report) -> None:
        """The run's own rule, as a live run asks it."""
        assert self._work is not None
        run.curve.append(report.step, report.loss, report.seconds)
        rule = self._rule()
        if rule is not None:
            run.rule_state = rule.update(run.rule_state, report)
            context = RunContext(self._work.objective, len(run.recording.values))
            verdict = rule.check(run.curve, run.rule_state, context)
            if verdict.stop:
                run.phase, run.verdict = "ruled", verdict

    def _end(self, run: _Attempt, state: State, verdict: Verdict) -> None:
        run.phase = "ended"
        seconds = self._now - run.began
        self._say(run, 0.0, Ended(run.task.trial, run.task.attempt, state, run.step, seconds, verdict))
