"""What is special to one sampler."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest

import foretell as ft
from foretell.errors import SpaceError
from foretell.space import Space
from foretell.stores.memory import MemoryStore

TREE = Space(
    a=ft.Int(1, 3), kind=ft.Choice({"x": {"b": ft.Int(1, 2)}, "y": {}}), c=ft.Float(0, 1), constraints=["a + c < 3.5"]
)


def proposed(
    sampler: Any, space: Space, sizes: list[int], *, seed: int = 0, workers: int = 1, **study: Any
) -> list[Any]:
    """The configurations of a study that is reopened between its sessions."""
    store = MemoryStore()
    for size in sizes:
        again = ft.Study(space, minimize="m", sampler=sampler, scheduler="full", store=store, seed=seed, **study)
        replay = ft.Replay(lambda params: ft.Recording([1.0]), workers)
        again.run(None, f"{size} trials", executor=replay, progress="none")
    return [trial.params for trial in again.trials]


@pytest.mark.parametrize("sizes", [[100], [1, 2, 3, 4, 5, 100]])
@pytest.mark.parametrize("workers", [1, 4])
def test_a_grid_is_walked_once(sizes: list[int], workers: int) -> None:
    every = [{"a": a, "kind": kind, **({"b": b} if kind == "x" else {}), "c": c}
             for a, (kind, b), c in itertools.product([1, 2, 3], [("x", 1), ("x", 2), ("y", 0)], [0.0, 0.5, 1.0])
             if a + c < 3.5]  # fmt: skip
    assert proposed(ft.GridSearch(3), TREE, sizes, workers=workers) == every


def test_a_grid_is_told_when_it_is_walked() -> None:
    study = ft.Study(Space(a=ft.Int(1, 3)), minimize="m", sampler="grid_search", scheduler="full")
    study.run(None, executor=ft.Replay(lambda params: ft.Recording([1.0])), progress="none")
    assert len(study.trials) == 3 and "3 points of the grid" in study.verdict.reason


def test_what_the_user_enqueues_is_not_taken_from_the_grid() -> None:
    found = proposed(ft.GridSearch(), Space(a=ft.Int(1, 3)), [100], default={"a": 2})
    assert found == [{"a": 2}, {"a": 1}, {"a": 2}, {"a": 3}]


def test_a_continuous_parameter_has_no_grid_of_its_own() -> None:
    with pytest.raises(SpaceError, match="'c'"):
        proposed(ft.GridSearch(), TREE, [3])


def test_sobol_points_are_those_of_scipy() -> None:
    qmc = pytest.importorskip("scipy.stats").qmc
    space = Space(a=ft.Float(0, 1), b=ft.Float(0, 1))
    expected = qmc.Sobol(2, scramble=True, rng=5).random(8)
    found = proposed(ft.QMC(), space, [3, 8], seed=5)
    np.testing.assert_allclose([[params["a"], params["b"]] for params in found], expected, atol=1e-9)


def test_sobol_points_fill_the_cube_evenly() -> None:
    found = proposed(ft.QMC(), Space(a=ft.Float(0, 1), b=ft.Float(0, 1)), [64])
    cells = Counter((int(params["a"] * 8), int(params["b"] * 8)) for params in found)
    assert set(cells.values()) == {1} and len(cells) == 64


def test_sobol_with_a_narrow_constraint_goes_on_after_a_reopening() -> None:
    space = Space(a=ft.Float(0, 1), constraints=["a < 0.02"])
    found = proposed(ft.QMC(), space, [250, 252])
    assert len(found) == 252 and all(params["a"] < 0.02 for params in found)


def test_a_constraint_that_nothing_meets_is_named() -> None:
    with pytest.raises(SpaceError, match="constraints"):
        proposed(ft.QMC(), Space(a=ft.Float(0, 1), constraints=["a > 2"]), [1])


def test_random_search_follows_the_prior() -> None:
    found = proposed(ft.RandomSearch(), Space(a=ft.Float(0, 1)), [400])
    values = np.sort([params["a"] for params in found])
    assert np.abs(values - (np.arange(400) + 0.5) / 400).max() < 1.63 / np.sqrt(400)  # Kolmogorov-Smirnov, 1 %
