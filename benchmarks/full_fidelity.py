"""How good the best configuration is after so many full evaluations, beside Optuna's samplers in the same process.

Normalised regret of a task: 0 is its optimum (of a table: the best configuration measured), 1 the median of random
configurations. `python -m benchmarks.full_fidelity --seeds 20 --methods random tpe optuna_tpe` compares what it is told
and prints every task; as a part of `python -m benchmarks` it shows a few seeds.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from benchmarks import tables
from benchmarks.figures import Figure, Settings
from foretell import Choice, Float, Int, Space, Study

TITLE = "normalised regret after full evaluations, on functions, tables and conditional spaces"
MARKS = (25, 50, 100, 200)
NEIGHBOURS, SOFTENING, FAR = 5, 1e-6, 2.0
DRAWS = 4000  # random configurations that tell a task's scale
RESAMPLES = 2000

Array = NDArray[np.float64]
Params = dict[str, Any]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A search.

    Args:
        name: of the task.
        space: where.
        loss: of a configuration.
        best: the lowest loss there is, if it is known.
    """

    name: str
    space: Space
    loss: Callable[[Params], float]
    best: float = math.inf

    def scale(self, draws: int = DRAWS) -> tuple[float, float]:
        """(best, median): what regrets of 0 and 1 are."""
        rng = np.random.default_rng(0)
        losses = [self.loss(self.space.sample(rng)) for _ in range(draws)]
        return min(self.best, *losses), float(np.median(losses))


# --- functions --------------------------------------------------------------------------------------------------------


def branin(x: Array) -> float:
    a, b = x
    slope = b - 5.1 / (4 * math.pi**2) * a * a + 5 / math.pi * a - 6
    return float(slope**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(a) + 10)


HARTMANN_A = np.array([[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8],
                       [17, 8, 0.05, 10, 0.1, 14]])  # fmt: skip
HARTMANN_P = 1e-4 * np.array([[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
                              [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]])  # fmt: skip


def hartmann6(x: Array) -> float:
    return -float(np.array([1, 1.2, 3, 3.2]) @ np.exp(-(HARTMANN_A * (x - HARTMANN_P) ** 2).sum(axis=1)))


def ackley(x: Array) -> float:
    waves = math.exp(np.cos(2 * math.pi * x).mean())
    return -20 * math.exp(-0.2 * math.sqrt((x**2).mean())) - waves + 20 + math.e


def rosenbrock(x: Array) -> float:
    return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())


def levy(x: Array) -> float:
    w = 1 + (x - 1) / 4
    inner = (w[:-1] - 1) ** 2 * (1 + 10 * np.sin(math.pi * w[:-1] + 1) ** 2)
    last = (w[-1] - 1) ** 2 * (1 + math.sin(2 * math.pi * w[-1]) ** 2)
    return float(math.sin(math.pi * w[0]) ** 2 + inner.sum() + last)


def mixed_rastrigin(params: Params) -> float:
    """A choice shifts the centre and adds a floor; the optimum is 0, in no box's centre."""
    shift = {"a": 1.3, "b": -0.7, "c": 2.1, "d": 0.4}[params["kind"]]
    floor = {"a": 4.0, "b": 0.0, "c": 2.0, "d": 8.0}[params["kind"]]
    z = np.array([params[f"x{i}"] for i in range(3)]) - shift
    whole = (params["k0"] - 2) ** 2 + (params["k1"] + 3) ** 2
    waves = (z**2 - 4 * np.cos(2 * math.pi * z) + 4).sum()
    return float(waves + whole + 2 * (math.log10(params["scale"]) + 2.5) ** 2 + floor)


def conditional(params: Params) -> float:
    """Four branches of unequal depth and worth; the optimum is 0, under "sgd"."""
    rate = math.log10(params["lr"])
    if params["optimizer"] == "sgd":
        decay = 0.3 * (math.log10(params["decay"]) + 4) ** 2
        return float((rate + 1) ** 2 + 8 * (params["momentum"] - 0.9) ** 2 + decay)
    if params["optimizer"] == "adam":
        epsilon = 0.1 * (math.log10(params["epsilon"]) + 8) ** 2
        return float(0.4 + (rate + 3) ** 2 + 4 * (params["beta"] - 0.9) ** 2 + epsilon)
    if params["optimizer"] == "lbfgs":
        return float(1.0 + 0.3 * (rate + 1) ** 2 + 0.001 * (params["history"] - 20) ** 2)
    return 3.0 + 0.1 * rate * rate


