"""GeneralizationLoss: Prechelt's GL."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.stopping.generalization_loss import GeneralizationLoss
from tests.stopping.curves import sentence, stop

LOSSES = st.lists(st.integers(1, 40).map(lambda number: number / 8), max_size=20)


@given(LOSSES, st.sampled_from([0.0, 1.0, 5.0, 50.0]))
def test_for_positive_losses_it_is_the_source_s_formula(losses: list[float], percent: float) -> None:
    lost = [100 * (loss / min(losses[: index + 1]) - 1) for index, loss in enumerate(losses)]
    expected = next((index for index, one in enumerate(lost) if one > percent + 1e-9), None)
    assert stop(GeneralizationLoss(percent), losses) == expected


def test_scores_and_negative_losses() -> None:
    assert stop(GeneralizationLoss(10), [0.5, 0.8, 0.73, 0.71, 0.9], scores=True) == 3
    assert stop(GeneralizationLoss(10), [-1, -2, -1.9, -1.7]) == 3


def test_above_zero_anything_is_infinitely_more() -> None:
    assert stop(GeneralizationLoss(1000), [1, 0, 0, 1e-9]) == 3


def test_values_that_are_not_finite_are_left_out() -> None:
    assert stop(GeneralizationLoss(5), [math.nan, 2, math.inf, -math.inf, 2.05, 2.2]) == 5


def test_sentence() -> None:
    assert sentence(GeneralizationLoss(), [0.5, 0.4, 0.5]) == (
        "Stop: m 0.5 is 25 % worse than its best, 0.4, more than 5 %, at epoch 3"
    )


@pytest.mark.parametrize("percent", [-1.0, math.nan, math.inf])
def test_settings_that_make_no_sense(percent: float) -> None:
    with pytest.raises(ValueError, match="GeneralizationLoss"):
        GeneralizationLoss(percent)
