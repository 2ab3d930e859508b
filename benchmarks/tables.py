"""Recorded trainings as tasks: a space, and the recording of any configuration in it, ready for `foretell.Replay`.

A configuration gets the recording of its nearest neighbour among those that were trained, or, if `smooth`, the
inverse-distance mean of the five nearest: then refining a good configuration pays, as it does in life, but the curves
are less noisy than real ones. All tasks are minimized, and every curve begins after the first epoch: with the untrained
network as its first point, a rung at "epoch 1" would choose at random.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from foretell import Choice, Float, Int, Recording, Space
from foretell.space import Spec

Array = NDArray[np.float64]
ROOT = Path(__file__).parents[1]
VARIABLE = "FORETELL_DATA"
NEIGHBOURS, SOFTENING = 5, 1e-6

LCBENCH: dict[str, Spec] = {
    "batch_size": Int(16, 512, log=True),
    "learning_rate": Float(1e-4, 1e-1, log=True),
    "momentum": Float(0.1, 0.99),
    "weight_decay": Float(1e-5, 1e-1),
    "num_layers": Int(1, 5),
    "max_units": Int(64, 1024, log=True),
    "max_dropout": Float(0.0, 1.0),
}
# Both betas were drawn by their distance from 1, on a log scale.
TASKSET: dict[str, Spec] = {
    "learning_rate": Float(1e-8, 10.0, log=True),
    "one_minus_beta1": Float(1e-4, 1.0, log=True),
    "one_minus_beta2": Float(1e-6, 1.0, log=True),
    "epsilon": Float(1e-10, 1e3, log=True),
    "l1": Float(1e-8, 10.0, log=True),
    "l2": Float(1e-8, 10.0, log=True),
    "linear_decay": Float(1e-7, 1e-4, log=True),
    "exponential_decay": Float(1e-6, 1e-3, log=True),
}
MLP_METRICS = {"digits": "val_err"}
MLP_CURVES = ("val_loss", "val_err", "train_loss", "train_err", "grad_norm")
ITERATIONS_PER_EPOCH = 200  # of the language models: how often they were validated
COOLED_FROM = "wsd"


@final
@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One search that can be replayed.

    Args:
        name: "family/task".
        space: of the recorded configurations.
        metric: to minimize.
        encoded: (n, d) recorded configurations in the unit cube.
        values: (n, epochs) the metric after each epoch; NaN where a training diverged.
        seconds: (n,) or (n, epochs) of one epoch; None where nobody wrote them down: then 1.
        others: other metrics by name, (n, epochs) each.
        smooth: the mean of the nearest instead of the nearest.
    """

    name: str
    space: Space
    metric: str
    encoded: Array
    values: Array
    seconds: Array | None = None
    others: Mapping[str, Array] = field(default_factory=dict)
    smooth: bool = False

    @property
    def horizon(self) -> int:
        """Epochs of a full training."""
        return int(self.values.shape[1])

    def recording(self, params: dict[str, Any]) -> Recording:
        """What a configuration would have done."""
        distances = ((self.encoded - self.space.encode(params)) ** 2).sum(axis=1)
        nearest = int(distances.argmin())
        seconds = 1.0 if self.seconds is None else self.seconds[nearest]
        values, others = self.values[nearest], {name: table[nearest] for name, table in self.others.items()}
        if self.smooth:
            values = _mean_of_nearest(self.values, distances)
            others = {name: _mean_of_nearest(table, distances) for name, table in self.others.items()}
        return Recording(values, float(seconds) if np.ndim(seconds) == 0 else seconds, others)


def _mean_of_nearest(table: Array, distances: Array) -> Array:
    """(epochs,) weighted by 1 / squared distance; it diverges where the nearest does, and ignores others that do."""
    order = np.argsort(distances, kind="stable")[:NEIGHBOURS]
    rows, weights = table[order], 1 / (distances[order, None] + SOFTENING)
    finite = np.isfinite(rows)
    weights = weights * finite
    with np.errstate(invalid="ignore"):
        mean = (weights * np.where(finite, rows, 0.0)).sum(axis=0) / weights.sum(axis=0)
    return np.where(finite[0], mean, np.nan)


# --- where the data are ----------------------------------------------------------------------------------------------


