"""What every binding promises, as one table of scenarios; each framework's test file only says how to drive it.

A training here is a model that counts: each epoch adds 1 to what it holds, so that what is left at the end tells
whose weights it has. Its metric after an epoch is read off a list by that count, so that a resumed training reads on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import pytest

from foretell import ASHA, Float, Objective, Patience, PatienceLike, Run, Space, State, Study, Threshold, events
from foretell.attempt import attempt
from foretell.errors import MetricError
from foretell.executors import Reply, Task, Work
from foretell.run import SAVED_UNDER
from foretell.stopping import StoppingRule
from foretell.trial import Verdict


class BoomError(Exception):
    """What goes wrong inside a training."""


@dataclass(frozen=True)
class Job:
    """What is to be trained, and under which stopper.

    Args:
        values: the metric after each epoch, which are the epochs to train; None where nothing is measured (then every
            second is, from the second epoch on).
        run: what the binding is to report to; None if it is used alone, as the framework's early stopping is.
        patience: of the binding, by the framework's argument.
        stopping: a rule of foretell for the binding.
        maximize: whether the metric is a score, said in the framework's way. With a run, the run knows.
        misspelt: watch `Binding.metric + "x"`, which nobody measures.
        fails_in: epoch, from 1, in whose training BoomError is raised.
        rival: patience of the framework's own early stopping, which is used beside ours; it restores nothing.
    """

    values: Sequence[float | None]
    run: Run | None = None
    patience: int | None = None
    stopping: StoppingRule | None = None
    maximize: bool = False
    misspelt: bool = False
    fails_in: int | None = None
    rival: int | None = None

    @property
    def every(self) -> int:
        """Epochs between two measurements."""
        return 2 if self.values and self.values[0] is None else 1

    def value(self, held: int) -> float:
        """The metric of a model that holds so many epochs."""
        value = self.values[held - 1]
        assert value is not None, f"nothing is to be measured after epoch {held}"
        return value


class Training(Protocol):
    """A model and a binding, ready to train."""

    def fit(self) -> None:
        """Train as a user of the framework does; lets every exception out."""

    @property
    def run(self) -> Run:
        """What the binding reports to: the job's, or its own."""

    @property
    def trained(self) -> int:
        """Epochs trained by `fit`."""

    @property
    def held(self) -> int:
        """Epochs of training in the model that is left."""

    @property
    def moments(self) -> int | None:
        """Steps behind the optimiser that is left; None if there is no optimiser."""


class Binding(Protocol):
    """One framework. `promises` are those of PROMISES that it makes."""

    metric: str
    promises: frozenset[str]

    def prepare(self, job: Job) -> Training:
        """A fresh model, and a binding for it."""


PROMISES = {
    "exception": "the best weights are back after an exception inside the training",
    "resume": "a paused training goes on where it was",
    "late": "the metric need not be measured after every epoch",
    "rival": "the framework has an early stopping of its own, which can be used beside ours",
    "zero": "a training of no epochs is possible",
}
Scenario = Callable[[Binding], None]
SCENARIOS: list[tuple[Scenario, str | None]] = []


def scenario(promise: str | None = None) -> Callable[[Scenario], Scenario]:
    """Put a scenario on the table, for all bindings or for those that make a promise."""
    assert promise is None or promise in PROMISES

    def register(check: Scenario) -> Scenario:
        SCENARIOS.append((check, promise))
        return check

    return register


def cases(binding: Binding) -> Iterable[object]:
    """The scenarios of a binding, for `pytest.mark.parametrize("check", cases(BINDING))`."""
    assert binding.promises <= PROMISES.keys()
    kept = [check for check, promise in SCENARIOS if promise is None or promise in binding.promises]
    return [pytest.param(check, id=check.__name__) for check in kept]


def fitted(binding: Binding, job: Job) -> Training:
    training = binding.prepare(job)
    training.fit()
    return training


def watching(binding: Binding, stopping: StoppingRule | None = None) -> Run:
    return Run(minimize=binding.metric, stopping=stopping, seed=0)


def leaves(training: Training, *, trained: int, held: int) -> None:
    assert training.trained == trained
    assert training.held == held
    assert training.moments in (None, held), "the optimiser must be that of the weights"


# --- alone, as the framework's own early stopping --------------------------------------------------------------------


@scenario()
def stops_at_the_check_and_restores(binding: Binding) -> None:
    training = fitted(binding, Job((5, 4, 3, 6, 6, 6, 6, 6), patience=2))
    leaves(training, trained=5, held=3)
    assert training.run.verdict.rule == "patience"
    assert "epoch 3" in str(training.run.verdict.restored)


@scenario()
def restores_after_its_own_end(binding: Binding) -> None:
    training = fitted(binding, Job((5, 3, 4, 4), patience=10))
    leaves(training, trained=4, held=2)
    assert not training.run.verdict.stop


