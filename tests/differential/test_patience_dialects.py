"""Each dialect of patience against the living library: any sequence, any setting, the same stop and the same best."""

from __future__ import annotations

import math
import warnings

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from foretell.objective import Objective
from foretell.stopping._dialects import DIALECTS
from tests.differential.stoppers import DRIVERS, Setting
from tests.stopping.golden import CASES, COLUMNS, EXPECTED, Case, applies, cell, is_off, outcome, rule

# Few different values, so that ties and gains equal to the minimum are common; and any value at all.
COARSE = st.integers(-6, 6).map(lambda eighths: eighths / 8)
ODD = st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-9, 1.0 + 1e-9, 1e39, -1e39])
LOSSES = st.lists(COARSE, max_size=25) | st.lists(COARSE | ODD, max_size=25) | st.lists(st.floats(), max_size=15)
GAINS = st.sampled_from([0.0, 0.125, 0.25, 0.1, 1e-4, 1.0]) | st.floats(0, 2)


def test_every_dialect_is_compared() -> None:
    assert list(DRIVERS) == list(DIALECTS)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_golden_sequences_are_the_library_s(dialect: str) -> None:
    for case in CASES:
        expected = dict(zip(COLUMNS, EXPECTED[case.name].split(), strict=True))[dialect]
        if expected not in ("·", "no", "off"):
            setting = Setting(case.patience, case.min_delta, case.relative, case.baseline)
            assert cell(*DRIVERS[dialect](case.losses, setting)) == expected, case.name


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=150)
@given(
    losses=LOSSES, patience=st.integers(0, 5), gain=GAINS, relative=st.booleans(),
    baseline=st.none() | COARSE, scores=st.booleans(),
)  # fmt: skip
def test_the_dialect_is_the_library(
    dialect: str, losses: list[float], patience: int, gain: float, relative: bool, baseline: float | None, scores: bool
) -> None:
    known = DIALECTS[dialect]
    assume(patience >= known.least_patience)
    relative = relative and known.improves_relative is not None
    case = Case("any", losses, patience, gain, relative, baseline if known.has_baseline else None)
    assert applies(dialect, case)
    tested, setting = rule(dialect, case), Setting(patience, gain, relative, case.baseline, scores)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's, of inf - inf in the library
        expected = DRIVERS[dialect](losses, setting)
    direction = "maximize" if scores else "minimize"
    assert outcome(tested, losses, Objective("m", direction)) == expected
    assert not is_off(tested) or expected.stop is None


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if DIALECTS[name].least_patience])
def test_what_we_refuse_the_library_refuses(dialect: str) -> None:
    if dialect.startswith("sklearn"):
        from tests.conftest import needs

        needs("sklearn")
        from sklearn.ensemble import HistGradientBoostingRegressor
        from sklearn.neural_network import MLPRegressor

        estimator = {"sklearn_mlp": MLPRegressor, "sklearn_hgb": HistGradientBoostingRegressor}[dialect]
        with pytest.raises(ValueError, match="n_iter_no_change"):
            estimator(n_iter_no_change=0).fit([[0.0], [1.0]], [0.0, 1.0])
    else:
        with pytest.raises(ValueError, match="patience"):
            DRIVERS[dialect]([1.0], Setting(0))
