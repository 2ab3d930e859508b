"""Beliefs lead the first trials of every sampler that takes them, and evidence washes them out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import foretell as ft

SPACE = ft.Space(x=ft.Float(-2, 2), y=ft.Float(1e-3, 1.0, log=True))
BEST = {"x": 1.2, "y": 10**-1.5}
RIGHT = {name: ft.Belief(value, "high") for name, value in BEST.items()}
WRONG = {"x": ft.Belief(-1.9, "high"), "y": ft.Belief(0.9, "high")}


def bowl(params: dict[str, Any]) -> float:
    return float((params["x"] - BEST["x"]) ** 2 + (np.log10(params["y"]) + 1.5) ** 2)


def best(sampler: type, beliefs: dict[str, ft.Belief], trials: int, seed: int) -> float:
    study = ft.Study(SPACE, minimize="m", sampler=sampler(beliefs=beliefs), scheduler="full", seed=seed)
    replay = ft.Replay(lambda params: ft.Recording([bowl(params)]))
    return float(study.run(lambda run: None, f"{trials} trials", executor=replay, progress="none").best.value or 0.0)


@pytest.mark.parametrize("sampler", [ft.RandomSearch, ft.GP, ft.TPE])
def test_a_good_belief_is_faster(sampler: type) -> None:
    believed, plain = (np.median([best(sampler, beliefs, 8, seed) for seed in range(7)]) for beliefs in (RIGHT, {}))
    assert believed < 0.2 * plain


@pytest.mark.parametrize("sampler", [ft.GP, ft.TPE])
def test_a_misleading_belief_is_overcome(sampler: type) -> None:
    early, late = (np.median([best(sampler, WRONG, trials, seed) for seed in range(5)]) for trials in (8, 60))
    assert early > 0.1
    assert late < 0.05
