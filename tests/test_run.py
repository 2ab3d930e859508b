"""A run alone: the same handle as in a study, for any loop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import foretell as ft
from foretell.errors import CheckpointError, MetricError, ReportError
from foretell.run import Run
from tests.conftest import needs

Weights = dict[str, Any]


def trained(run: Run, losses: list[float], *, name: str = "loss") -> Weights:
    """A model whose weight is the number of epochs it was trained; reports the losses given."""
    model = {"w": np.zeros(2)}
    run.track(model=model)
    for epoch in run.epochs(len(losses)):
        model["w"] += 1
        run.report({name: losses[epoch]})
    return model


# ---------------------------------------------------------------------- the front page


def test_the_example_of_the_front_page() -> None:
    run = ft.Run(minimize="loss", stopping=ft.Threshold(0.01) | ft.Patience(10))
    for epoch in run.epochs(1000):
        run.report(loss=1 / (epoch + 1))
    assert str(run.verdict) == "Stop: loss 0.01 reached the threshold 0.01 at epoch 100"
    assert (run.step, run.best, run.verdict.rule, run.verdict.step) == (100, 0.01, "threshold", 100)


def test_the_other_half_of_the_example() -> None:
    run = ft.Run(minimize="loss", stopping=ft.Threshold(0.01) | ft.Patience(10))
    for epoch in run.epochs(1000):
        run.report(loss=max(0.5, 1 - epoch / 10))
    assert run.verdict.rule == "patience" and run.step == 6 + 10
    assert "0.5" in run.verdict.reason


def test_a_maximised_metric_stops_as_its_mirror_does() -> None:
    values = [0.1, 0.5, 0.4, 0.45, 0.3, 0.9]
    up = ft.Run(maximize="m", stopping=ft.Patience(3))
    down = ft.Run(minimize="m", stopping=ft.Patience(3))
    for run, sign in ((up, 1), (down, -1)):
        for epoch in run.epochs(6):
            run.report(m=sign * values[epoch])
    assert up.step == down.step == 5
    assert up.best == 0.5 and down.best == -0.5
    assert up.verdict.limit == 0.5 and down.verdict.limit == -0.5


def test_a_loop_without_epochs_asks_for_stop() -> None:
    run = ft.Run(minimize="loss", stopping=ft.Patience(3))
    count = 0
    while not run.report(loss=1.0).stop:
        count += 1
        assert count < 10
    assert count == 3 and run.verdict.step == 4


def test_a_run_needs_no_metric() -> None:
    run = ft.Run({"lr": 0.1})
    assert [*run.epochs(3)] == [0, 1, 2]
    assert not run.verdict.stop and run.best is None and run.params == {"lr": 0.1}


# ---------------------------------------------------------------------- reports


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_ends_the_run(bad: float) -> None:
    run = ft.Run(minimize="loss", stopping=ft.Threshold(-1e300))
    model = trained(run, [3.0, 1.0, bad, 0.1])
    assert run.step == 3 and run.verdict.rule == "diverged" and str(bad) in run.verdict.reason
    assert run.best == 1.0 and model["w"].tolist() == [2.0, 2.0]


def test_metrics_of_one_epoch_merge_and_late_ones_count() -> None:
    run = ft.Run(minimize="loss", stopping=ft.Threshold(0.5))
    for epoch in run.epochs(9):
        verdict = run.report({"val/accuracy": 0.5, "grad": 1})
        assert not verdict.stop  # nothing is decided before the objective arrives
        verdict = run.report(loss=1.0 - epoch / 4)
        assert verdict.stop == (epoch == 2)
        run.report(late=3.0)
    assert run.step == 3 and run.curve.steps.tolist() == [1, 2, 3]


def test_a_metric_that_is_missing_in_some_epochs_is_fine() -> None:
    run = ft.Run(minimize="loss", stopping=ft.Patience(2))
    for epoch in run.epochs(20):
        if epoch % 5 == 0:
            run.report(loss=1.0)
    assert run.curve.steps.tolist() == [1, 6, 11] and run.step == 11  # patience counts checks, not epochs


def test_twice_in_one_epoch_is_an_error_that_names_the_cure() -> None:
    run = ft.Run(minimize="loss")
    for _ in run.epochs(2):
        run.report(loss=1.0)
        with pytest.raises(ReportError, match=r"'loss' was reported twice at step \d.*run\.log"):
            run.report(loss=0.5)


def reported(run: Run, n: int) -> Iterator[int]:
    for epoch in run.epochs(n):
        run.report(loss=1.0)
        yield epoch


def test_a_report_before_the_loop_takes_step_0() -> None:
    run = ft.Run(minimize="loss")
    run.report(loss=9.0, step=0)
    assert [*reported(run, 3)] == [0, 1, 2] and run.curve.steps.tolist() == [0, 1, 2, 3]


def test_a_report_before_the_loop_never_costs_an_epoch_silently() -> None:
    run = ft.Run(minimize="loss")
    run.report(loss=9.0)
    with pytest.raises(ReportError, match="step=0"):
        run.epochs(3)


def test_what_is_measured_after_the_loop_is_no_further_epoch() -> None:
    run = ft.Run(minimize="loss")
    for _ in run.epochs(3):
        run.report(loss=1.0)
    run.report(test_accuracy=0.5)
    run.report(loss=0.9)
    assert run.step == 3 and run.curve.steps.tolist() == [1, 2, 3]


def test_steps_of_loops_without_epochs() -> None:
    run = ft.Run(minimize="loss")
    run.report(loss=3.0)
    run.report(other=1.0)
    run.report(loss=2.0)
    run.report(loss=1.0, step=10)
    run.report(other=2.0, step=np.int64(10))
    assert run.curve.steps.tolist() == [1, 2, 10] and run.step == 10
    for step in (9, -1, 1.5, True):
        with pytest.raises(ReportError):
            run.report(loss=0.5, step=step)  # type: ignore[arg-type]


def test_a_step_given_within_epochs_must_be_that_epoch() -> None:
    run = ft.Run(minimize="loss")
    for epoch in run.epochs(2):
        run.report(loss=1.0, step=epoch)
        run.report(other=1.0, step=epoch + 1)
        with pytest.raises(ReportError, match=r"leave it out.*run\.log"):
            run.report(batch=1.0, step=epoch + 7)


@pytest.mark.parametrize(
    "value",
    [1, 1.5, True, Fraction(1, 2), np.float32(0.5), np.int8(3), np.array(0.5), np.array([[0.5]]), np.bool_(True)],
)
def test_numbers_of_many_kinds(value: Any) -> None:
    run = ft.Run(minimize="loss")
    run.report(loss=value)
    assert run.best == getattr(value, "item", lambda: value)() and type(run.best) is float


def test_torch_scalars_are_numbers() -> None:
    torch = needs("torch")
    run = ft.Run(minimize="loss")
    run.report(loss=torch.tensor(0.5, requires_grad=True), other=torch.tensor([2], dtype=torch.int32))
    assert run.best == 0.5
    with pytest.raises(ReportError, match="'loss'"):
        run.report(loss=torch.zeros(2))


@pytest.mark.parametrize("value", [None, "0.5", b"1", np.zeros(2), [1.0], {}, 1j, np.complex128(1), 10**400, object()])
def test_what_is_no_number_is_refused(value: Any) -> None:
    run = ft.Run(minimize="loss")
    with pytest.raises(ReportError, match=r"'loss' is .*not a number"):
        run.report(loss=value)
    assert run.best is None


def test_a_report_of_nothing() -> None:
    with pytest.raises(ReportError, match="at least one"):
        ft.Run().report()


def test_log_decides_nothing() -> None:
    run = ft.Run(minimize="loss", stopping=ft.Threshold(0.5))
    for _ in run.epochs(2):
        run.log(loss=0.1, grad=2)
        run.log(loss=0.2)
        run.report(loss=1.0)
    assert not run.verdict.stop and run.logged == {"loss": [0.1, 0.2] * 2, "grad": [2.0, 2.0]}


def test_the_first_verdict_stays() -> None:
    run = ft.Run(minimize="loss", stopping=ft.Threshold(0.5) | ft.Patience(1))
    for loss in (0.4, 0.45, 1.0):
        run.report(loss=loss)
    assert run.verdict.rule == "threshold" and run.verdict.step == 1


# ---------------------------------------------------------------------- what a run refuses


@pytest.mark.parametrize(
    ("settings", "error", "cure"),
    [
        ({"minimize": "a", "maximize": "b"}, MetricError, "not both"),
        ({"stopping": ft.Patience(3)}, MetricError, "needs a metric"),
        ({"minimize": "a", "stopping": 3}, TypeError, r"ft\.Patience"),
        ({"minimize": "a", "stopping": ft.Patience}, TypeError, r"ft\.Patience"),
        ({"minimize": ""}, TypeError, "non-empty"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], error: type[Exception], cure: str) -> None:
    with pytest.raises(error, match=cure):
        ft.Run(**settings)


@pytest.mark.parametrize(("n", "start"), [(-1, 0), (3, 4), (3, -1)])
def test_loops_that_make_no_sense(n: int, start: int) -> None:
    with pytest.raises(ReportError, match="first epoch"):
        ft.Run().epochs(n, start=start)


def test_one_loop_a_run_and_tracking_before_it() -> None:
    run = ft.Run()
    for _ in run.epochs(1):
        with pytest.raises(ReportError, match="once the objects are built"):
            run.track(model={"w": np.zeros(1)})
    with pytest.raises(ReportError, match="one loop"):
        run.epochs(1)
    other = ft.Run()
    other.track(model={"w": np.zeros(1)})
    with pytest.raises(CheckpointError, match="one call"):
        other.track(other={"w": np.zeros(1)})


def test_a_verdict_cannot_be_mistaken_for_true() -> None:
    run = ft.Run(minimize="loss")
    with pytest.raises(TypeError, match=r"verdict\.stop"):
        bool(run.report(loss=1.0))


# ---------------------------------------------------------------------- best weights


LOSSES = [3.0, 1.0, 2.0, 2.5, 2.6]


def test_best_weights_are_back_after_the_horizon() -> None:
    run = ft.Run(minimize="loss")
    assert trained(run, LOSSES)["w"].tolist() == [2.0, 2.0] and run.step == 5


def test_best_weights_are_back_after_a_stop_and_the_verdict_says_so() -> None:
    run = ft.Run(minimize="loss", stopping=ft.Patience(2))
    assert trained(run, LOSSES)["w"].tolist() == [2.0, 2.0] and run.step == 4
    assert run.verdict.restored == "best weights of epoch 2 restored"
    assert str(run.verdict).endswith("; best weights of epoch 2 restored")


@pytest.mark.parametrize("reported_first", [True, False])
@pytest.mark.parametrize(("last", "kept"), [(1, 2), (2, 2), (4, 2)])
def test_best_weights_are_back_after_break(last: int, kept: int, reported_first: bool) -> None:
    run, model = ft.Run(minimize="loss"), {"w": np.zeros(2)}
    run.track(model=model)
    for epoch in run.epochs(5):
        model["w"] += 1
        if epoch == last and not reported_first:
            break
        run.report(loss=LOSSES[epoch])
        if epoch == last:
            break
    expected = 1 if last == 1 and not reported_first else kept  # what was not measured cannot be the best
    assert model["w"].tolist() == [expected, expected]
    assert run.step == (last + 1 if reported_first else last)


def test_break_on_the_verdict_keeps_the_weights_that_reached_the_goal() -> None:
    run, model = ft.Run(minimize="loss", stopping=ft.Threshold(1.0)), {"w": np.zeros(2)}
    run.track(model=model)
    for epoch in run.epochs(5):
        model["w"] += 1
        if run.report(loss=LOSSES[epoch]).stop:
            break
    assert model["w"].tolist() == [2.0, 2.0]


def test_best_weights_are_back_after_an_exception() -> None:
    run, model = ft.Run(minimize="loss"), {"w": np.zeros(2)}
    run.track(model=model)
    with pytest.raises(ValueError, match="boom"):  # noqa: PT012
        for epoch in run.epochs(5):
            model["w"] += 1
            if epoch == 3:
                raise ValueError("boom")
            run.report(loss=LOSSES[epoch])
    assert model["w"].tolist() == [2.0, 2.0]


def test_nobody_gets_weights_back_who_does_not_want_them() -> None:
    run = ft.Run(minimize="loss", restore_best=False)
    assert trained(run, LOSSES)["w"].tolist() == [5.0, 5.0]


def test_best_weights_of_a_torch_model_and_what_it_computes() -> None:
    torch = needs("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    run, inputs = ft.Run(maximize="score"), torch.randn(8, 3)
    run.track(model=model, optimizer=optimizer)
    best = None
    for epoch in run.epochs(6):
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
        run.report(score=[1.0, 5.0, 2.0, 5.0, 3.0, 4.0][epoch])  # the first of equals is the best
        if epoch == 1:
            best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert best is not None
    assert all(torch.equal(tensor, best[name]) for name, tensor in model.state_dict().items())
    assert optimizer.state_dict()["state"][0]["step"] == 2


def test_no_epochs_at_all() -> None:
    run = ft.Run(minimize="loss")
    model = {"w": np.full(2, 7.0)}
    run.track(model=model)
    assert not [*run.epochs(0)]
    assert model["w"].tolist() == [7.0, 7.0] and run.step == 0 and not run.verdict.stop


def test_what_cannot_be_saved_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    run = ft.Run(minimize="loss")
    run.track(model={"w": np.zeros(1)}, lock=object())
    assert capsys.readouterr().out.count("lock cannot be saved") == 1


def test_an_epoch_number_to_begin_with() -> None:
    assert [*ft.Run().epochs(5, start=2)] == [2, 3, 4]


# ---------------------------------------------------------------------- a folder


def noisy(
    folder: Path | None, *, dies_in: int | None = None, epochs: int = 14, seed: int | None = 5
) -> tuple[Run, Any]:
    """A training whose every epoch draws from all generators there are, so that a wrong resume shows."""
    run = ft.Run(minimize="loss", folder=folder, seed=seed, stopping=ft.Patience(9))
    model = {"w": np.zeros(3), "n": np.zeros((), np.int64)}
    own = np.random.default_rng(1)
    run.track(model=model, own=own)
    start = run.rng.random()  # between track and the loop: not to be drawn twice
    np.random.seed(int(start * 1000))
    for epoch in run.epochs(epochs):
        model["w"] += run.rng.normal(size=3) + own.random() + np.random.random() * start
        model["n"] += 1
        if epoch == dies_in:
            raise KeyError("killed")
        run.report(loss=float(np.abs(model["w"]).sum()), n=model["n"])
    return run, model


@pytest.fixture
def _every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after each epoch, whatever the clock says."""
    monkeypatch.setattr("foretell._keeper._SHARE", math.inf)


