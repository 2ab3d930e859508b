"""Every dialect of patience on the golden sequences, without the libraries."""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from foretell._family import load, names
from foretell.stopping._dialects import DIALECTS
from foretell.stopping.patience_like import PatienceLike
from tests.stopping.curves import sentence, stop
from tests.stopping.golden import CASES, COLUMNS, EXPECTED, Case, answer, sentences, table

PAGE = Path(__file__).parents[2] / "docs" / "stopping.md"
GOLDEN = [
    pytest.param(case, column, expected, id=f"{column}: {case.name}")
    for case in CASES
    for column, expected in zip(COLUMNS, EXPECTED[case.name].split(), strict=True)
]


@pytest.mark.parametrize(("case", "dialect", "expected"), GOLDEN)
def test_golden(case: Case, dialect: str, expected: str) -> None:
    assert answer(dialect, case) == expected


def test_every_sequence_has_its_expectation() -> None:
    assert list(EXPECTED) == [case.name for case in CASES]


def test_no_two_dialects_agree_on_everything() -> None:
    columns = list(zip(*(row.split() for row in EXPECTED.values()), strict=True))
    assert len(set(columns)) == len(COLUMNS)


@pytest.mark.parametrize(
    ("built", "begin", "end"),
    [(table, "<!-- dialects -->\n\n", "\n<!-- /"), (sentences, "<!-- sentences -->\n\n```\n", "```")],
)
def test_the_page_shows_what_the_code_of_today_says(built: Callable[[], str], begin: str, end: str) -> None:
    written = PAGE.read_text().partition(begin)[2].partition(end)[0]
    assert written == built(), "Put the output of `python -m tests.stopping.golden` between the marks of the page."


def test_the_page_explains_every_rule() -> None:
    sections = re.findall(r"^### `(\w+)", PAGE.read_text(), re.MULTILINE)
    assert sorted(sections) == sorted(load("stopping", name).__name__ for name in names("stopping"))


def test_the_page_and_the_docstring_name_every_dialect_and_its_version() -> None:
    assert PatienceLike.__doc__
    for text in (PatienceLike.__doc__, PAGE.read_text()):
        for name, dialect in DIALECTS.items():
            assert f"`{name}`" in text and dialect.version in text


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_left_out_is_the_library_s_default(dialect: str) -> None:
    known = DIALECTS[dialect]
    if known.patience is None:
        with pytest.raises(ValueError, match="patience=None"):
            PatienceLike(dialect)
    else:
        spelt = PatienceLike(dialect, known.patience, known.min_delta, known.relative)
        assert PatienceLike(dialect) == spelt and hash(PatienceLike(dialect)) == hash(spelt)


def test_a_relative_minimum_of_a_negative_metric_is_the_library_s_mistake_kept() -> None:
    rising = [-10 + i / 5 for i in range(8)]
    assert stop(PatienceLike("skorch", 3, 0.1), rising) is None
    assert stop(PatienceLike("skorch", 3, 0.1), [-loss for loss in rising], scores=True) == 3
    assert stop(PatienceLike("ignite", 3, 0.1, relative=True), [-score for score in range(1, 9)], scores=True) == 3


def test_xgboost_rounds_losses_and_scores_differently() -> None:
    assert stop(PatienceLike("xgboost", 1, 0.1), [0.4, 0.3]) is None
    assert stop(PatienceLike("xgboost", 1, 0.1), [-0.4, -0.3], scores=True) == 1


def test_settings_travel() -> None:
    rule = PatienceLike("skorch")
    assert pickle.loads(pickle.dumps(rule)) == rule


@pytest.mark.parametrize(
    ("rule", "values", "text"),
    [
        (PatienceLike("keras", 2), [3, 2, 2, 2], "m has not beaten 2 for 2 checks, at epoch 4 (as keras counts)"),
        (PatienceLike("keras", 1, 0.5), [3, 2.75],
         "m has not beaten 3 by more than 0.5 for 1 check, at epoch 2 (as keras counts)"),
        (PatienceLike("xgboost", 2), [math.nan, 2, 1],
         "m has not beaten nan for 2 checks, at epoch 3 (as xgboost counts)"),
        (PatienceLike("lightning"), [2, math.nan], "m is nan, which is not finite, at epoch 2 (as lightning counts)"),
        (PatienceLike("hf", 0), [2], "m has a patience of 0 checks, which is used up, at epoch 1 (as hf counts)"),
        (PatienceLike("skorch", 2), [math.nan, math.inf],
         "m has had no value that counts for 2 checks, at epoch 2 (as skorch counts)"),
        (PatienceLike("skorch", 2, 0.1), [2, 1.9, 1.85],
         "m has not beaten 2 by more than 0.1 of it for 2 checks, at epoch 3 (as skorch counts)"),
    ],
)  # fmt: skip
def test_sentences(rule: PatienceLike, values: list[float], text: str) -> None:
    assert sentence(rule, values) == f"Stop: {text}"


@pytest.mark.parametrize(
    ("settings", "cure"),
    [
        (("kera", 3), "Did you mean 'keras'"),
        (("ignite", 0), "1 or more"),
        (("keras", 1.5), "whole number"),
        (("keras", 3, -1.0), "0 or more"),
        (("keras", 3, math.nan), "0 or more"),
        (("keras", 3, 0.1, True), "these have: ignite, ignite_cumulative, skorch"),
        (("hf", 3, 0.0, None, 1.0), "only keras has"),
    ],
)
def test_settings_that_the_library_does_not_have(settings: tuple[object, ...], cure: str) -> None:
    with pytest.raises(ValueError, match=cure):
        PatienceLike(*settings)  # type: ignore[arg-type]
