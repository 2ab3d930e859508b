"""Fit the gate of `curve_models/mixture` to recorded trainings: `python -m benchmarks.fit_mixture [--data PATH]`.

Prefixes of recorded curves, alone and among others of their task, are shown to the experts; what the gate trusts them,
and what each is off and how wide, maximises the likelihood of what came. Families and tasks count alike, however many
recordings they have.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from benchmarks import tables
from benchmarks.tables import Task
from foretell.curve import Curve
from foretell.curve_models import _runs
from foretell.curve_models._experts import NAMES, Opinions, ask
from foretell.curve_models._runs import LEVELS, Runs

Array = NDArray[np.float64]
Of = Literal["final", "best"]
FILE = Path(__file__).parents[1] / "src/foretell/curve_models/mixture.json"
FAMILIES = ("lcbench", "taskset", "mlp", "deepobs", "momo", "lr_scheduling")
SHARES = np.array([1, 2, 3, 5, 8, 12, 18, 26, 36, 45]) / 51  # of the horizon that the prefixes show, give or take
BATCHES = 700  # of each family, about
RUNS, ALONE = 12, 0.4  # in a batch; share of batches whose runs are shown without the others
ROWS, STEPS, RATE, DECAY = 15_000, 400, 0.08, 2e-3  # of the fit


@final
@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Prefixes of some runs of a task, cut at one epoch, and what came.

    Args:
        task: "family/task".
        epoch: at which they were cut.
        runs: as the experts see them.
        final: (n,) last losses of the whole curves.
        later: (n,) lowest losses after the cut.
        spread: of the task at this share, in which losses are measured.
    """

    task: str
    epoch: int
    runs: Runs
    final: Array
    later: Array
    spread: float