@scenario()
def the_last_may_be_the_best(binding: Binding) -> None:
    leaves(fitted(binding, Job((5, 4, 3), patience=2)), trained=3, held=3)


@scenario()
def a_score_is_to_grow(binding: Binding) -> None:
    training = fitted(binding, Job((0.1, 0.5, 0.3, 0.2, 0.9), patience=2, maximize=True))
    leaves(training, trained=4, held=2)
    assert training.run.best == 0.5


@scenario()
def any_rule_stops(binding: Binding) -> None:
    training = fitted(binding, Job((5, 4, 3, 2, 1), stopping=Threshold(3.5)))
    leaves(training, trained=3, held=3)
    assert training.run.verdict.rule == "threshold"


@scenario()
def a_dialect_stops_as_its_library(binding: Binding) -> None:
    small_gains = tuple(10 - 0.01 * epoch for epoch in range(9))
    keras = fitted(binding, Job(small_gains, stopping=PatienceLike("keras", patience=3, min_delta=0.025)))
    assert keras.trained == 9, "small gains add up"
    hf = fitted(binding, Job(small_gains, stopping=PatienceLike("hf", patience=3, min_delta=0.025)))
    assert hf.trained == 4, "small gains never count"


@scenario("exception")
def restores_after_an_exception(binding: Binding) -> None:
    training = binding.prepare(Job((5, 3, 4, 4, 4), patience=10, fails_in=4))
    with pytest.raises(BoomError):
        training.fit()
    assert training.held == 2


@scenario()
def a_misspelt_metric_is_named_beside_the_others(binding: Binding) -> None:
    training = binding.prepare(Job((5, 4, 3), patience=2, misspelt=True))
    with pytest.raises(MetricError, match=rf"{binding.metric}x.*Did you mean '{binding.metric}'"):
        training.fit()


@scenario()
def nan_from_the_first_epoch_ends_it(binding: Binding) -> None:
    training = fitted(binding, Job((math.nan,) * 4, patience=3))
    leaves(training, trained=1, held=1)
    assert training.run.verdict.rule == "diverged"
    assert training.run.best is None


@scenario()
def nan_is_never_the_best(binding: Binding) -> None:
    leaves(fitted(binding, Job((5, math.nan, 6), patience=3)), trained=2, held=1)


@scenario("zero")
def no_epoch_is_no_error(binding: Binding) -> None:
    leaves(fitted(binding, Job((), patience=2)), trained=0, held=0)


@scenario()
def a_patience_of_zero_bears_no_miss(binding: Binding) -> None:
    leaves(fitted(binding, Job((5, 4, 6, 3), patience=0)), trained=3, held=2)


@scenario("late")
def checks_count_and_not_epochs(binding: Binding) -> None:
    training = fitted(binding, Job((None, 5, None, 6, None, 6, None, 4), patience=2))
    leaves(training, trained=6, held=2)
    assert list(training.run.curve.steps) == [2, 4, 6]


@scenario("rival")
def restores_when_another_stops(binding: Binding) -> None:
    training = fitted(binding, Job((5, 3, 4, 2), patience=10, rival=1))
    leaves(training, trained=3, held=2)


@scenario("rival")
def stops_before_another(binding: Binding) -> None:
    training = fitted(binding, Job((5, 3, 4, 4, 4, 2), patience=2, rival=10))
    leaves(training, trained=4, held=2)


# --- with a run, as in a study ---------------------------------------------------------------------------------------


@scenario()
def every_check_is_reported(binding: Binding) -> None:
    run = watching(binding)
    training = fitted(binding, Job((5, 3, 4), run=run))
    leaves(training, trained=3, held=2)
    assert [(point.step, point.loss) for point in run.curve] == [(1, 5), (2, 3), (3, 4)]
    assert run.step == 3


@scenario()
def a_score_of_a_run_is_to_grow(binding: Binding) -> None:
    run = Run(maximize=binding.metric, stopping=Patience(2), seed=0)
    leaves(fitted(binding, Job((0.1, 0.5, 0.3, 0.2, 0.9), run=run)), trained=4, held=2)


@scenario()
def the_rule_of_a_run_stops(binding: Binding) -> None:
    leaves(fitted(binding, Job((5, 4, 3, 6, 6, 6), run=watching(binding, Patience(2)))), trained=5, held=3)


@scenario()
def a_rule_comes_on_top_of_that_of_a_run(binding: Binding) -> None:
    leaves(fitted(binding, Job((5, 4, 6, 6, 6), run=watching(binding, Patience(3)), patience=1)), trained=3, held=2)
    leaves(fitted(binding, Job((5, 4, 6, 6, 6), run=watching(binding, Patience(1)), patience=3)), trained=3, held=2)


