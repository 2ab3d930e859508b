"""The coordinator: it alone decides, and it alone writes the study's log. The whole architecture is its one loop.

Every message of an attempt is folded into the record, made durable together with all that came with it, and only then
answered.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, final

from foretell import events
from foretell._faults import fault
from foretell._ledger import affordable, affordable_until
from foretell._retention import CHECKPOINTS, replace_old, retain, sweep
from foretell._roles import Desk, Members, Policy
from foretell.budget import Budget
from foretell.context import Context
from foretell.errors import ForetellError, StoreFull, TrainingError
from foretell.executors import Executor, Lost, Message, Reply, Task
from foretell.journal import Journal
from foretell.record import Record
from foretell.samplers import Exhausted
from foretell.schedulers import Done, Grant, Resume, Start
from foretell.termination import spent
from foretell.trial import CONTINUE, State, Verdict, trial_name

_SLICE_PER_RESUME = 10  # a resumed slice trains at least this many times as long as resuming took
_NOTICEABLE = 1.0  # seconds: resuming faster than this stretches nothing, so that short trainings repeat exactly
_TICK = 0.25  # seconds between looks at the clock and at requests from outside
_FAILURES_IN_A_ROW = 3
_UNLIMITED = Budget()


@final
class Coordinator:
    """Runs the loop of one study.

    Args:
        journal: writes the study's log.
        members: who decides what.
        policy: what holds for every trial.
    """

    def __init__(self, journal: Journal, members: Members, policy: Policy) -> None:
        self.journal, self.members, self.policy = journal, members, policy
        self.record = journal.record
        self.budget = _UNLIMITED
        self.closing: Verdict = CONTINUE
        self._asked: Verdict = CONTINUE  # written by `stop` alone, which a signal may call between any two lines
        self.failure: ForetellError | None = None
        self.exhausted = ""
        self.busy = False
        self._executor: Executor | Desk | None = None
        self._workers = 1
        self._looked_at = 0.0
        self._started_at: dict[int, float] = {}
        self._resume_cost: dict[int, float] = {}

    # ------------------------------------------------------------------ sessions

    def begin_session(self, executor: Executor, code: str) -> None:
        """Count wall-clock from here on; a request to stop that nobody was there to hear is void."""
        if self.journal.store.folder is not None:
            (self.record.folder / "stop").unlink(missing_ok=True)
        self._executor, self.journal.now, self._asked = executor, executor.now(), CONTINUE
        if self.record.in_session:  # the one before was killed, perhaps before it could delete what it had given up
            for number in range(len(self.record)):
                if self.record.states[number].ended:
                    sweep(self.journal, number)
        self.journal.log(events.SessionStarted(os.getpid(), code))
        self.journal.commit()

    def attend(self, desk: Desk) -> None:
        """Serve calls from outside `run`: answers go to the desk; what other processes wrote meanwhile is folded in."""
        self.journal.refresh()
        self._executor, self._workers, self.budget = desk, desk.slots, _UNLIMITED
        self.closing = self._asked = CONTINUE
        if self.record.in_session:  # its process is gone: no time passes for the study until the next one
            self.journal.now = self.record.last_time
            self.journal.log(events.Concluded(Verdict("stop", "recovery", "the process that ran the study ended")))
        self.journal.now = desk.now()

    # ------------------------------------------------------------------ the loop

    def run(self, executor: Executor, budget: Budget, tick: Callable[[float], None] = lambda now: None) -> Verdict:
        """Work until the study's end; the executor is open and stays so.

        Args:
            executor: runs the attempts.
            budget: of the study over all its sessions.
            tick: called a few times a second.

        Returns:
            Why the study ended.

        Raises:
            TrainingError: the first trials all failed.
        """
        self._executor, self._workers, self.budget = executor, executor.slots, budget
        self.closing, self.failure, self.exhausted = CONTINUE, None, ""
        self.recover()
        self.busy = True
        try:
            while not self._judge().stop:
                self.fill(executor)
                if not self.record.running:
                    self.closing = self._nothing_left()
                    break
                executor.wait(self._patience())
                tick(executor.now())
            self._drain(executor, tick)
        finally:
            self.busy = False
        self.journal.now = executor.now()
        fault("coordinator-before-conclusion")
        self.journal.log(events.Concluded(self.closing))
        self.journal.commit()
        if self.failure is not None:
            raise self.failure
        return self.closing

    def stop(self, verdict: Verdict) -> None:
        """End the study: running trials are paused at their next epoch boundary, or stopped if they cannot be."""
        if not self._asked.stop:
            self._asked = verdict

    def recover(self) -> None:
        """Trials whose coordinator is gone go on from their newest checkpoint, or from the start."""
        fault("coordinator-before-recovery")
        for number in list(self.record.running):
            saved = self.record.checkpoints.get(number, {}).get("newest")
            state = State.PAUSED if saved is not None else State.QUEUED
            step, attempt = self.record.steps[number], self.record.attempts[number]
            verdict = Verdict("pause", "recovery", "the process that ran the study ended", step=step)
            self.journal.log(events.Ended(number, attempt, state, step, 0.0, verdict, "lost"))
        self.journal.commit()

    def fill(self, executor: Executor) -> None:
        """Give every free worker something to do; the claims are durable before any training begins."""
        tasks = []
        while len(self.record.running) < self._workers:
            task = self.claim()
            if task is None:
                break
            tasks.append(task)
        self.journal.commit()
        fault("coordinator-before-submit")
        for task in tasks:
            executor.submit(task)

    def claim(self) -> Task | None:
        """Decide on one training and reserve its place in the budget; None if there is nothing to do now."""
        self.journal.now = self._clock()
        number = next((trial for trial in self.record.ready if affordable(self.record, self.budget, trial)), None)
        if number is not None:
            return self._start(number)
        context = self.context()
        action = self.members.scheduler.next(self.record, context)
        if isinstance(action, Resume) and affordable(self.record, self.budget, action.trial):
            return self._start(action.trial)
        if isinstance(action, Start) and affordable(self.record, self.budget, None):
            return self._begin(action, context)
        if isinstance(action, Done):
            self.exhausted = action.reason
        return None

    def _begin(self, action: Start, context: Context) -> Task | None:
        """Make a new trial of what the scheduler or the sampler proposes."""
        if action.params is not None:
            number = self.create(action.params, origin=_name_of(self.members.scheduler), parent=action.parent)
            return self._start(number)
        if self.exhausted:
            return None
        try:
            params = self.members.sampler.suggest(self.record, context)
        except Exhausted as reason:
            self.exhausted = str(reason)
            return self.claim()  # a scheduler that waited for more trials may promote those there are
        return self._start(self.create(params, origin=_name_of(self.members.sampler), parent=action.parent))

    def create(self, params: dict[str, Any], *, origin: str, parent: int | None = None) -> int:
        """Add a trial to the queue; it is durable after the next commit."""
        number = len(self.record)
        self.journal.log(events.Created(number, params, parent, origin))
        return number

    def context(self) -> Context:
        """The circumstances of the next decision."""
        return Context(
            space=self.record.space,
            objective=self.record.objective,
            budget=self.budget,
            seed=self.policy.seed,
            decision=len(self.record),
            now=self.journal.now,
            workers=self._workers,
            complete=bool(self.exhausted) or self.record.started >= (self.budget.trials or math.inf),
        )

    def _start(self, number: int) -> Task:
        record = self.record
        saved = record.checkpoints.get(number, {})
        restore, step = dict(saved), 0
        if "newest" in restore:
            step = restore["newest"].step
        else:
            restore = {}
        parent = record.parents[number]
        if not restore and parent is not None and "best" in record.checkpoints.get(parent, {}):
            restore = {"parent": record.checkpoints[parent]["best"]}
        attempt = record.attempts[number] + 1
        self.journal.log(events.Started(number, attempt, step))
        self._started_at[number] = self.journal.now
        folder = self.trial_folder(number)
        return Task(
            trial=number,
            attempt=attempt,
            params=dict(record.params[number]),
            seed=trial_seed(self.policy.seed, number),
            folder=str(folder) if folder is not None else None,
            restore={kind: record.checkpoint(event).place for kind, event in restore.items()},
            curve=[(point.step, point.loss, point.seconds) for point in record.curves[number]],
        )

    def trial_folder(self, number: int) -> Path | None:
        """Where a trial keeps its checkpoints and logs; None if nothing is kept."""
        return self.record.folder / trial_name(number) if self.journal.store.folder is not None else None

    # ------------------------------------------------------------------ what the loop asks itself

    def _clock(self) -> float:
        return self._executor.now() if self._executor is not None else self.journal.now

    def _judge(self) -> Verdict:
        """Whether the study is at its end: somebody said so, or the terminator does."""
        if not self.closing.stop:
            self.journal.now = self._clock()
            verdict = self._requested()
            if not verdict.stop:
                verdict = self.members.terminator.check(self.record, self.context())
            self.closing = self._asked if self._asked.stop else verdict
        return self.closing

    def _requested(self) -> Verdict:
        """A request from outside: a file named `stop` in the study's folder, which `foretell stop` makes."""
        now = time.monotonic()
        if self.journal.store.folder is None or now < self._looked_at + _TICK:
            return CONTINUE
        self._looked_at = now
        path = self.record.folder / "stop"
        if not path.exists():
            return CONTINUE
        path.unlink(missing_ok=True)
        return Verdict("stop", "request", "somebody asked the study to stop")

    def _nothing_left(self) -> Verdict:
        """Nothing runs and nothing can be started: say why."""
        if self._asked.stop:
            return self._asked
        if self.exhausted:
            return Verdict("stop", _name_of(self.members.sampler), self.exhausted)
        for what, used in (("trials", self.record.started), ("epochs", self.record.epochs_spent)):
            limit = getattr(self.budget, what)
            if limit is not None and used >= limit:
                return spent(f"{limit} {what}", used, limit, self.record)
        return Verdict("stop", _name_of(self.members.scheduler), "the scheduler has nothing left to train")

    def _patience(self) -> float:
        """How long to wait for messages: until the wall-clock is spent, a moment at most."""
        if self.budget.seconds is None:
            return _TICK
        return min(_TICK, max(0.0, self.budget.seconds - self.record.seconds(self._clock())))

    def _drain(self, executor: Executor, tick: Callable[[float], None]) -> None:
        """The study is closing: let running trials save themselves, then end what is left."""
        deadline = executor.now() + self.policy.grace
        for number in self.record.running:
            executor.signal(number)
        while self.record.running and executor.now() < deadline:
            executor.wait(min(_TICK, max(0.0, deadline - executor.now())))
            tick(executor.now())
        for number in list(self.record.running):
            executor.kill(number)
        while self.record.running:
            executor.wait(_TICK)

    # ------------------------------------------------------------------ messages

    def deliver(self, messages: Sequence[Message]) -> None:
        """Fold what attempts said, make it durable in one commit, and answer."""
        self.journal.now = self._clock()
        for message in messages:
            self._handle(message)
        self.journal.commit()

    def _handle(self, message: Message) -> None:
        number, event = message.trial, message.event
        if self.record.states[number] is not State.RUNNING or self.record.attempts[number] != message.attempt:
            if not isinstance(event, Lost):  # a process that was given up: its word no longer counts
                self._answer(number, Reply(verdict=Verdict("stop", "fence", "this attempt was replaced"), keep=False))
            return
        match event:
            case events.Opened():
                self.journal.log(event)
                if event.step:
                    self._resume_cost[number] = self.journal.now - self._started_at.get(number, self.journal.now)
                self._answer(number, self._grant(number))
            case events.Reached():
                self.journal.log(event)
                self._answer(number, self._grant(number))
            case events.Reported():
                self._report(event)
            case events.Saved():
                self._save(event)
            case events.Ended() | Lost():
                self._end(number, message.attempt, event)
            case _:
                raise AssertionError(f"an attempt cannot say {type(event).__name__}")

    def _answer(self, number: int, reply: Reply) -> None:
        assert self._executor is not None
        self.journal.after_commit(partial(self._executor.reply, number, reply))

    def _report(self, event: events.Reported) -> None:
        curve = self.record.curves[event.trial]
        if self.record.objective.metric in event.metrics and len(curve) and event.step <= curve.last.step:
            error = f"Step {event.step} was reported after step {curve.last.step}."
            step = self.record.steps[event.trial]
            self._end(
                event.trial,
                event.attempt,
                events.Ended(event.trial, event.attempt, State.FAILED, step, cause="error", error=error),
            )
            return
        self.journal.log(event)
        self._answer(event.trial, self._standing(event.trial))

    def _standing(self, number: int) -> Reply:
        """The answer inside a slice: go on, unless the study is closing."""
        if self._judge().stop:
            return Reply(self.record.untils[number], self._closing_verdict(number), keep=self._worth_keeping(number))
        return Reply(self.record.untils[number])

    def _closing_verdict(self, number: int) -> Verdict:
        action = "pause" if self.record.can_pause[number] else "stop"
        return replace(self.closing, action=action, step=self.record.steps[number], value=None, limit=None)  # type: ignore[arg-type]

    def _worth_keeping(self, number: int) -> bool:
        return bool(self.record.losses[number] <= self.record.incumbent)

    def _grant(self, number: int) -> Reply:
        """The answer at an epoch boundary: how far the trial may go on, or that it may not."""
        record = self.record
        step, until = record.steps[number], record.untils[number]
        if self._judge().stop:
            return Reply(until, self._closing_verdict(number), keep=self._worth_keeping(number))
        horizon = record.horizons[number]
        if horizon is None or step >= horizon:
            return Reply(None)  # no epochs, or none left: nothing to cut
        unused = until is not None and until > step  # it was asked to speak, or resumes after a crash
        grant = Grant(until) if unused else self.members.scheduler.grant(number, record, self.context())
        offered = until if unused else self._worthwhile(number, grant.until)
        target = affordable_until(record, self.budget, number, offered)
        if target is None or target > step:
            if target != until:
                self.journal.log(events.Granted(number, record.attempts[number], target, grant.reason))
            return Reply(target)
        reason, rule = grant.reason, _name_of(self.members.scheduler)
        if grant.until is None or grant.until > step:
            reason, rule = "the epochs left are reserved by other trials", "budget"
        verdict = Verdict(
            "pause" if record.can_pause[number] else "stop",
            rule,
            reason,
            step=step,
            value=_in_units(record, grant.value),
            limit=_in_units(record, grant.limit),
        )
        return Reply(until, verdict, keep=self._worth_keeping(number))

    def _worthwhile(self, number: int, until: int | None) -> int | None:
        """Stretch the slice of a resumed trial until it outweighs what resuming cost."""
        cost, step, curve = self._resume_cost.pop(number, 0.0), self.record.steps[number], self.record.curves[number]
        if until is None or until <= step or cost < _NOTICEABLE or not len(curve):
            return until
        epoch = curve.last.seconds / max(1, curve.last.step)
        if epoch <= 0:
            return until
        stretched = max(until, step + math.ceil(_SLICE_PER_RESUME * cost / epoch))
        horizon = self.record.horizons[number]
        return stretched if horizon is None else min(stretched, horizon)

    def _save(self, event: events.Saved) -> None:
        replace_old(self.journal, replace(event, folder=f"{trial_name(event.trial)}/{CHECKPOINTS}/{event.folder}"))
        fault("coordinator-before-saved-commit")
        self._answer(event.trial, self._standing(event.trial))

    def _end(self, number: int, attempt: int, event: events.Ended | Lost) -> None:
        record = self.record
        if isinstance(event, Lost):
            seconds = self.journal.now - self._started_at.get(number, self.journal.now)
            event = events.Ended(
                number, attempt, State.FAILED, record.steps[number], seconds, cause=event.cause, error=event.detail
            )
        else:
            self._answer(number, Reply())
        if event.cause:
            event = replace(event, state=self._after_failure(number, event.cause))
        elif event.state is State.STOPPED and event.verdict.rule == "interrupt":
            event = replace(event, state=State.QUEUED)  # it could not be saved, so it begins anew
        elif event.state is State.PAUSED:
            event = replace(event, waits=event.verdict.rule == _name_of(self.members.scheduler))
        self.journal.log(event)
        self._started_at.pop(number, None)
        if event.state.ended:
            retain(self.journal, number, self.policy.keep_checkpoints)
            self._stop_if_hopeless(number)
        fault("coordinator-before-end-commit")

    def _after_failure(self, number: int, cause: str) -> State:
        if cause == "disk":
            self.failure = StoreFull(
                f"The disk of {self.record.folder} is full: a training could not save its state. Free some space and "
                "run the same command again: everything up to the last report is kept."
            )
            self.stop(Verdict("stop", "disk", "the disk is full"))
        if cause in ("cancelled", "disk"):  # no fault of the configuration: it goes on when the study does
            saved = "newest" in self.record.checkpoints.get(number, {})
            return State.PAUSED if saved else State.QUEUED
        return State.QUEUED if self.record.failures[number] < self.policy.retries else State.FAILED

    def _stop_if_hopeless(self, number: int) -> None:
        """Three trials failed and none got anywhere: the function is broken, not the configurations."""
        record = self.record
        failed = record.counts[State.FAILED]
        if failed < _FAILURES_IN_A_ROW or failed + len(record.running) + record.counts[State.QUEUED] < len(record):
            return
        if any(record.steps[trial] for trial in record.running):
            return
        folder = self.trial_folder(number)
        where = f" Its output: {folder}" if folder is not None else ""
        self.failure = TrainingError(
            f"The first {failed} trials all failed, so the study stops. The last one, trial {number} with "
            f"{self.record.params[number]}:\n{self.record.errors.get(number, '').rstrip()}\n{where}"
        )
        self.stop(Verdict("stop", "failures", f"the first {failed} trials all failed"))


def trial_seed(study_seed: int, number: int) -> int:
    """The seed of a trial, the same in every attempt."""
    digest = hashlib.blake2b(f"{study_seed}/{number}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")


def _name_of(member: object) -> str:
    """The member's name: that of its file."""
    return type(member).__module__.rpartition(".")[2]


def _in_units(record: Record, loss: float | None) -> float | None:
    return None if loss is None or not math.isfinite(loss) else record.objective.value(loss)