def functions() -> Iterator[Task]:
    """The analytic tasks."""
    boxes: list[tuple[Callable[[Array], float], list[tuple[float, float]], float]] = [
        (branin, [(-5, 10), (0, 15)], 0.397887),
        (hartmann6, [(0, 1)] * 6, -3.32237),
        (ackley, [(-20, 32)] * 10, 0.0),
        (rosenbrock, [(-5, 10)] * 8, 0.0),
        (levy, [(-10, 10)] * 6, 0.0),
    ]
    for function, box, best in boxes:
        space = Space({f"x{i}": Float(low, high) for i, (low, high) in enumerate(box)})
        yield Task(function.__name__, space, partial(_of_numbers, function), best)
    numbers = {f"x{i}": Float(-4.0, 6.0) for i in range(3)}
    mixed = Space(
        **numbers, k0=Int(-5, 5), k1=Int(-5, 5), scale=Float(1e-4, 1.0, log=True), kind=Choice(["a", "b", "c", "d"])
    )
    yield Task("mixed_rastrigin", mixed, mixed_rastrigin, 0.0)
    sgd = {"momentum": Float(0.0, 0.99), "decay": Float(1e-6, 1e-1, log=True)}
    adam = {"beta": Float(0.5, 0.999), "epsilon": Float(1e-10, 1e-1, log=True)}
    branches = {"sgd": sgd, "adam": adam, "lbfgs": {"history": Int(1, 50)}, "none": {}}
    tree = Space(optimizer=Choice(branches), lr=Float(1e-6, 1.0, log=True))
    yield Task("conditional", tree, conditional, 0.0)


def _of_numbers(function: Callable[[Array], float], params: Params) -> float:
    return float(function(np.array(list(params.values()))))


# --- tables -----------------------------------------------------------------------------------------------------------

SKLEARN: dict[str, dict[str, Any]] = {
    "svm": {"C": Float(1e-3, 1e3, log=True), "gamma": Float(1e-5, 10.0, log=True),
            "kernel": Choice(["rbf", "poly", "sigmoid"]), "coef0": Float(0.0, 2.0)},
    "rf": {"max_depth": Int(1, 20), "max_features": Float(0.05, 1.0), "min_samples_leaf": Int(1, 50, log=True),
           "criterion": Choice(["gini", "entropy"])},
    "gb": {"n_estimators": Int(10, 150, log=True), "learning_rate": Float(5e-3, 1.0, log=True),
           "max_depth": Int(1, 6), "subsample": Float(0.3, 1.0), "max_features": Float(0.1, 1.0)},
    "mlp": {"hidden": Int(4, 128, log=True), "alpha": Float(1e-6, 10.0, log=True), "lr": Float(1e-4, 0.3, log=True),
            "batch": Int(16, 256, log=True), "activation": Choice(["relu", "tanh", "logistic"]),
            "momentum": Float(0.0, 0.99)},
}  # fmt: skip
XGBOOST = {
    "hp_log2_min_child_weight": Float(-8.0, 6.0), "hp_subsample": Float(0.5, 1.0),
    "hp_colsample_bytree": Float(0.3, 1.0), "hp_log2_gamma": Float(-20.0, 6.0), "hp_log2_lambda": Float(-10.0, 8.0),
    "hp_eta": Float(0.0, 1.0), "hp_max_depth_index": Int(0, 12), "hp_log2_alpha": Float(-20.0, 8.0),
}  # fmt: skip