def data_folder(path: Path | None = None) -> Path:
    """The folder of recorded trainings: `path`, else $FORETELL_DATA, else `../shared/data` beside the project.

    Raises:
        FileNotFoundError: it is not there; says where the public originals come from.
    """
    variable = os.environ.get(VARIABLE)
    folder = path or (Path(variable) if variable else ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        origins = ", ".join(f"{family}/ from {family_.origin}" for family, family_ in FAMILIES.items())
        raise FileNotFoundError(
            f"There are no recorded trainings in {os.path.relpath(folder)}: give their folder with --data or "
            f"${VARIABLE}. The originals are public: {origins}; the loaders in benchmarks/tables.py say in which form."
        )
    return folder


def families(folder: Path) -> list[str]:
    """The families of which a folder has data."""
    return [name for name, family in FAMILIES.items() if (folder / family.folder).is_dir()]


def load(folder: Path, *names: str, smooth: bool = False) -> list[Task]:
    """The tasks of these families, or of all that are there.

    Args:
        folder: from `data_folder`.
        names: of families: lcbench, taskset, mlp, deepobs, momo, lr_scheduling.
        smooth: the inverse-distance mean of five recordings instead of the nearest one.

    Raises:
        ValueError: there is no such family, or no data of it; says what there is.
    """
    there = families(folder)
    for name in names:
        if name not in there:
            raise ValueError(f"There are no recordings of {name!r}; here are: {', '.join(there) or 'none'}.")
    tasks = [task for name in names or there for task in FAMILIES[name].tasks(folder / FAMILIES[name].folder)]
    return [replace(task, smooth=smooth) for task in tasks]


# --- one function a family -------------------------------------------------------------------------------------------


def lcbench(folder: Path) -> Iterator[Task]:
    """MLPs on tabular data; `val_cross_entropy` (tasks, n, 1 + epochs), its first column before training."""
    for file in sorted(folder.glob("*.npz")):
        data = _arrays(file)
        space = Space(LCBENCH)
        encoded = _encoded(space, data["hp_names"], data["X"])
        for index, name in enumerate(data["tasks"]):
            values = data["val_cross_entropy"][index, :, 1:].astype(float)
            yield Task(f"lcbench/{name}", space, "val_cross_entropy", encoded, values)


def taskset(folder: Path) -> Iterator[Task]:
    """Recurrent networks under Adam; `loss` (tasks, n, splits, 1 + checks), its first column before training."""
    for file in sorted(folder.glob("*.npz")):
        data = _arrays(file)
        space, valid = Space(TASKSET), list(data["splits"]).index("valid")
        betas = [str(name).startswith("beta") for name in data["hp_names"]]
        names = [f"one_minus_{name}" if beta else str(name) for name, beta in zip(data["hp_names"], betas, strict=True)]
        encoded = _encoded(space, names, np.where(betas, 1 - data["X"], data["X"]))
        for index, name in enumerate(data["tasks"]):
            yield Task(f"taskset/{name}", space, "valid_loss", encoded, data["loss"][index, :, valid, 1:].astype(float))


def mlp(folder: Path) -> Iterator[Task]:
    """Our own MLPs: one file a data set, with its box beside the configurations; `seconds` are of a whole run."""
    for file in sorted(folder.glob("*.npz")):
        data = _arrays(file)
        metric = MLP_METRICS.get(file.stem, "val_loss")
        parameters: dict[str, Spec] = {}
        for index, name in enumerate(data["names"].tolist()):
            low, high, log, integer = (data[key][index].item() for key in ("low", "high", "log", "integer"))
            parameters[name] = Int(int(low), int(high), log=log) if integer else Float(low, high, log=log)
        space, values = Space(parameters), data[metric].astype(float)
        others = {name: data[name].astype(float) for name in MLP_CURVES if name != metric}
        seconds, encoded = data["seconds"].astype(float) / values.shape[1], _encoded(space, data["names"], data["X"])
        yield Task(f"mlp/{file.stem}", space, metric, encoded, values, seconds, others)


def deepobs(folder: Path) -> Iterator[Task]:
    """Optimisers and learning rates on a problem; epoch 0 is before training; of ten seeds the first is taken."""
    runs, curves = _frames(folder, "epoch_curves")
    runs = runs.sort_values("seed", kind="stable").drop_duplicates(["problem", "optimizer", "learning_rate"])
    for problem, chosen in runs.groupby("problem"):
        tables = _by_run(curves[curves.epoch > 0], chosen.run, "epoch")
        yield _optimizer_task(f"deepobs/{problem}", chosen.optimizer, chosen.learning_rate, "test_loss", tables)


def momo(folder: Path) -> Iterator[Task]:
    """Optimisers and learning rates on a model; epoch 0 is the first trained one; of three seeds the first is taken."""
    runs, curves = _frames(folder, "epoch_curves")
    runs = runs.sort_values("run_id", kind="stable").drop_duplicates(["dataset", "model", "optimizer", "lr"])
    for (dataset, model), chosen in runs.groupby(["dataset", "model"]):
        tables = _by_run(curves, chosen.run, "epoch")
        seconds = tables.pop("train_epoch_time")
        del tables["learning_rate"]  # of the schedule, which is constant
        task = _optimizer_task(f"momo/{dataset}_{model}", chosen.optimizer, chosen.lr, "val_loss", tables)
        yield replace(task, seconds=seconds)


def lr_scheduling(folder: Path) -> Iterator[Task]:
    """Language models under cosine and warm-up-stable-decay schedules; an epoch is one validation.

    A cooldown began from a checkpoint of the constant schedule with the same rate, so its curve begins with that one's.
    """
    runs, curves = _frames(folder, "val_curves")
    curves = curves[curves.iter > 0].drop_duplicates(["run", "iter"], keep="last")
    losses = {run: curve.set_index("iter").val_loss.sort_index() for run, curve in curves.groupby("run")}
    constant = runs[(runs.scheduler == COOLED_FROM) & (runs.wsd_fract_decay == 0)].sort_values("iterations")
    trunks = {row.lr: losses[row.run] for row in constant.itertuples()}
    space = Space(
        lr=Float(float(runs.lr.min()), float(runs.lr.max()), log=True),
        schedule=Choice({"cosine": {}, COOLED_FROM: {"cooldown": Float(0.0, 1.0)}}),
    )
    runs = runs.sort_values("run").drop_duplicates(["iterations", "lr", "scheduler", "wsd_fract_decay"])
    for iterations, chosen in runs.groupby("iterations"):
        wanted = range(ITERATIONS_PER_EPOCH, iterations, ITERATIONS_PER_EPOCH)
        configurations, values = [], []
        for row in chosen.itertuples():
            loss = losses[row.run]
            if row.scheduler == COOLED_FROM and row.lr in trunks:
                loss = loss.combine_first(trunks[row.lr])
            loss = loss.reindex(wanted)
            if loss.isna().any():
                continue  # its beginning was not recorded
            cooled = row.scheduler == COOLED_FROM
            schedule = {"schedule": COOLED_FROM, "cooldown": row.wsd_fract_decay} if cooled else {"schedule": "cosine"}
            configurations.append({"lr": row.lr, **schedule})
            values.append(loss.to_numpy(float))
        if len(values) >= NEIGHBOURS:
            encoded = np.array([space.encode(params) for params in configurations])
            yield Task(f"lr_scheduling/{iterations}", space, "val_loss", encoded, np.array(values))


@final
@dataclass(frozen=True, slots=True)
class Family:
    """Where a family lies in the data folder, where it comes from, and how it is read."""

    folder: str
    origin: str
    tasks: Callable[[Path], Iterator[Task]]


FAMILIES = {
    "lcbench": Family("lcbench", "github.com/automl/LCBench", lcbench),
    "taskset": Family("taskset", "github.com/google-research/google-research (task_set)", taskset),
    "mlp": Family("mlp_curves", "our own runs", mlp),
    "deepobs": Family("deepobs", "github.com/fsschneider/DeepOBS_Baselines", deepobs),
    "momo": Family("momo_optimizers", "github.com/fabian-sp/step-back", momo),
    "lr_scheduling": Family("llm_lr_schedules", "github.com/fabian-sp/lr-scheduling", lr_scheduling),
}


# --- what they share -------------------------------------------------------------------------------------------------


def _arrays(file: Path) -> dict[str, NDArray[Any]]:
    with np.load(file, allow_pickle=False) as data:
        return dict(data)


def _frames(folder: Path, curves: str) -> tuple[Any, Any]:
    """The runs and their curves as data frames."""
    import pandas as pd  # noqa: PLC0415 -- the NumPy files are read without it

    return pd.read_csv(folder / "runs.csv.gz"), pd.read_parquet(folder / f"{curves}.parquet")


def _by_run(curves: Any, runs: Any, step: str) -> dict[str, Array]:
    """Each metric as (runs, steps), in the order of `runs`; without those that a problem does not have."""
    tables = {}
    for metric in curves.columns.drop(["run", step]):
        table = curves.pivot_table(index="run", columns=step, values=metric, dropna=False).reindex(runs)
        table = table.dropna(axis="columns", how="all")
        if len(table.columns):
            tables[str(metric)] = table.to_numpy(float)
    return tables


def _optimizer_task(name: str, optimizers: Any, rates: Any, metric: str, tables: dict[str, Array]) -> Task:
    space = Space(
        optimizer=Choice(sorted(optimizers.unique())),
        learning_rate=Float(float(rates.min()), float(rates.max()), log=True),
    )
    pairs = zip(optimizers, rates, strict=True)
    encoded = np.array([space.encode({"optimizer": optimizer, "learning_rate": rate}) for optimizer, rate in pairs])
    values = tables.pop(metric)
    others = {other: table for other, table in tables.items() if table.shape == values.shape}
    return Task(name, space, metric, encoded, values, others=others)


def _encoded(space: Space, names: Sequence[Any] | NDArray[Any], rows: NDArray[Any]) -> Array:
    """(n, d) rows of numbers in the unit cube; rounding may have moved them over the edge of the box."""
    parameters = {dimension.name: dimension.parameter for dimension in space.dimensions}
    encoded = []
    for row in rows.tolist():
        params: dict[str, Any] = {}
        for name, value in zip(names, row, strict=True):
            parameter = parameters[str(name)]
            assert isinstance(parameter, Float | Int), "a table of numbers has no choices"
            inside = min(max(value, parameter.low), parameter.high)
            params[str(name)] = round(inside) if isinstance(parameter, Int) else inside
        encoded.append(space.encode(params))
    return np.array(encoded)
