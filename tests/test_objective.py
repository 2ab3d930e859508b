"""The one place that knows a sign."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.objective import Objective


@given(st.floats(allow_nan=False), st.floats(allow_nan=False), st.sampled_from(["minimize", "maximize"]))
def test_a_better_value_has_a_lower_loss_and_comes_back(one: float, other: float, direction: Any) -> None:
    objective = Objective("m", direction)
    better = one < other if direction == "minimize" else one > other
    assert (objective.loss(one) < objective.loss(other)) == better
    assert objective.value(objective.loss(one)) == one
    assert objective.maximizes == (direction == "maximize")


@pytest.mark.parametrize("metric", ["", None, 3])
def test_a_metric_is_a_text(metric: Any) -> None:
    with pytest.raises(TypeError, match="name of what is reported"):
        Objective(metric)


@pytest.mark.parametrize("direction", ["max", "MINIMIZE", None])
def test_a_direction_is_one_of_two(direction: Any) -> None:
    with pytest.raises(ValueError, match="'minimize' or 'maximize'"):
        Objective("m", direction)