@scenario("late")
def a_late_metric_reaches_a_run(binding: Binding) -> None:
    run = watching(binding)
    leaves(fitted(binding, Job((None, 3, None, 4, None), run=run)), trained=5, held=2)
    assert list(run.curve.steps) == [2, 4]


class Deciding:
    """Grants some epochs after each opening, and then decides; keeps what it is sent."""

    def __init__(self, folder: Path, action: str, after: int) -> None:
        self.folder, self.action, self.after = folder, action, after
        self.until = math.inf
        self.restore: dict[str, tuple[str, str, int]] = {}
        self.sent: list[events.Event] = []

    def send(self, event: events.Event) -> Reply:
        self.sent.append(event)
        if isinstance(event, events.Saved):
            at = (str(self.folder / SAVED_UNDER / event.folder), event.digest, event.step)
            self.restore |= {name: at for name in ("newest", "best") if getattr(event, name)}
        if isinstance(event, events.Opened):
            self.until = event.step + self.after
        if isinstance(event, events.Reached) or self.after == 0:
            return Reply(verdict=Verdict(self.action, "test", "as told"))  # type: ignore[arg-type]
        return Reply(until=int(self.until))

    def asked(self) -> bool:
        return False

    @property
    def ended(self) -> events.Ended:
        (ended,) = [event for event in self.sent if isinstance(event, events.Ended)]
        return ended

    @property
    def reported(self) -> list[int]:
        return [event.step for event in self.sent if isinstance(event, events.Reported)]


def attempted(
    binding: Binding, values: Sequence[float], link: Deciding, number: int = 1, curve: Sequence[object] = ()
) -> Training:
    trainings: list[Training] = []

    def train(run: Run) -> None:
        trainings.append(binding.prepare(Job(values, run=run)))
        trainings[0].fit()

    work = Work(train, Objective(binding.metric))
    attempt(work, Task(0, number, {}, 3, str(link.folder), dict(link.restore), list(curve)), link)  # type: ignore[arg-type]
    assert not link.ended.error, link.ended.error
    return trainings[0]


@scenario()
def a_study_stops_it_at_the_check(binding: Binding) -> None:
    with TemporaryDirectory() as folder:
        link = Deciding(Path(folder), "stop", after=3)
        leaves(attempted(binding, (5, 3, 4, 4, 4, 4), link), trained=3, held=2)
        assert link.ended.state == State.STOPPED
        assert link.ended.step == 3


@scenario()
def a_study_stops_it_before_it_begins(binding: Binding) -> None:
    with TemporaryDirectory() as folder:
        link = Deciding(Path(folder), "stop", after=0)
        training = attempted(binding, (5, 3, 4), link)
        assert training.trained <= 1, "some frameworks only look up behind a step"
        assert link.reported == []
        assert link.ended.state == State.STOPPED


@scenario("resume")
def resumed_equals_uninterrupted(binding: Binding) -> None:
    values = (5, 3, 4, 2, 6, 6)
    for pauses in ([1], [4, 1], [2, 0, 1]):
        with TemporaryDirectory() as folder:
            restore: dict[str, tuple[str, str, int]] = {}
            trained, steps, curve = 0, [], []
            for number, after in enumerate([*pauses, 99], start=1):
                link = Deciding(Path(folder), "pause", after)
                link.restore |= restore
                training = attempted(binding, values, link, number, curve)
                restore, trained, steps = link.restore, trained + training.trained, steps + link.reported
                curve = [tuple(point[:3]) for point in training.run.curve]
                assert link.ended.state == (State.DONE if after == 99 else State.PAUSED)
            assert (trained, steps) == (6, [1, 2, 3, 4, 5, 6])
            assert (training.held, training.moments) in ((4, 4), (4, None))
            assert list(training.run.curve.losses) == list(values)


@scenario("resume")
def a_whole_study_pauses_and_resumes(binding: Binding) -> None:
    def train(run: Run) -> None:
        level = run.params["level"]
        binding.prepare(Job([level + 4 - epoch for epoch in range(4)], run=run)).fit()

    space = Space(level=Float(0, 1))
    scheduler = ASHA(reduction_factor=2, first_rung=1)
    with TemporaryDirectory() as folder:
        study = Study(
            space, minimize=binding.metric, sampler="random_search", scheduler=scheduler, seed=0, store=folder, name="s"
        )
        study.run(train, "6 trials", workers=0, progress="none")
        assert not [trial.error for trial in study.trials if trial.error]
        assert any(trial.attempts > 1 for trial in study.trials), "nothing was paused: the scenario shows nothing"
        for trial in study.trials:
            assert list(trial.curve.steps) == list(range(1, trial.step + 1))
        assert study.best.step == 4