def batches(task: Task, rng: np.random.Generator, repeats: int) -> Iterator[Batch]:
    """Cut the curves of random parts of a task; half of the runs in each batch are the best there."""
    values = task.values[np.isfinite(task.values[:, 0])]
    for _ in range(repeats):
        count = min(int(np.exp(rng.uniform(math.log(6), math.log(120)))), len(values))
        losses = _cut_off(values[rng.choice(len(values), count, replace=False)])
        spreads = _spreads(losses, rng)
        for share in SHARES:
            horizon = losses.shape[1]
            epoch = max(1, round(share * horizon * math.exp(rng.normal(0, 0.15))))
            if epoch >= horizon:
                continue
            chosen = rng.choice(count, min(RUNS, count), replace=False)
            chosen[: len(chosen) // 2] = np.argsort(losses[:, epoch - 1])[: len(chosen) // 2]
            whole = losses[chosen]
            spread = float(np.interp(math.log(epoch / horizon), np.log(LEVELS), spreads))
            runs = _seen(whole[:, :epoch], horizon, None if rng.random() < ALONE else spread)
            yield Batch(task.name, epoch, runs, whole[:, -1], whole[:, epoch:].min(axis=1), spread)


def collected(tasks: Iterable[Task], seed: int = 0) -> list[Batch]:
    """Batches of every task, as many from each family."""
    tasks = list(tasks)
    sizes, rng = Counter(family(task.name) for task in tasks), np.random.default_rng(seed)
    return [
        batch
        for task in tasks
        for batch in batches(task, rng, max(1, round(BATCHES / len(SHARES) / sizes[family(task.name)])))
    ]


def family(task: str) -> str:
    """Of a task's name."""
    return task.partition("/")[0]


def _cut_off(losses: Array) -> Array:
    """As `_runs.Population` cuts off what no longer matters; a run that diverged stays at the worst."""
    finite = np.isfinite(losses)
    first, low = float(np.median(losses[:, 0])), float(losses[finite].min())
    ceiling = first + max(0.5 * abs(first), 3 * (first - low))
    return np.minimum(np.where(finite, losses, ceiling), ceiling)


def _spreads(losses: Array, rng: np.random.Generator) -> Array:
    """(levels,) what a study would see: all trained in full, or most of them cut short."""
    count, horizon = losses.shape
    depths = np.full(count, horizon)
    if rng.random() > 0.4:
        depths = np.maximum(1, (horizon * np.exp(-rng.exponential(1.5, count))).round().astype(np.int64))
    epochs = np.maximum(1, np.round(LEVELS * horizon)).astype(np.int64)
    seen = losses[np.arange(count)[:, None], np.minimum(epochs, depths[:, None]) - 1]
    medians = np.median(seen, axis=0)
    return np.asarray(np.maximum(medians - seen.min(axis=0), np.maximum(0.01 * np.abs(medians), 1e-12)))


def _seen(prefixes: Array, horizon: int, spread: float | None) -> Runs:
    parts = [
        _runs.alone(Curve((step, loss, 0.0) for step, loss in enumerate(prefix, start=1)), horizon)
        for prefix in prefixes.tolist()
    ]
    runs = Runs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    return runs if spread is None else runs._replace(spread=np.full(len(prefixes), spread))


# --- the fit ---------------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Rows of many batches: what the experts said, and what came.

    Args:
        opinions: of n runs.
        truth: (n,) losses.
        spread: (n,) units of the likelihood.
        weight: (n,) of each row, in all 1.
    """

    opinions: Opinions
    truth: Array
    spread: Array
    weight: Array


def examples(chosen: Sequence[Batch], of: Of) -> Examples:
    """The rows of batches, weighted so that families count alike, and tasks within them."""
    said = [ask(batch.runs) for batch in chosen]
    tasks = np.repeat([batch.task for batch in chosen], [len(batch.final) for batch in chosen])
    rows, sizes = Counter(tasks.tolist()), Counter(family(task) for task in {batch.task for batch in chosen})
    weight = np.array([1 / rows[task] / sizes[family(task)] for task in tasks.tolist()])
    return Examples(
        Opinions(*(np.concatenate(columns) for columns in zip(*said, strict=True))),
        np.concatenate([batch.final if of == "final" else batch.later for batch in chosen]),
        np.concatenate([np.full(len(batch.final), batch.spread) for batch in chosen]),
        weight / weight.sum(),
    )


def fitted(rows: Examples, seed: int = 0) -> dict[str, Any]:
    """The gate that maximises the likelihood, drawn towards equal trust by a small penalty."""
    import torch  # noqa: PLC0415 -- only whoever fits needs it

    torch.set_num_threads(1)
    count = len(NAMES)
    width = np.tile([-1.0, 0.5], (count, 1))
    for name, start in (("own, wide", 0.7), ("others, wide", 0.3), ("anywhere", 0.5)):
        width[NAMES.index(name), 0] = start
    weights = np.zeros((count, rows.opinions.features.shape[1]))
    weights[NAMES.index("anywhere"), 0] = -3.0
    start = {
        "weights": weights, "trust": np.array(-0.7), "shift": np.zeros(count), "stretch": np.full(count, -0.5),
        "width": width,
    }  # fmt: skip
    gate = {name: torch.tensor(value, requires_grad=True) for name, value in start.items()}
    chosen = np.random.default_rng(seed).permutation(len(rows.truth))[:ROWS]
    features, evidence, means, sds, units = (torch.tensor(part[chosen]) for part in rows.opinions)
    truth, spread = torch.tensor(rows.truth[chosen])[:, None], torch.tensor(rows.spread[chosen])
    weight = torch.tensor(rows.weight[chosen] / rows.weight[chosen].sum())
    optimizer = torch.optim.Adam(gate.values(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        left = torch.log(1.02 - torch.exp(features[:, 1:2]))
        trusted = torch.log_softmax(features @ gate["weights"].T + torch.exp(gate["trust"]) * evidence, 1)
        mean = means + gate["shift"] * torch.clamp(torch.exp(left), max=1.0) * units
        own = torch.exp(gate["width"][:, 0] + gate["width"][:, 1] * left) * units
        sd = torch.sqrt((torch.exp(gate["stretch"]) * sds) ** 2 + own**2)
        likelihood = torch.logsumexp(trusted - 0.5 * ((truth - mean) / sd) ** 2 - torch.log(sd), 1) + torch.log(spread)
        penalty = sum(((gate[name] - torch.tensor(value)) ** 2).sum() for name, value in start.items())
        cost = -(weight * torch.clamp(likelihood, min=-12.0)).sum() + DECAY * penalty
        cost.backward()
        optimizer.step()
        schedule.step()
    found = {name: value.detach().numpy() for name, value in gate.items()}
    return found | {"trust": np.exp(found["trust"])}


def main() -> None:
    """Fit both gates to all recordings and write them into the package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of recorded trainings")
    chosen = collected(tables.load(tables.data_folder(parser.parse_args().data), *FAMILIES))
    gates: dict[str, Any] = {"experts": list(NAMES)}
    for of in ("final", "best"):
        gates[of] = {name: np.round(value, 4).tolist() for name, value in fitted(examples(chosen, of)).items()}
    FILE.write_text(json.dumps(gates, indent=1) + "\n")


if __name__ == "__main__":
    main()