@pytest.fixture
def _never(monkeypatch: pytest.MonkeyPatch) -> None:
    """No checkpoint that nobody asked for."""
    monkeypatch.setattr("foretell._keeper._SHARE", -math.inf)


@pytest.mark.usefixtures("_every_epoch")
@pytest.mark.parametrize("deaths", [[7], [0], [9], [3, 3, 8]])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path, deaths: list[int]) -> None:
    expected_run, expected = noisy(None)
    for death in deaths:
        with pytest.raises(KeyError):
            noisy(tmp_path / "run", dies_in=death)
    run, model = noisy(tmp_path / "run")
    assert run.resumed == (max(deaths) > 0)
    for name, array in expected.items():
        np.testing.assert_array_equal(model[name], array)
    assert [point[:2] for point in run.curve] == [point[:2] for point in expected_run.curve]
    assert (run.verdict.rule, run.verdict.step, run.step) == (
        expected_run.verdict.rule, expected_run.verdict.step, expected_run.step,
    )  # fmt: skip


@pytest.mark.usefixtures("_never")
def test_a_run_that_kept_only_its_best_can_be_made_again(tmp_path: Path) -> None:
    first, model = noisy(tmp_path)
    again, same = noisy(tmp_path)
    np.testing.assert_array_equal(model["w"], same["w"])
    assert again.step == first.step