@final
class Table:
    """The inverse-distance mean of the five nearest configurations that were measured; other options are far away."""

    def __init__(self, space: Space, configurations: Sequence[Params], values: Array) -> None:
        self.space, self.values = space, values
        self.choices = [
            (dimension.index, len(dimension.parameter.options))
            for dimension in space.dimensions
            if isinstance(dimension.parameter, Choice)
        ]
        self.points = np.array([self._place(params) for params in configurations])

    def _place(self, params: Params) -> Array:
        point = self.space.encode(params)
        # Halfway into its share each option lies; spread so that different ones are never neighbours.
        corners = [FAR * (np.arange(options) == int(point[index] * options)) for index, options in self.choices]
        for index, _ in self.choices:
            point[index] = 0.0
        return np.concatenate((point, *corners))

    def loss(self, params: Params) -> float:
        """At a configuration."""
        distances = ((self.points - self._place(params)) ** 2).sum(axis=1)
        nearest = np.argpartition(distances, NEIGHBOURS)[:NEIGHBOURS]
        weights = 1 / (distances[nearest] + SOFTENING)
        return float(weights @ self.values[nearest] / weights.sum())


def sklearn_tables(folder: Path) -> Iterator[Task]:
    """Cross-validated errors of scikit-learn's models; and which of them to take, as one conditional search."""
    found: dict[str, dict[str, Table]] = {}
    for file in sorted((folder / "sklearn_tables").glob("*.json")):
        data = json.loads(file.read_text())
        kind, _, data_set = file.stem.partition("_")
        table = Table(Space(SKLEARN[data["kind"]]), data["configs"], np.array(data["values"]))
        found.setdefault(data_set, {})[kind] = table
        yield Task(file.stem, table.space, table.loss, float(table.values.min()))
    for data_set, models in found.items():
        if len(models) > 1:
            branches = {kind: {f"{kind}_{name}": spec for name, spec in SKLEARN[kind].items()} for kind in models}
            space = Space(model=Choice(branches))
            best = min(float(table.values.min()) for table in models.values())
            yield Task(f"model_{data_set}", space, partial(_model_loss, models), best)


def _model_loss(models: Mapping[str, Table], params: Params) -> float:
    kind = params["model"]
    return models[kind].loss(
        {name.removeprefix(f"{kind}_"): value for name, value in params.items() if name != "model"}
    )


def xgboost_transfer(folder: Path) -> Iterator[Task]:
    """XGBoost on six data sets, 5,000 configurations each."""
    for file in sorted((folder / "xgboost_transfer").glob("*.parquet")):
        import pandas as pd  # noqa: PLC0415 -- the other tasks need it not

        space = Space(XGBOOST)
        for name, rows in pd.read_parquet(file).groupby("task"):
            configurations = rows[list(XGBOOST)].to_dict("records")
            table = Table(space, configurations, rows.metric_error.to_numpy(float))
            yield Task(f"xgboost_{name}", space, table.loss, float(table.values.min()))


def tasks(folder: Path | None) -> list[Task]:
    """All of which there are data."""
    found = list(functions())
    if folder is not None:
        found += [*sklearn_tables(folder), *xgboost_transfer(folder)]
    return found


# --- methods ----------------------------------------------------------------------------------------------------------


class Method(NamedTuple):
    """One study of a method: what it asks next, and how it hears the loss."""

    ask: Callable[[], tuple[Params, Callable[[float], object]]]


def _ours(sampler: str, space: Space, seed: int) -> Method:
    study = Study(space, minimize="loss", sampler=sampler, scheduler="full", seed=seed)

    def ask() -> tuple[Params, Callable[[float], object]]:
        run = study.ask()
        return run.params, partial(study.tell, run)

    return Method(ask)


def _optuna(sampler: str, space: Space, seed: int) -> Method:
    import optuna  # noqa: PLC0415 -- our own methods are measured without it

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # group and multivariate are called experimental
        samplers: dict[str, Callable[[], Any]] = {
            "tpe": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True),
            "cmaes": lambda: optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
            "gp": lambda: optuna.samplers.GPSampler(seed=seed),
        }
        study = optuna.create_study(sampler=samplers[sampler]())

    def ask() -> tuple[Params, Callable[[float], object]]:
        trial = study.ask()
        return _suggested(trial, space), partial(study.tell, trial)

    return Method(ask)


