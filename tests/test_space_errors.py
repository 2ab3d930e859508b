"""Bad spaces and bad configurations: each is told the cause and the cure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from foretell.errors import SpaceError
from foretell.space import Choice, Float, Int, Space
from tests.test_space import example

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Float(1, 1), "one value only: give it as a fixed value"),
        (lambda: Float(2, 1), "low above high: exchange"),
        (lambda: Int(5, 5), "fixed value"),
        (lambda: Float(0, 1, log=True), r"log=True needs positive bounds, but low=0.0 is not"),
        (lambda: Int(-3, -1, log=True), "low=-3 and high=-1 are not"),
        (lambda: Float(NAN, 1), "low is nan.*finite"),
        (lambda: Float(0, INF), "high is inf.*finite"),
        (lambda: Float(0, 10**200), "high is beyond 1e.100"),
        (lambda: Float(1e-200, 1, log=True), "below 1e-100"),
        (lambda: Float(1e9, 1e9 + 1), "too narrow"),
        (lambda: Float(True, 2), "low is True, a bool where a number belongs"),
        (lambda: Float("0", 2), "a str where a number belongs"),
        (lambda: Float(None, 2), "low is None"),
        (lambda: Float(0, 1, log=1), "log is 1: give True or False"),
        (lambda: Float(0, 1, step=0), "step is 0.0: give a positive"),
        (lambda: Float(0, 1, step=2), "larger than the range"),
        (lambda: Float(0, 1, step=1e-9), "too small"),
        (lambda: Float(1, 2, log=True, step=0.1), "both log=True and a step.*leave the step out"),
        (lambda: Int(1, 9, log=True, step=2), "both log=True and step=2.*leave one out"),
        (lambda: Int(1.5, 3), "low is 1.5, not a whole number: use Float"),
        (lambda: Int(1, 3, step=0), "positive"),
        (lambda: Int(1, 3, step=-1), "positive"),
        (lambda: Int(1, 3, step=True), "step is True, a bool"),
        (lambda: Int(1, 3, step=5), "larger than the range"),
        (lambda: Int(1, 10**15), "beyond 1000000000000: use Float"),
        (lambda: Choice([]), "no options"),
        (lambda: Choice({}), "no options"),
        (lambda: Choice("abc"), r"the string 'abc': give a list"),
        (lambda: Choice({"a", "b"}), "whose order is kept"),
        (lambda: Choice(3), "give a list"),
        (lambda: Choice([1, 2, 1]), "equal options 1 and 1"),
        (lambda: Choice([1, True]), "equal options 1 and True.*keep one"),
        (lambda: Choice([1.0, 1]), "equal options 1.0 and 1"),
        (lambda: Choice([[1, 2], [3]]), r"an option of Choice is \[1, 2\]"),
        (lambda: Choice([NAN]), "JSON has no such number"),
        (lambda: Choice([object()]), "build other objects in your function"),
        (lambda: Choice({1: {}}), "the option 1 has a branch but is no string"),
        (lambda: Choice({"a": 3}), "the branch 'a' is 3: give a dict"),
        (lambda: Choice({"a": {"k": [1, 2]}}), r"'k' under 'a' is \[1, 2\]: use Choice"),
        (lambda: Choice([1, 2], weights=[1]), "2 options but 1 weights"),
        (lambda: Choice([1, 2], weights=[1, -1]), "weight of 2 is -1.0: give a positive"),
        (lambda: Choice([1, 2], weights=[0, 0]), "positive weight"),
        (lambda: Choice([1, 2], weights=[1, 0]), "leave the option out"),
        (lambda: Choice([1, 2], weights=[1, 1e-30]), "not too far"),
        (lambda: Choice([1, 2], weights=[1, NAN]), "finite"),
        (lambda: Choice([1, 2], weights=[1, "1"]), "a weight is '1'"),
        (lambda: Choice([1, 2], weights={1: 2}), "one number per option"),
        (lambda: Choice([1, 2], ordered="yes"), "ordered is 'yes'"),
        (lambda: Space(lr=[0.1, 0.2]), r"'lr' is \[0.1, 0.2\]: use Choice\(\[...\]\)"),
        (lambda: Space(lr=(0.1, 0.2)), r"use Choice\(\[...\]\)"),
        (lambda: Space(lr=np.array([0.1])), r"use Choice\(\[...\]\)"),
        (lambda: Space(lr={"a": {}}), r"use Choice\(\{...\}\)"),
        (lambda: Space(lr=INF), "'lr' is inf"),
        (lambda: Space(f=print), "'f' is <built-in.*build other objects"),
        (lambda: Space({3: 4}), "name 3 is a int: give a string"),
        (lambda: Space([1]), "give a mapping"),
        (lambda: Space({"a": 1}, a=2), "'a' is given twice"),
        (lambda: Space({"constraints": 1}), "call the parameter something else"),
        (lambda: Space.from_json([]), "a mapping from names"),
        (lambda: Space.from_json({"a": [1]}), "'a' is .*Choice"),
        (lambda: Space.from_json({"a": {"flaot": [0, 1]}}), "'a' has the unknown kind 'flaot'. Did you mean 'float'"),
        (lambda: Space.from_json({"a": {"log": True}}), "'a' has no kind.*float"),
        (lambda: Space.from_json({"a": {"float": [0, 1], "int": [0, 1]}}), "both 'float' and 'int'"),
        (lambda: Space.from_json({"a": {"float": [0, 1], "lgo": True}}), "unknown key 'lgo'. Did you mean 'log'"),
        (lambda: Space.from_json({"a": {"float": [0, 1], "weights": [1]}}), "unknown key 'weights'"),
        (lambda: Space.from_json({"a": {"float": 3}}), "float is 3: give the two bounds"),
        (lambda: Space.from_json({"a": {"int": [1, 2, 3]}}), "give the two bounds"),
        (lambda: Space.from_json({"a": {"float": [1, 0]}}), "'a': Float.*low above high"),
        (lambda: Space.from_json({"a": {"choice": {"x": {"k": {"int": [1, 1]}}}}}), "'a': 'k' under 'x': Int.*fixed"),
        (lambda: Space.from_json({"a": 1, "constraints": "a > 0"}), "give a list of conditions"),
        (lambda: Space.from_toml("a = 2024-01-01"), "'a' is datetime.date.*a value is"),
    ],
)  # fmt: skip
def test_bad_spaces_are_told_cause_and_cure(build: Any, words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        build()


GOOD = {
    "lr": 0.01, "width": 32, "depth": 2, "batch": 32, "optimizer": "sgd", "momentum": 0.5, "nesterov": True,
    "act": "relu", "size": 2, "seed": 7,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"widht": 3}, "'widht' is no parameter.*Did you mean 'width'"),
        ({3: 3}, "3 is no parameter"),
        ({"optimizer": "adamw"}, "'momentum' exists only when optimizer is 'sgd': leave it out"),
        ({"optimizer": "adamw", "seed": ..., "nesterov": ...}, "'momentum' exists only when"),
        ({"lr": ...}, "'lr' is missing: give it a value"),
        ({"momentum": ...}, r"'momentum' is missing \(needed when optimizer is 'sgd'\)"),
        ({"lr": 0.5}, "'lr' is 0.5, above its highest value 0.1"),
        ({"lr": 1e-9}, "'lr' is 1e-09, below its lowest value 0.0001"),
        ({"lr": NAN}, "'lr' is nan: give a finite"),
        ({"lr": "0.01"}, "'lr' is '0.01', a str where a number belongs"),
        ({"lr": True}, "'lr' is True, a bool"),
        ({"lr": 10**400}, "above its highest"),
        ({"depth": 2.5}, "'depth' is 2.5, not a whole number"),
        ({"depth": 6}, "above its highest value 5"),
        ({"depth": None}, "'depth' is None"),
        ({"batch": 40}, "between the steps of 16: the nearest is (32|48)"),
        ({"act": "rleu"}, "'act' is 'rleu', which is no option. Did you mean 'relu'"),
        ({"size": 3}, "'size' is 3.*choose one of 1, 2, 4"),
        ({"size": True}, "'size' is True.*choose one of"),
        ({"act": ["relu"]}, "'act' is"),
        ({"seed": 8}, "'seed' is 8, but it is fixed at 7"),
        ({"nesterov": 1}, "'nesterov' is 1, but it is fixed at True"),
        ({"width": 256, "depth": 5}, r"'width \* depth <= 512' does not hold for width=256, depth=5"),
    ],
)
def test_bad_configurations_are_told_cause_and_cure(change: dict[Any, Any], words: str) -> None:
    params = {name: value for name, value in (GOOD | change).items() if value is not ...}
    with pytest.raises(SpaceError, match=words):
        example().validate(params)
    assert example().validate(GOOD) == GOOD


def test_a_name_of_two_branches_is_explained_by_both() -> None:
    space = Space(a=Choice({"x": {"k": Int(1, 2)}, "y": {"k": Int(3, 4)}, "z": {}}))
    with pytest.raises(SpaceError, match="'k' exists only when a is 'x' or when a is 'y'"):
        space.validate({"a": "z", "k": 1})
    with pytest.raises(SpaceError, match="A configuration is a dict from names to values, not a list"):
        space.validate([1])  # type: ignore[arg-type]
