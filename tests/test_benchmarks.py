"""Every part of the benchmarks runs, and recorded trainings come out of their files as they went in."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from benchmarks import tables
from benchmarks.__main__ import PARTS, main
from benchmarks.figures import Figure, table
from foretell import Replay, Study

Needs = Callable[[str], ModuleType]
PACKAGES = {"ask_tell": ["optuna"], "report": ["optuna"], "durability": ["optuna"], "startup": ["optuna"]} | {
    "replay": ["optuna"], "processes": ["torch"], "memory": ["optuna"], "curves": ["torch", "pandas"],
    "search": ["optuna"],
    "full_fidelity": ["optuna", "cmaes"], "stopping": ["pandas", "pyarrow"],
    "bindings": ["keras", "tensorflow", "torch", "lightning", "transformers", "accelerate"],
}  # fmt: skip
ROWS, EPOCHS = 6, 4


# --- the files of each family, tiny -----------------------------------------------------------------------------------


def write_lcbench(data: Path) -> None:
    rng = np.random.default_rng(0)
    names = list(tables.LCBENCH)
    rows = np.array([[16.0 * 2**row, 1e-3, 0.5, 0.01, 1 + row % 4, 64.0, 0.1 * row] for row in range(ROWS)])
    losses = rng.random((2, ROWS, 1 + EPOCHS)).astype(np.float32)
    (data / "lcbench").mkdir()
    np.savez(data / "lcbench/some.npz", tasks=["a", "b"], hp_names=names, X=rows, val_cross_entropy=losses)


def write_taskset(data: Path) -> None:
    rng = np.random.default_rng(1)
    names = ["learning_rate", "beta1", "beta2", "epsilon", "l1", "l2", "linear_decay", "exponential_decay"]
    rows = np.array([[10.0 ** -(1 + row), 0.9, 0.999, 1e-8, 1e-3, 1e-3, 1e-5, 1e-5] for row in range(ROWS)])
    losses = rng.random((1, ROWS, 3, 1 + EPOCHS)).astype(np.float32)
    losses[0, 0, 1, 2:] = np.nan
    (data / "taskset").mkdir()
    np.savez(
        data / "taskset/some.npz", tasks=["t"], hp_names=names, X=rows, splits=["train", "valid", "test"], loss=losses
    )


def write_mlp(data: Path) -> None:
    rng = np.random.default_rng(2)
    curves = {name: rng.random((ROWS, EPOCHS)).astype(np.float32) for name in tables.MLP_CURVES}
    box = {"names": ["width", "lr"], "low": [8.0, 1e-4], "high": [64.0, 1.0], "log": [True, True]}
    rows = np.array([[8.0 + row, 1e-3 * (1 + row)] for row in range(ROWS)], np.float32)
    (data / "mlp_curves").mkdir()
    np.savez(data / "mlp_curves/digits.npz", X=rows, integer=[True, False], seconds=np.full(ROWS, 8.0), **box, **curves)


def write_frames(folder: Path, runs: list[dict[str, Any]], curves: list[dict[str, Any]], name: str) -> None:
    import pandas as pd

    folder.mkdir()
    pd.DataFrame(runs).to_csv(folder / "runs.csv.gz", index=False)
    pd.DataFrame(curves).to_parquet(folder / f"{name}.parquet")


def write_deepobs(data: Path) -> None:
    rates = [(lr, 42) for lr in (1e-3, 1e-2, 1e-1)] + [(1e-2, 43)]
    pairs = [(name, lr, seed) for name in ("Adam", "SGD") for lr, seed in rates]
    runs = [
        {"run": run, "problem": "p", "optimizer": name, "learning_rate": lr, "seed": seed}
        for run, (name, lr, seed) in enumerate(pairs)
    ]
    curves = [
        {"run": run, "epoch": epoch, "train_loss": 0.5, "test_loss": 10.0 * run + epoch, "test_acc": math.nan}
        for run in range(len(pairs))
        for epoch in range(1 + EPOCHS)
    ]
    write_frames(data / "deepobs", runs, curves, "epoch_curves")


def write_momo(data: Path) -> None:
    runs = [
        {"run": run, "dataset": "d", "model": "m", "optimizer": "lion", "lr": 10.0 ** -(run // 2), "run_id": run % 2}
        for run in range(ROWS)
    ]
    curves = [
        {"run": run, "epoch": epoch, "val_loss": 10.0 * run + epoch, "learning_rate": 0.1, "train_epoch_time": 2.0}
        for run in range(ROWS)
        for epoch in range(EPOCHS)
    ]
    write_frames(data / "momo_optimizers", runs, curves, "epoch_curves")


def write_lr_scheduling(data: Path) -> None:
    every, iterations = tables.ITERATIONS_PER_EPOCH, tables.ITERATIONS_PER_EPOCH * 5
    schedules = [("wsd", 0.0, 0), ("wsd", 0.4, 3), ("cos", 0.0, 0)]  # the cooldown was recorded from its third step on
    shapes = [(lr, *schedule) for lr in (1e-4, 1e-3) for schedule in schedules]
    runs, curves = [], []
    for run, (lr, scheduler, fraction, first) in enumerate(shapes):
        runs.append(
            {"run": run, "lr": lr, "scheduler": scheduler, "wsd_fract_decay": fraction, "iterations": iterations}
        )
        curves += [{"run": run, "iter": every * step, "val_loss": 10.0 * run + step} for step in range(first, 5)]
    curves.append({"run": 0, "iter": every, "val_loss": 0.5})  # trained again after an interruption
    write_frames(data / "llm_lr_schedules", runs, curves, "val_curves")


@pytest.fixture
def data(tmp_path: Path, needs: Needs) -> Path:
    needs("pandas")
    needs("pyarrow")
    folder = tmp_path / "data"
    folder.mkdir()
    for write in (write_lcbench, write_taskset, write_mlp, write_deepobs, write_momo, write_lr_scheduling):
        write(folder)
    return folder


# --- tables -----------------------------------------------------------------------------------------------------------


def test_every_family_gives_tasks_that_replay(data: Path) -> None:
    assert tables.families(data) == list(tables.FAMILIES)
    names = []
    for task in tables.load(data):
        study = Study(task.space, minimize=task.metric, sampler="random_search", scheduler="asha")
        study.run(lambda run: None, "3 trials", executor=Replay(task.recording), progress="none")
        assert len(study.trials) == 3
        assert {trial.horizon for trial in study.trials} == {task.horizon}
        names.append(task.name)
    families = ["lcbench/a", "lcbench/b", "taskset/t", "mlp/digits", "deepobs/p", "momo/d_m", "lr_scheduling/1000"]
    assert names == families


@pytest.mark.parametrize("family", tables.FAMILIES)
def test_a_recorded_configuration_gets_its_own_recording(data: Path, family: str) -> None:
    for task in tables.load(data, family):
        for encoded, values in zip(task.encoded, task.values, strict=True):
            recording = task.recording(task.space.decode(encoded))
            np.testing.assert_array_equal(recording.values, values)
            assert task.metric not in recording.metrics


def test_the_untrained_network_is_left_out(data: Path) -> None:
    with np.load(data / "lcbench/some.npz") as file:
        task = tables.load(data, "lcbench")[1]
        np.testing.assert_array_equal(task.values, file["val_cross_entropy"][1, :, 1:])
    with np.load(data / "taskset/some.npz") as file:
        task = tables.load(data, "taskset")[0]
        np.testing.assert_array_equal(task.values, file["loss"][0, :, 1, 1:])
        assert np.isnan(task.values[0, 1:]).all()
    assert tables.load(data, "deepobs")[0].values[:, 0].tolist() == [1, 11, 21, 41, 51, 61]
    assert tables.load(data, "momo")[0].values[:, 0].tolist() == [0, 20, 40]


def test_betas_are_searched_by_their_distance_from_one(data: Path) -> None:
    (task,) = tables.load(data, "taskset")
    params = task.space.decode(task.encoded[0])
    assert params["one_minus_beta1"] == pytest.approx(0.1)
    assert params["one_minus_beta2"] == pytest.approx(0.001)


def test_seconds_are_those_of_an_epoch(data: Path) -> None:
    mlp, momo, lcbench = (tables.load(data, family)[0] for family in ("mlp", "momo", "lcbench"))
    assert mlp.recording(mlp.space.decode(mlp.encoded[2])).epoch_seconds(3) == 2.0
    assert momo.recording(momo.space.decode(momo.encoded[1])).epoch_seconds(3) == 2.0
    assert lcbench.recording(lcbench.space.decode(lcbench.encoded[0])).epoch_seconds(1) == 1.0


def test_a_cooldown_begins_with_the_curve_of_the_constant_schedule(data: Path) -> None:
    (task,) = tables.load(data, "lr_scheduling")
    cooled = task.recording({"lr": 1e-4, "schedule": "wsd", "cooldown": 0.4})
    assert list(cooled.values) == [0.5, 2, 13, 14]
    assert list(task.recording({"lr": 1e-3, "schedule": "cosine"}).values) == [51, 52, 53, 54]


def test_smooth_is_a_mean_that_follows_the_nearest(data: Path) -> None:
    (task,) = tables.load(data, "mlp", smooth=True)
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = np.asarray(task.recording(task.space.sample(rng)).values)
        assert (values > task.values.min(axis=0)).all()
        assert (values < task.values.max(axis=0)).all()
    near = np.asarray(task.recording(task.space.decode(task.encoded[3])).values)
    assert (abs(near - task.values[3]) < abs(task.values.mean(axis=0) - task.values[3])).all()


def test_smooth_diverges_where_the_nearest_does(data: Path) -> None:
    (task,) = tables.load(data, "taskset", smooth=True)
    assert np.isnan(np.asarray(task.recording(task.space.decode(task.encoded[0])).values)[1:]).all()
    assert np.isfinite(task.recording(task.space.decode(task.encoded[1])).values).all()


def test_missing_data_say_where_they_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"--data.*FORETELL_DATA.*automl/LCBench.*step-back.*lr-scheduling"):
        tables.data_folder(tmp_path / "nowhere")
    monkeypatch.setenv(tables.VARIABLE, str(tmp_path))
    assert tables.data_folder() == tmp_path
    with pytest.raises(ValueError, match="no recordings of 'lcbench'; here are: none"):
        tables.load(tmp_path, "lcbench")


# --- figures ----------------------------------------------------------------------------------------------------------


def test_a_figure_stands_by_its_goals() -> None:
    assert Figure("a", "ms", 2.0, 6.0, goal=2.0).ratio == 3.0
    assert Figure("a", "ms", 2.0, goal=2.0).standing == "ok"
    assert Figure("a", "ms", 2.1, goal=2.0).standing == "short"
    assert Figure("a", "per s", 2.1, goal=2.0, more_is_better=True).standing == "ok"
    assert Figure("a", "per s", 40.0, 2.0, goal_ratio=20.0, more_is_better=True).standing == "ok"
    assert Figure("a", "per s", 39.0, 2.0, goal_ratio=20.0, more_is_better=True).standing == "short"
    assert Figure("a", "ms", None, goal=2.0).standing == "short"
    assert Figure("a", "ms", 2.0).standing == ""
    assert "3 x" in table([Figure("a", "ms", 2.0, 6.0)])


# --- the parts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_every_part_runs(
    part: str, data: Path, tmp_path: Path, needs: Needs, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in PACKAGES[part]:
        needs(package)
    result = tmp_path / "result.json"
    code = main([part, "--quick", "--data", str(data), "--json", str(result)])
    assert code == 0, capsys.readouterr().out
    figures = json.loads(result.read_text())["parts"][part]
    assert figures
    printed = capsys.readouterr().out
    for figure in figures:
        assert figure["ours"] > 0, figure["what"]
        assert figure["what"] in printed


def test_a_part_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["no_such_part"])
    assert "no_such_part" in capsys.readouterr().err