@pytest.mark.usefixtures("_every_epoch")
def test_a_resumed_run_has_the_seed_it_had(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        noisy(tmp_path, dies_in=4, seed=None)
    seeds = {noisy(tmp_path, epochs=6, seed=None)[0].seed for _ in range(2)}
    assert len(seeds) == 1


@pytest.mark.usefixtures("_every_epoch")
def test_a_folder_does_not_grow(tmp_path: Path) -> None:
    run, _ = noisy(tmp_path)
    assert run.folder == tmp_path
    assert len([*(tmp_path / "checkpoints").iterdir()]) <= 2


@pytest.mark.usefixtures("_every_epoch")
def test_a_run_that_goes_on_must_track_what_it_tracked(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        noisy(tmp_path, dies_in=4)
    with pytest.raises(CheckpointError, match=r"run\.track was not called"):
        ft.Run(minimize="loss", folder=tmp_path).epochs(10)
    run = ft.Run(minimize="loss", folder=tmp_path)
    with pytest.raises(CheckpointError, match="same names"):
        run.track(other={"w": np.zeros(3)})


def test_a_damaged_folder_names_the_cure(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(CheckpointError, match="move the folder away"):
        ft.Run(minimize="loss", folder=tmp_path)


def test_logged_values_lie_in_the_folder(tmp_path: Path) -> None:
    run = ft.Run(minimize="loss", folder=tmp_path)
    for epoch in run.epochs(2):
        run.log(batch=epoch)
        run.report(loss=1.0)
    assert (tmp_path / "log.jsonl").read_text().splitlines() == [
        '{"epoch": 1, "batch": [0.0]}', '{"epoch": 2, "batch": [1.0]}',
    ]  # fmt: skip
    assert run.logged == {}


def test_a_seed_makes_the_random_numbers(tmp_path: Path) -> None:
    assert ft.Run(seed=3).rng.random() == np.random.default_rng(3).random() == ft.Run(seed=3).rng.random()
    assert ft.Run().seed != ft.Run().seed
