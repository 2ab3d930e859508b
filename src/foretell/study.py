"""Study: a search over trainings under one budget, kept in a store, taken up again by running it again."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, final

from foretell import _family, _settings, events
from foretell._desk import CallDesk, CallLink
from foretell._hooks import Hooks, OnReport, OnTrialEnd
from foretell._interrupts import Interrupts
from foretell._roles import Members, Policy
from foretell.attempt import outcome
from foretell.budget import Budget
from foretell.coordinator import Coordinator, trial_seed
from foretell.errors import StudyError, TrainingError
from foretell.events import Event
from foretell.executors import Executor, Message, Reply, Task, Work
from foretell.journal import Journal
from foretell.objective import Objective
from foretell.progress import Watcher, automatic
from foretell.record import Record, Saving, Trials, ValueMode
from foretell.run import Run
from foretell.samplers import Sampler
from foretell.schedulers import Scheduler
from foretell.space import Space
from foretell.stopping import StoppingRule, require_rule
from foretell.stores import Store
from foretell.termination import Terminator
from foretell.trial import CONTINUE, State, Trial, Verdict, Verification


@final
class Study:
    """A search: space, objective, record and those who decide.

    Args:
        space: what is searched.
        minimize: name of the metric, if lower is better.
        maximize: name of the metric, if higher is better.
        name: of the study in its store.
        store: a folder, a `Store`, or None to keep nothing beyond this process.
        seed: same seed, same trials with one worker.
        sampler: "auto", a member's name, or a `Sampler`.
        scheduler: "auto", a member's name, or a `Scheduler`.
        terminator: "auto" (the budget alone), a member's name, or a `Terminator`.
        value: which point of a curve is a trial's value: "best", "last", or "auto", the best if weights are tracked.
        retries: how often a failing trial is tried again, with the same seed.
        keep_checkpoints: how many of the best ended trials keep their weights on disk.
        default: a configuration tried first.

    Raises:
        StudyMismatch: the store has a study of this name with another space, metric or direction.
    """

    def __init__(  # noqa: PLR0913 - what a study can be told, all of it by name
        self,
        space: Space,
        *,
        minimize: str | None = None,
        maximize: str | None = None,
        name: str = "study",
        store: str | Path | Store | None = None,
        seed: int = 0,
        sampler: str | Sampler = "auto",
        scheduler: str | Scheduler = "auto",
        terminator: str | Terminator = "auto",
        value: ValueMode = "auto",
        retries: int = 1,
        keep_checkpoints: int = 1,
        default: Mapping[str, Any] | None = None,
    ) -> None:
        if (minimize is None) == (maximize is None):
            raise StudyError("A study has one metric: give minimize='name' or maximize='name'.")
        objective = Objective(minimize or maximize or "", "minimize" if minimize is not None else "maximize")
        self.name = name
        self._store = self._opened(store)
        spec = _settings.specification(space, objective, seed, value, sampler, scheduler)
        _settings.create_or_check(self._store, name, objective, spec)
        folder = self._store.folder
        record = Record(space, objective, value, folder / name if folder is not None else None)
        asked = {"samplers": sampler, "schedulers": scheduler, "termination": terminator}
        members = Members(*(_settings.member(family, choice, space) for family, choice in asked.items()))
        self._why = [_settings.explained(family, choice, space) for family, choice in asked.items()]
        self._missing: dict[str, str] = {}
        self._watchers: list[Callable[[Event], None]] = []
        self._journal = Journal(name, self._store, record, self._observed)
        self._coordinator = Coordinator(self._journal, members, Policy(seed, retries, keep_checkpoints))
        self._journal.refresh()
        self._desk = CallDesk()
        if default is not None and not len(record):
            self.enqueue(default, origin="default")

    @classmethod
    def open(cls, store: str | Path | Store, name: str | None = None, **members: Any) -> Study:
        """A study that is in a store, to look at or to go on with.

        Args:
            store: its folder, or a `Store`.
            name: of the study; may be left out if there is one alone.
            members: sampler, scheduler, ... as for a new one; the stored names are used if left out.

        Raises:
            StudyError: there is no such study.
        """
        place = cls._opened(store)
        if name is None:
            names = place.names()
            if len(names) != 1:
                known = ", ".join(names) or "none"
                raise StudyError(f"The store holds {len(names)} studies ({known}): say which, e.g. name={names[:1]!r}.")
            name = names[0]
        spec = place.spec(name)
        functions = members.pop("constraints", ())
        space = Space.from_json(spec["space"], constraints=functions)
        direction = {str(spec["direction"]): spec["metric"]}
        named = {kind: spec[kind] for kind in ("sampler", "scheduler")}
        chosen = {kind: name for kind, name in named.items() if name in ("auto", *_family.names(f"{kind}s"))}
        settings: dict[str, Any] = {"seed": spec["seed"], "value": spec["value"], **direction, **chosen, **members}
        study = cls(space, name=name, store=place, **settings)
        study._missing = {kind: made for kind, made in named.items() if kind not in settings}
        return study

    # ------------------------------------------------------------------ reading

    @property
    def space(self) -> Space:
        """What is searched."""
        return self._journal.record.space

    @property
    def objective(self) -> Objective:
        """Which metric counts, and its direction."""
        return self._journal.record.objective

    @property
    def record(self) -> Record:
        """All that is known, in columns."""
        return self._journal.record

    @property
    def folder(self) -> Path | None:
        """Where the study's trainings keep checkpoints and logs."""
        return self.record.folder if self._store.folder is not None else None

    @property
    def trials(self) -> Trials:
        """All trials, each frozen as of the moment it is asked for."""
        return self.record.trials

    @property
    def best(self) -> Trial:
        """The winner: the best finished trial, or one whose best weights are kept.

        Raises:
            StudyError: no trial has a value yet.
        """
        number = self.record.best
        if number is None:
            counts = ", ".join(f"{count} {state}" for state, count in self.record.counts.items() if count) or "none"
            raise StudyError(f"No trial has a usable value yet (trials: {counts}): give the study a larger budget.")
        return self.record.trial(number)

    @property
    def verdict(self) -> Verdict:
        """Why the study ended the last time; `CONTINUE` if it has not."""
        return CONTINUE if self.record.concluded is None else self.record.concluded

    @property
    def verification(self) -> Verification | None:
        """What `verify` measured, or None."""
        verified = self.record.verified
        return None if verified is None else Verification(verified.trial, verified.value, repeated=True)

    @property
    def saving(self) -> Saving:
        """Epochs trained against epochs if every trial had been trained in full."""
        return self.record.saving

    def __repr__(self) -> str:
        return f"Study({self.name!r}, {self.objective.direction} {self.objective.metric}, {self.trials!r})"

    def explain(self) -> str:
        """Who decides in this study and who picked them, in words, a line each."""
        members = self._coordinator.members
        deciders = {"sampler": members.sampler, "scheduler": members.scheduler, "terminator": members.terminator}
        lines = [f"{what:10}  {who!r}  ({why})" for (what, who), why in zip(deciders.items(), self._why, strict=True)]
        return "\n".join([*lines, f"value       the {_VALUE[self.record.value_mode]} of each trial's curve"])

    # ------------------------------------------------------------------ running

    def run(  # noqa: PLR0913 - as above
        self,
        train: Callable[[Run], Any],
        budget: Budget | str | None = None,
        *,
        workers: int = 1,
        stopping: StoppingRule | None = None,
        gpus_per_run: int = 0,
        progress: str | Watcher = "auto",
        executor: Executor | None = None,
        on_report: OnReport | None = None,
        on_trial_end: OnTrialEnd | None = None,
    ) -> Study:
        """Train until the budget is spent or there is nothing left to do; a study that was broken off goes on.

        Args:
            train: called with a `Run` for each attempt.
            budget: over all sessions of the study, e.g. "30 min, 200 trials"; None means no limit.
            workers: trainings at once in processes of their own; 0 trains in this process, for the debugger.
            stopping: when a run ends itself, besides what the scheduler decides.
            gpus_per_run: CUDA devices each training sees.
            progress: "auto", "live", "plain", "none" or a `Watcher`.
            executor: instead of local processes, e.g. a `Replay`.
            on_report: called with trial number, step and metrics after each report.
            on_trial_end: called with each trial that has come to its end.

        Raises:
            TrainingError: the first three trials all failed.
            StoreBusy: another process runs this study.
            KeyboardInterrupt: after Ctrl-C, when everything is saved.
        """
        if stopping is not None:
            require_rule(stopping)
        self._require_members()
        limits, coordinator = Budget.of(budget), self._coordinator
        watcher: Watcher = _family.make("progress", automatic() if progress == "auto" else progress)
        runner = executor or _family.load("executors", "processes" if workers else "inline")(
            *((workers,) if workers else ()), **({"gpus_per_run": gpus_per_run} if workers else {})
        )
        hooks = Hooks(self.record, self.stop, on_report, on_trial_end)
        self._require_folder()
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._store.lock(self.name))
            self._journal.refresh()
            self._tell_of_changed_code(train)
            stack.enter_context(self._watched(watcher.happened, hooks.happened))
            stack.callback(runner.close)
            runner.open(Work(train, self.objective, stopping), coordinator.deliver)
            coordinator.begin_session(runner, _settings.digest_of(train))
            interrupts = stack.enter_context(Interrupts(coordinator.stop))
            watcher.begin(self.name, self.record, limits)
            try:
                coordinator.run(runner, limits, watcher.tick)
            finally:  # whatever is raised must find the terminal as it was
                watcher.end(coordinator.closing)
        interrupts.raise_again()
        hooks.raise_error()
        return self

    def dry_run(self, train: Callable[[Run], Any]) -> Trial:
        """One epoch of one configuration in this process, outside the study: does it report, can it be paused?

        Args:
            train: as for `run`.

        Returns:
            What came of it, as a trial that is not part of the study.

        Raises:
            TrainingError: it failed; the message is its traceback.
        """
        direction: dict[str, Any] = {self.objective.direction: self.objective.metric}
        scratch = Study(self.space, **direction, scheduler="full", retries=0, name="dry-run")
        scratch.run(train, "1 trials, 1 epochs", workers=0, progress="none")
        trial = scratch.trials[0]
        if trial.state is State.FAILED:
            raise TrainingError(f"The dry run failed:\n{trial.error}")
        return trial

    def enqueue(self, params: Mapping[str, Any], *, origin: str = "enqueued") -> int:
        """Have a configuration tried before anything else.

        Args:
            params: valid in the space.
            origin: kept with the trial, to tell where it came from.

        Returns:
            The number of its trial.
        """
        valid = self.space.validate(dict(params))
        with self._call():
            number = self._coordinator.create(valid, origin=origin)
            self._journal.commit()
        return number

    def stop(self, reason: str = "the program asked for it") -> None:
        """End a running study from a hook, as the end of its budget would."""
        self._coordinator.stop(Verdict("stop", "request", reason))

    # ------------------------------------------------------------------ ask and tell

    def ask(self, stopping: StoppingRule | None = None) -> Run:
        """The next configuration, as a `Run` for a loop of your own; finish it with `tell`.

        Args:
            stopping: when the run ends itself.

        Raises:
            StudyError: there is nothing left to try.
            StoreBusy: another process runs this study.
        """
        with self._call():
            task = self._coordinator.claim()
            self._journal.commit()
        if task is None:
            raise StudyError(f"The study has nothing left to try: {self._coordinator.exhausted or 'no trial is free'}.")
        work = Work(None, self.objective, stopping, can_pause=False)
        return Run.of_task(task, work, CallLink(self._exchange, task))

    def tell(self, run: Run, value: float | Mapping[str, float] | None = None, *, error: str | None = None) -> Trial:
        """End a run that `ask` gave out.

        Args:
            run: from `ask`.
            value: the objective, if it was not reported.
            error: what went wrong; the trial is tried again or fails.

        Returns:
            The trial as it stands now.

        Raises:
            MetricError: there is no value of the objective.
        """
        number, attempt = run.identity
        if self.record.states[number] is not State.RUNNING or self.record.attempts[number] != attempt:
            raise StudyError(f"Trial {number} is {self.record.states[number]}: this run was told already, or replaced.")
        if error is None:
            run.require_objective(value)
            run.conclude(keep=run.keep)
        state, cause = (outcome(run), "") if error is None else (State.FAILED, "error")
        ended = events.Ended(number, attempt, state, run.step, run.elapsed, run.verdict, cause, error or "")
        self._exchange(Message(number, attempt, ended))
        return self.record.trial(number)

    # ------------------------------------------------------------------ after the search

    def verify(self, evaluate: Callable[[Run], float]) -> Verification:
        """Measure the winner once, on data that no choice has seen; the figure is stored.

        Args:
            evaluate: called with a `Run` of the winner's parameters; `run.track(model=model)` gives the model its best
                weights; returns the figure.

        Returns:
            The figure; a second call returns the first and says so.
        """
        if self.verification is not None:
            return self.verification
        winner, record = self.best, self.record
        saved = record.checkpoints.get(winner.number, {}).get("best")
        place = {"best": record.checkpoint(saved).place} if saved is not None else {}
        seed = trial_seed(self._coordinator.policy.seed, winner.number)
        task = Task(winner.number, winner.attempts, winner.params, seed, restore=place, must_restore=True)
        run = Run.of_task(task, Work(None, self.objective), None)
        value = float(evaluate(run))
        with self._call():
            self._journal.log(events.Verified(winner.number, value))
            self._journal.commit()
        return Verification(winner.number, value)

    def to_dataframe(self) -> Any:
        """One row a trial: number, state, value, epochs, seconds, attempts, the parameters and the last metrics.

        Raises:
            MissingExtra: pandas is not installed.
        """
        return _family.load("plots", "table")(self)

    def plot(self, kind: str = "history", **options: Any) -> Any:
        """A matplotlib figure of the study.

        Args:
            kind: "history" (best against epochs and time) or "curves" (every run, stops and pauses marked).
            options: of the plot.

        Raises:
            MissingExtra: matplotlib is not installed.
        """
        return _family.load("plots", kind)(self, **options)

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()

    # ------------------------------------------------------------------ inside

    @staticmethod
    def _opened(store: str | Path | Store | None) -> Store:
        if store is None:
            memory: Store = _family.load("stores", "memory")(keep_log=False)
            return memory
        if isinstance(store, str | Path):
            place: Store = _family.load("stores", "sqlite")(store)
            return place
        return store

    def _tell_of_changed_code(self, train: Callable[[Run], Any]) -> None:
        if len(self.record) and self.record.code and _settings.digest_of(train) not in ("", self.record.code):
            first = f"Trials 0 to {len(self.record) - 1} were" if len(self.record) > 1 else "Trial 0 was"
            print(f"foretell: the training function has changed. {first} made by its earlier code.", file=sys.stderr)

    def _require_members(self) -> None:
        for kind, made in self._missing.items():
            raise StudyError(
                f"The study was made with {kind}={made}, which cannot be read back: pass it to Study.open."
            )

    def _require_folder(self) -> None:
        """Trainings need a place for checkpoints and output; without a store it goes away with this object."""
        if self._store.folder is None:
            self._store.folder = Path(tempfile.mkdtemp(prefix="foretell-"))
            self.record.folder = self._store.folder / self.name
            weakref.finalize(self._store, shutil.rmtree, self._store.folder, ignore_errors=True)

    @contextlib.contextmanager
    def _call(self) -> Iterator[CallDesk]:
        """The lock for one call; other processes may have written since the last."""
        if self._coordinator.busy:  # a hook of `run`, which holds the lock
            yield self._desk
            return
        with self._store.lock(self.name, wait=True):
            self._coordinator.attend(self._desk)
            yield self._desk

    @contextlib.contextmanager
    def _watched(self, *watchers: Callable[[Event], None]) -> Iterator[None]:
        self._watchers += watchers
        try:
            yield
        finally:
            for watcher in watchers:
                self._watchers.remove(watcher)

    def _observed(self, event: Event) -> None:
        for watcher in self._watchers:
            watcher(event)

    def _exchange(self, message: Message) -> Reply:
        """Deliver what a run from `ask` says, under the lock of one call."""
        with self._call() as desk:
            self._coordinator.deliver([message])
            return desk.replies.pop(message.trial)


_VALUE = {"auto": "best value, if its weights are tracked, else the last", "best": "best value", "last": "last value"}
