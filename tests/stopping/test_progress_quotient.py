"""ProgressQuotient: Prechelt's PQ, on the one curve that a rule sees."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.stopping.progress_quotient import ProgressQuotient
from tests.stopping.curves import sentence, stop

LOSSES = st.lists(st.integers(8, 40).map(lambda number: number / 8), max_size=30)


@given(LOSSES, st.sampled_from([0.1, 0.5, 2.0]), st.integers(2, 5))
def test_it_is_the_source_s_formula_with_the_objective_for_the_training_loss(
    losses: list[float], quotient: float, strip: int
) -> None:
    expected = None
    for at in range(strip, len(losses) + 1, strip):
        last = losses[at - strip : at]
        lost = 100 * (losses[at - 1] / min(losses[:at]) - 1)
        progress = 1000 * (sum(last) / (strip * min(last)) - 1)
        if lost > quotient * progress + 1e-9:
            expected = at - 1
            break
    assert stop(ProgressQuotient(quotient, strip), losses) == expected


def test_flat_above_the_best_stops_and_flat_at_the_best_does_not() -> None:
    assert stop(ProgressQuotient(3, 2), [1, 0.5, 0.6, 0.6]) == 3
    assert stop(ProgressQuotient(3, 2), [1, 0.5] + [0.5] * 20) is None


def test_values_that_are_not_finite_are_left_out() -> None:
    assert stop(ProgressQuotient(3, 2), [1, math.nan, 0.5, math.inf, 0.6, math.nan, 0.6]) == 6


def test_scores() -> None:
    assert stop(ProgressQuotient(3, 2), [0.1, 0.5, 0.4, 0.4], scores=True) == 3


def test_sentence() -> None:
    assert sentence(ProgressQuotient(0.5, 2), [1, 0.5, 0.75, 0.8]) == (
        "Stop: m 0.8 is 60 % worse than its best, 0.5, while its last 2 checks moved by 33.3 per mille, a quotient of "
        "1.8, more than 0.5, at epoch 4"
    )


@pytest.mark.parametrize(("quotient", "strip"), [(-1.0, 5), (math.nan, 5), (0.5, 1), (0.5, 2.5)])
def test_settings_that_make_no_sense(quotient: float, strip: int) -> None:
    with pytest.raises(ValueError, match="ProgressQuotient"):
        ProgressQuotient(quotient, strip)