def _suggested(trial: Any, space: Space) -> Params:
    """A configuration by Optuna, which learns the tree of the space by being asked branch by branch."""
    params: Params = {}
    for dimension in space.dimensions:
        name, parameter = dimension.name, dimension.parameter
        if any(params.get(choice) != option for choice, option in dimension.condition):
            continue
        if isinstance(parameter, Choice):
            params[name] = trial.suggest_categorical(name, list(parameter.options))
        else:
            suggest = trial.suggest_int if isinstance(parameter, Int) else trial.suggest_float
            params[name] = suggest(name, parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return params


OURS = {"random": "random_search", "qmc": "qmc", "gp": "gp", "tpe": "tpe", "cmaes": "cmaes"}
THEIRS = {"optuna_tpe": "tpe", "optuna_cmaes": "cmaes", "optuna_gp": "gp"}
NEEDS = {"cmaes": ["cmaes"], "optuna_tpe": ["optuna"], "optuna_cmaes": ["optuna", "cmaes"]} | {
    "optuna_gp": ["optuna", "torch"]
}  # fmt: skip


def methods() -> list[str]:
    """Those whose packages are installed."""
    return [name for name in (*OURS, *THEIRS) if all(map(importlib.util.find_spec, NEEDS.get(name, [])))]


@final
@dataclass(frozen=True, slots=True)
class Search:
    """One study: the lowest loss after every evaluation, (n,), and CPU seconds of asking and telling, (n,)."""

    best: Array
    seconds: Array


def searched(method: str, task: Task, seed: int, evaluations: int) -> Search:
    """One study of a method, from nothing."""
    begin = _ours if method in OURS else _optuna
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = begin({**OURS, **THEIRS}[method], task.space, seed)
        losses, seconds = [], []
        for _ in range(evaluations):
            begun = time.process_time()
            params, tell = study.ask()
            asked = time.process_time() - begun
            losses.append(task.loss(params))
            begun = time.process_time()
            tell(losses[-1])
            seconds.append(asked + time.process_time() - begun)
    return Search(np.minimum.accumulate(losses), np.array(seconds))


# --- statistics -------------------------------------------------------------------------------------------------------

Results = dict[str, dict[str, list[Search]]]  # by method and task, a search a seed


def regrets(searches: Sequence[Search], scale: tuple[float, float], marks: Sequence[int]) -> Array:
    """(seeds, marks): 0 is the best there is, 1 the median random configuration."""
    best, median = scale
    rows = np.array([search.best[np.array(marks) - 1] for search in searches])
    return np.asarray((rows - best) / (median - best))


def mean_ranks(table: Mapping[str, Array]) -> dict[str, Array]:
    """By method, (marks,) its mean rank among the methods over tasks and seeds; ties share theirs.

    Args:
        table: by method, (tasks, seeds, marks) regrets.
    """
    from scipy.stats import rankdata  # noqa: PLC0415 -- only to sum up

    ranks = rankdata(np.stack(list(table.values())), axis=0)
    return {name: ranks[index].mean(axis=(0, 1)) for index, name in enumerate(table)}


def paired(ours: Array, theirs: Array, seed: int = 0) -> tuple[float, float, float, float]:
    """Mean difference of regrets (tasks, seeds), its 95 % interval by bootstrap over tasks, Wilcoxon's p over pairs."""
    from scipy.stats import wilcoxon  # noqa: PLC0415 -- as above

    differences = ours - theirs
    rng = np.random.default_rng(seed)
    of_tasks = differences.mean(axis=1)
    resampled = of_tasks[rng.integers(len(of_tasks), size=(RESAMPLES, len(of_tasks)))].mean(axis=1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    p = float(wilcoxon(differences.ravel()).pvalue) if np.any(differences) else 1.0
    return float(differences.mean()), float(low), float(high), p


def table_of(results: Results, scales: Mapping[str, tuple[float, float]], marks: Sequence[int]) -> dict[str, Array]:
    """By method, (tasks, seeds, marks) regrets, of the tasks and seeds that every method has."""
    names = [task for task in scales if all(by_task.get(task) for by_task in results.values())]
    seeds = min(len(by_task[task]) for by_task in results.values() for task in names)
    return {
        method: np.array([regrets(by_task[task][:seeds], scales[task], marks) for task in names])
        for method, by_task in results.items()
    }


# --- as a part, and as a program --------------------------------------------------------------------------------------


def measure(settings: Settings) -> Iterator[Figure]:
    """Our samplers beside Optuna's TPE: mean regret at each number of evaluations, and CPU time."""
    chosen = tasks(_folder(settings.data))
    marks, seeds = ((8, 12), 1) if settings.quick else (MARKS, 3)
    if settings.quick:
        chosen = [*chosen[:1], *chosen[5:8]]
    names = [name for name in methods() if not name.endswith("_gp") and name != "optuna_cmaes"]
    scales = {task.name: task.scale(200 if settings.quick else DRAWS) for task in chosen}
    results: Results = {
        name: {task.name: [searched(name, task, seed, marks[-1]) for seed in range(seeds)] for task in chosen}
        for name in names
    }
    table = table_of(results, scales, marks)
    for name in names:
        if name in THEIRS:
            continue
        for index, mark in enumerate(marks):
            theirs = float(table["optuna_tpe"][:, :, index].mean()) if "optuna_tpe" in table else None
            mean = float(table[name][:, :, index].mean())
            yield Figure(f"{name}: regret after {mark}", "of the median", mean, theirs, peer="Optuna TPE")
        yield Figure(f"{name}: one evaluation", "ms CPU", _milliseconds(results[name]))


def _folder(path: Path | None) -> Path | None:
    try:
        return tables.data_folder(path)
    except FileNotFoundError:
        return None  # the functions need no data


def _milliseconds(by_task: Mapping[str, Sequence[Search]]) -> float:
    return 1000 * float(np.mean([search.seconds.mean() for searches in by_task.values() for search in searches]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare methods at length; results are kept in a file, so that a run can be taken up again or extended."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full_fidelity", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=MARKS[-1])
    parser.add_argument("--methods", nargs="+", choices=[*OURS, *THEIRS], default=methods())
    parser.add_argument("--data", type=Path, help=f"folder of tables (${tables.VARIABLE}, else ../shared/data)")
    parser.add_argument("--json", type=Path, help="what was found, to go on from")
    options = parser.parse_args(arguments)
    chosen = tasks(_folder(options.data))
    kept: dict[str, list[Any]] = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    results: Results = {method: {task.name: [] for task in chosen} for method in options.methods}
    for seed in range(options.seeds):
        for task in chosen:
            for method in options.methods:
                key = f"{method} {task.name} {seed}"
                if len(kept.get(key, [[]])[0]) < options.evaluations:
                    found = searched(method, task, seed, options.evaluations)
                    kept[key] = [found.best.tolist(), found.seconds.tolist()]
                results[method][task.name].append(Search(*map(np.array, kept[key])))
        if options.json:
            options.json.write_text(json.dumps(kept))
        print(f"seed {seed} done", file=sys.stderr, flush=True)
    scales = {task.name: task.scale() for task in chosen}
    show(results, scales, [mark for mark in MARKS if mark <= options.evaluations])
    return 0


def show(results: Results, scales: Mapping[str, tuple[float, float]], marks: Sequence[int]) -> None:
    """Print every task, the means and ranks, and every pair of ours and theirs."""
    table = table_of(results, scales, marks)
    ranks = mean_ranks(table)
    print(
        f"\n{len(next(iter(table.values())))} tasks, {next(iter(table.values())).shape[1]} seeds, regret after {marks}"
    )
    for index, task in enumerate(scales):
        for method, rows in table.items():
            print(f"{task:24}{method:14}", *(f"{value:8.4f}" for value in rows[index].mean(axis=0)))
    print(f"\n{'mean regret, then mean rank, then CPU':38}")
    for method, rows in table.items():
        regret = " ".join(f"{value:8.4f}" for value in rows.mean(axis=(0, 1)))
        rank = " ".join(f"{value:6.2f}" for value in ranks[method])
        print(f"{method:14} {regret}   {rank}   {_milliseconds(results[method]):8.2f} ms")
    print("\nours - theirs: mean [95 % by bootstrap over tasks], Wilcoxon over task-seed pairs")
    for mine in (name for name in table if name in OURS):
        for other in (name for name in table if name != mine and (name in THEIRS or name == "random")):
            for index, mark in enumerate(marks):
                mean, low, high, p = paired(table[mine][:, :, index], table[other][:, :, index])
                print(f"{mine:8} - {other:14} {mark:5}  {mean:+.4f} [{low:+.4f}, {high:+.4f}]  p = {p:.2g}")


if __name__ == "__main__":
    sys.exit(main())
