"""What a user tells and asks a study: enqueue, open, hooks, checkpoints, verify, ask and tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import foretell as ft
from foretell import events
from foretell.errors import CheckpointError, SpaceError, StudyError, StudyMismatch, TrainingError
from foretell.run import Run
from foretell.stores.memory import MemoryStore
from foretell.study import Study
from foretell.trial import State
from tests.studies import SPACE, build, clock, ran, shown, study_of, train

__all__ = ["clock"]  # a fixture of every test here

# ---------------------------------------------------------------------- what the user tells it


def test_the_default_and_what_is_enqueued_come_first() -> None:
    study = study_of(default={"x": 0.25})
    assert study.enqueue({"x": 0.75}) == 1
    ran(study, "4 trials")
    assert [trial.params["x"] for trial in study.trials][:2] == [0.25, 0.75]
    assert study.record.origins == {"default": 1, "enqueued": 1, "random_search": 2}
    for wrong in ({"y": 1}, {"x": 2.0}, {}):
        with pytest.raises(SpaceError):
            study.enqueue(wrong)


def test_a_default_is_given_once() -> None:
    store = MemoryStore()
    for _ in range(2):
        study = ran(study_of(store=store, default={"x": 0.25}), "3 trials")
    assert [trial.params["x"] for trial in study.trials].count(0.25) == 1


@pytest.mark.parametrize(
    ("change", "what"),
    [({"minimize": "acc"}, "metric"), ({"minimize": None, "maximize": "loss"}, "direction")],
)
def test_another_study_of_the_same_name(change: dict[str, Any], what: str) -> None:
    store = MemoryStore()
    study_of(store=store)
    with pytest.raises(StudyMismatch, match=f"another {what}.*choose another name"):
        study_of(store=store, **change)
    with pytest.raises(StudyMismatch, match=r"another space"):
        Study(ft.Space(x=ft.Float(0, 2)), minimize="loss", store=store)
    assert study_of(store=store, name="other", **change).name == "other"


@pytest.mark.parametrize("metrics", [{}, {"minimize": "a", "maximize": "a"}])
def test_a_study_has_one_metric(metrics: dict[str, str]) -> None:
    with pytest.raises(StudyError, match="one metric"):
        Study(SPACE, **metrics)


def test_a_study_is_opened_from_its_store() -> None:
    store = MemoryStore()
    ran(study_of(store=store, name="one", seed=3, value="last"), "4 trials")
    opened = Study.open(store)
    assert shown(opened) == shown(study_of(store=store, name="one")) and opened.record.value_mode == "last"
    study_of(store=store, name="two")
    with pytest.raises(StudyError, match="one, two"):
        Study.open(store)
    with pytest.raises(StudyError, match="Did you mean 'one'"):
        Study.open(store, "onee")


def test_no_result_is_told() -> None:
    with pytest.raises(StudyError, match="No trial has a usable value"):
        study_of().best  # noqa: B018


def test_hooks_see_what_is_durable() -> None:
    reports: list[Any] = []
    ended: list[Any] = []
    study = ran(
        study_of(scheduler=ft.ASHA(3, 1)), "9 trials",
        on_report=lambda trial, step, metrics: reports.append((trial, step, metrics["loss"])),
        on_trial_end=ended.append,
    )  # fmt: skip
    assert len(reports) == study.record.epochs_spent
    assert [trial.number for trial in ended] == [trial.number for trial in study.trials if trial.state is State.DONE]
    assert all(trial.state is State.DONE and trial.step == 9 for trial in ended)


def test_a_hook_that_raises_is_not_the_trainings_fault() -> None:
    def hook(*_: Any) -> None:
        raise ZeroDivisionError("in the hook")

    study = study_of(retries=0)
    with pytest.raises(ZeroDivisionError, match="in the hook"):
        ran(study, "3 trials", on_report=hook)
    assert study.record.counts[State.FAILED] == 0


def test_a_hook_may_stop_and_enqueue() -> None:
    study = study_of()

    def hook(trial: ft.Trial) -> None:
        study.enqueue({"x": 0.125})
        if trial.number == 2:
            study.stop("seen enough")

    ran(study, None, on_trial_end=hook)
    assert [trial.params["x"] for trial in study.trials][1:] == [0.125] * 3
    assert study.verdict.reason == "seen enough" and study.record.counts[State.DONE] == 3


# ---------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("keep", [1, 3])
@pytest.mark.parametrize("scheduler", ["full", ft.ASHA(3, 1)])
def test_only_the_best_and_the_live_keep_their_weights(tmp_path: Path, keep: int, scheduler: Any) -> None:
    study = ran(study_of(store=MemoryStore(tmp_path), keep_checkpoints=keep, scheduler=scheduler), "14 trials")
    on_disk = {int(path.parent.parent.name) for path in tmp_path.glob("study/trials/*/checkpoints/*")}
    done = sorted((trial for trial in study.trials if trial.state is State.DONE), key=lambda trial: trial.value or 0)
    live = {trial.number for trial in study.trials if trial.state is State.PAUSED}
    assert on_disk == {trial.number for trial in done[:keep]} | live
    for trial in study.trials:
        folders = [*tmp_path.glob(f"study/trials/{trial.number:06d}/checkpoints/*")]
        assert len(folders) <= (1 if trial.state.ended else 2)
    model = {"w": np.zeros(2)}
    assert study.best.checkpoint is not None
    study.best.checkpoint.restore(model=model)
    assert model["w"][0] == study.best.values["w"]  # the curve falls, so the best is the last


def test_nothing_is_kept_without_a_store() -> None:
    study = ran(study_of(), "2 trials")
    folder = study.folder
    assert folder is not None and folder.exists()
    del study
    import gc

    gc.collect()
    assert not folder.exists()


# ---------------------------------------------------------------------- verify, dry run


def test_the_winner_is_measured_once_with_its_best_weights() -> None:
    calls = []

    def evaluate(run: Run) -> float:
        model = build(run)
        calls.append((run.params, model["w"][0]))
        return 0.5

    study = ran(study_of(), "4 trials")
    first, second = study.verify(evaluate), study.verify(evaluate)
    assert calls == [(study.best.params, study.best.values["w"])]
    assert (first.value, first.repeated, second.value, second.repeated) == (0.5, False, 0.5, True)
    assert "measured earlier" in str(second) and first.trial == study.best.number


@pytest.mark.parametrize("tracked", [True, False])
def test_untrained_weights_are_never_measured(tracked: bool) -> None:
    def function(run: Run) -> None:
        if tracked:
            build(run)
        for _ in run.epochs(2):
            run.report(loss=1.0)

    def evaluate(run: Run) -> float:
        run.track(net={"w": np.zeros(2)})
        return 0.0

    study = ran(study_of(), "1 trials", function)
    with pytest.raises(CheckpointError):
        study.verify(evaluate)
    assert study.verification is None


def test_a_dry_run_is_one_epoch_and_no_trial_of_the_study() -> None:
    study = study_of()
    trial = study.dry_run(train)
    assert trial.step == 1 and trial.value is not None and len(study.trials) == 0

    def broken(run: Run) -> None:
        raise ValueError("not yet")

    with pytest.raises(TrainingError, match="not yet"):
        study.dry_run(broken)


# ---------------------------------------------------------------------- ask and tell


def test_ask_and_tell() -> None:
    study = study_of()
    for _ in range(5):
        run = study.ask()
        trial = study.tell(run, run.params["x"])
        assert trial.state is State.DONE and trial.value == run.params["x"]
    assert study.best.value == min(trial.params["x"] for trial in study.trials)


def test_ask_and_tell_with_a_loop_and_a_scheduler() -> None:
    study = study_of(scheduler=ft.ASHA(3, 1))
    for _ in range(9):
        run = study.ask(stopping=ft.EpochLimit(7))
        for epoch in run.epochs(9):
            run.report(loss=run.params["x"] + 1 / (epoch + 1))
        study.tell(run)
    steps = [trial.step for trial in study.trials]
    assert set(steps) <= {1, 3, 7} and 7 in steps and 1 in steps
    assert all(trial.state is (State.DONE if trial.step == 7 else State.STOPPED) for trial in study.trials)


def test_several_runs_at_once_and_errors() -> None:
    study = study_of(retries=0)
    runs = [study.ask() for _ in range(3)]
    assert study.tell(runs[1], error="no").state is State.FAILED
    assert study.tell(runs[0], {"loss": 0.5}).value == 0.5
    with pytest.raises(ft.ForetellError, match="'loss'"):
        study.tell(runs[2])
    assert study.trials[2].state is State.RUNNING


def test_a_word_that_comes_too_late_is_refused() -> None:
    study = study_of()
    run = study.ask()
    study.tell(run, 1.0)
    with pytest.raises(StudyError):
        study.tell(run, 0.5)
    late = study.ask()
    ran(study, "3 trials")
    with pytest.raises(StudyError):
        study.tell(late, -5.0)
    assert study.best.value is not None and study.best.value > 0


def test_nothing_left_to_ask_for() -> None:
    study = Study(ft.Space(a=ft.Int(1, 2)), minimize="loss", sampler="grid_search", scheduler="full")
    for _ in range(2):
        study.tell(study.ask(), 1.0)
    with pytest.raises(StudyError, match=r"nothing left to try.*2 points"):
        study.ask()


# ---------------------------------------------------------------------- the functions


def test_minimize_and_maximize_are_studies() -> None:
    low = ft.minimize(train, "loss", SPACE, "3 trials", workers=0, progress="none", seed=2)
    high = ft.maximize(lambda run: run.params["x"], "acc", SPACE, "3 trials", workers=0, progress="none", seed=2)
    assert low.name == "train" and high.name == "study"
    assert high.objective.maximizes and high.best.value == max(trial.params["x"] for trial in high.trials)


def test_a_study_in_words() -> None:
    study = ran(study_of(scheduler=ft.ASHA(3, 1)), "2 trials")
    assert "RandomSearch(beliefs={})  (as asked for)" in study.explain()
    assert "minimize loss" in repr(study) and "2 trials" in repr(study)
    assert "ASHA(reduction_factor=3, first_rung=1, spare_twins=True)" in study.explain()
    log = [type(event) for event in logged(study)]
    assert log[0] is events.SessionStarted and log[-1] is events.Concluded


@pytest.mark.parametrize(
    ("space", "name", "why"),
    [
        (ft.Space(x=ft.Float(0, 1)), "GP(", "least training"),
        (ft.Space({f"x{number}": ft.Float(0, 1) for number in range(21)}), "TPE(", "21 parameters"),
        (ft.Space(x=1), "RandomSearch(", "nothing to search"),
    ],
)
def test_what_is_picked_by_itself_and_why(space: ft.Space, name: str, why: str) -> None:
    first, *_ = Study(space, minimize="loss").explain().splitlines()
    assert name in first and why in first


def logged(study: Study) -> list[Any]:
    return [study.record.event(position) for position in range(study.record.log_length())]


def test_a_study_made_with_members_of_its_own_asks_for_them_again() -> None:
    store = MemoryStore()
    Study(SPACE, minimize="loss", store=store, scheduler=ft.Hyperband(4))
    opened = Study.open(store)
    with pytest.raises(StudyError, match=r"made with scheduler=Hyperband\(reduction_factor=4.*pass it to Study.open"):
        opened.run(train, "1 trials", workers=0, progress="none")
    ran(Study.open(store, scheduler=ft.Hyperband(4)), "2 trials")


def test_a_stop_that_comes_while_the_terminator_thinks_is_heard() -> None:
    class Interrupted:
        def check(self, record: Any, context: Any) -> ft.Verdict:
            if record.epochs_spent == 2:
                study.stop("now")
            return ft.Verdict()

    study = study_of(terminator=Interrupted())
    ran(study, "9 trials")
    assert study.verdict.rule == "request" and study.verdict.reason == "now"
    assert study.record.epochs_spent < 4
