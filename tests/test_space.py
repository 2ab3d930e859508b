"""Spaces: round trips, the prior, grids, constraints, stored forms, and what bad input is told."""

from __future__ import annotations

import itertools
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from foretell.errors import SpaceError
from foretell.space import Choice, Float, Int, Space

SOURCE = Path(__file__).parents[1] / "src"


def example() -> Space:
    return Space(
        lr=Float(1e-4, 1e-1, log=True),
        width=Int(16, 256, log=True),
        depth=Int(1, 5),
        batch=Int(16, 128, step=16),
        optimizer=Choice({"sgd": {"momentum": Float(0, 0.99), "nesterov": True}, "adamw": {}}),
        act=Choice(["relu", "gelu"], weights=[3, 1]),
        size=Choice([1, 2, 4], ordered=True),
        seed=7,
        constraints=["width * depth <= 512"],
    )


def typed(params: dict[str, Any]) -> list[tuple[str, type, Any]]:
    """Tells 1, 1.0 and True apart, and one order from another."""
    return [(name, type(value), value) for name, value in params.items()]


# -- strategies --------------------------------------------------------------------------------------------------------

scalars = st.one_of(
    st.text("abc", max_size=3),
    st.integers(-5, 5),
    st.booleans(),
    st.none(),
    st.floats(-9, 9, width=16),
)


@st.composite
def ints(draw: st.DrawFn, widest: int = 10**6) -> Int:
    low = draw(st.integers(-widest, widest))
    high = low + draw(st.integers(1, widest))
    if low > 0 and draw(st.booleans()):
        return Int(low, high, log=True)
    return Int(low, high, step=draw(st.integers(1, high - low)))


@st.composite
def floats(draw: st.DrawFn) -> Float:
    kind = draw(st.sampled_from(["linear", "log", "step"]))
    if kind == "log":
        low = draw(st.floats(1e-100, 1e99))
        high = draw(st.floats(low, 1e100, exclude_min=True))
    else:
        low = draw(st.floats(-1e6, 1e6) | st.floats(-1, 1))
        high = low + draw(st.floats(1e-6, 1e6))
    assume(high - low >= 1e-7 * max(abs(low), abs(high)))
    if kind != "step":
        return Float(low, high, log=kind == "log")
    step = (high - low) / draw(st.floats(1, 1000))
    assume(step >= 1e-7 * max(abs(low), abs(high)) and step <= high - low)
    return Float(low, high, step=step)


def choices(branch: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Choice]:
    plain = st.builds(Choice, st.lists(scalars, min_size=1, max_size=4, unique_by=lambda v: v), ordered=st.booleans())
    weighted = st.integers(1, 4).flatmap(
        lambda n: st.builds(
            lambda weights: Choice(list(range(len(weights))), weights=weights),
            st.lists(st.floats(0.01, 10), min_size=n, max_size=n),
        )
    )
    return plain | weighted | st.builds(Choice, st.dictionaries(st.sampled_from("xyz"), branch, min_size=1))


@st.composite
def specs(draw: st.DrawFn, depth: int, names: Any) -> dict[str, Any]:
    """Parameters and fixed values with fresh names."""
    declared: dict[str, Any] = {}
    for _ in range(draw(st.integers(0, 3))):
        kinds: list[st.SearchStrategy[Any]] = [scalars, ints(), floats()]
        if depth:
            kinds.append(choices(specs(depth - 1, names)))
        declared[f"p{next(names)}"] = draw(st.one_of(kinds))
    return declared


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    names = itertools.count()
    declared = draw(specs(2, names))
    if draw(st.booleans()):  # the same name in branches that exclude each other
        number = ints() | floats()
        declared["fork"] = Choice({o: {"shared": draw(number), **draw(specs(1, names))} for o in "xy"})
    return Space(declared)


# -- round trips -------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(spaces(), st.integers(0, 2**32 - 1))
def test_a_sample_survives_validation_and_the_unit_cube(space: Space, seed: int) -> None:
    params = space.sample(np.random.default_rng(seed))
    assert typed(space.validate(params)) == typed(params)
    assert all(type(value) in (str, int, float, bool, type(None)) for value in params.values())
    point = space.encode(params)
    assert point.shape == (len(space),) and point.dtype == np.float64
    assert ((point >= 0) & (point <= 1)).all()
    assert (point[~space.active(params)] == 0.5).all()
    assert typed(space.decode(point)) == typed(params)
    active = {d.name for d, on in zip(space.dimensions, space.active(params), strict=True) if on}
    fixed = set(space.names) - {d.name for d in space.dimensions}
    assert active <= set(params) <= active | fixed
    assert [name for name in space.names if name in params] == list(params)


@settings(max_examples=300, deadline=None)
@given(floats() | ints(), st.floats(0, 1))
def test_a_number_survives_the_unit_interval(parameter: Float | Int, u: float) -> None:
    edges = (0.0, 5e-324, 1e-17, 1e-13, 1e-12, 1e-11, 1e-9)
    for v in (u, *edges, *(1 - e for e in edges)):
        value = parameter.from_unit(v)
        assert parameter.low <= value <= parameter.high
        assert parameter.canonical("x", value) == value
        assert parameter.from_unit(parameter.to_unit(value)) == value
    ends = [parameter.from_unit(0.0), parameter.from_unit(1.0)]
    assert ends[0] == parameter.low
    if parameter.step is None or (isinstance(parameter, Int) and parameter.step == 1):
        assert ends[1] == parameter.high
    for bound in (parameter.low, parameter.high):
        try:
            assert parameter.canonical("x", bound) == bound
        except SpaceError:
            continue
        assert parameter.from_unit(parameter.to_unit(bound)) == bound


@settings(max_examples=200, deadline=None)
@given(floats(), st.floats(0, 1))
def test_a_users_float_is_kept_and_comes_back_closely(parameter: Float, fraction: float) -> None:
    assume(parameter.step is None)
    value = min(max(parameter.low + fraction * (parameter.high - parameter.low), parameter.low), parameter.high)
    assert parameter.canonical("x", value) == value
    scale = value if parameter.log else max(parameter.high - parameter.low, abs(parameter.low), abs(parameter.high))
    assert abs(parameter.from_unit(parameter.to_unit(value)) - value) <= 1e-11 * scale


@settings(max_examples=100, deadline=None)
@given(floats() | ints(), st.floats(0, 1), st.floats(0, 1))
def test_decoding_keeps_the_order(parameter: Float | Int, one: float, other: float) -> None:
    assert parameter.from_unit(min(one, other)) <= parameter.from_unit(max(one, other))


def test_steps_are_clean_decimals() -> None:
    parameter = Float(0, 1, step=0.1)
    assert [parameter.grid_value(k, None) for k in range(11)] == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert parameter.canonical("x", 0.1 + 0.2) == 0.3
    assert Float(0, 1, step=0.3).from_unit(1.0) == 0.9


def test_numpy_scalars_become_python_ones() -> None:
    given_ = {
        "lr": np.float64(0.01), "width": np.int64(32), "depth": np.float32(2.0), "batch": np.uint8(32),
        "optimizer": np.str_("sgd"), "momentum": 0, "act": "relu", "size": np.int8(2), "seed": np.int64(7),
    }  # fmt: skip
    found = example().validate(given_)
    assert [type(value) for value in found.values()] == [float, int, int, int, str, float, bool, str, int, int]
    assert found["nesterov"] is True  # filled in, for it is fixed


def test_points_outside_the_cube_move_to_its_face() -> None:
    space = Space(x=Float(0, 1), k=Int(1, 3), c=Choice(["abc", "z"]))
    assert space.decode([-1, 7, 7]) == {"x": 0.0, "k": 3, "c": "z"}
    assert space.decode([1.5, -7, -7]) == {"x": 1.0, "k": 1, "c": "abc"}
    with pytest.raises(SpaceError, match="shape"):
        space.decode([0.5])
    with pytest.raises(SpaceError, match="NaN"):
        space.decode([0.5, np.nan, 0])


def test_an_empty_space_has_one_configuration() -> None:
    space = Space()
    rng = np.random.default_rng(0)
    assert (len(space), bool(space), space.sample(rng), space.size(), space.at(0)) == (0, True, {}, 1, {})
    assert space.encode({}).shape == (0,) and space.active({}).shape == (0,) and space.decode([]) == {}


# -- branches ----------------------------------------------------------------------------------------------------------


def nested() -> Space:
    return Space(
        model=Choice({
            "net": {"depth": Int(1, 2), "drop": Choice({"on": {"rate": Float(0, 1, step=0.5)}, "off": {}})},
            "tree": {"depth": Int(5, 7), "kind": "cart"},
        }),
        last=Choice([True, None]),
    )  # fmt: skip


def test_dimensions_say_when_they_are_active() -> None:
    space = nested()
    assert [(d.name, d.condition, d.index) for d in space.dimensions] == [
        ("model", (), 0),
        ("depth", (("model", "net"),), 1),
        ("drop", (("model", "net"),), 2),
        ("rate", (("model", "net"), ("drop", "on")), 3),
        ("depth", (("model", "tree"),), 4),
        ("last", (), 5),
    ]
    assert space.names == ("model", "depth", "drop", "rate", "kind", "last")
    params = {"last": None, "kind": "cart", "model": "tree", "depth": 6}
    assert list(space.validate(params)) == ["model", "depth", "kind", "last"]
    assert space.active(params).tolist() == [True, False, False, False, True, True]


def test_a_name_that_two_active_places_claim_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"'lr' is declared both at the top level and under opt='sgd'.*rename"):
        Space(lr=Float(0, 1), opt=Choice({"sgd": {"lr": Float(0, 1)}, "adam": {}}))
    with pytest.raises(SpaceError, match="'lr' is declared both under opt='sgd' and at the top level"):
        Space(opt=Choice({"sgd": {"lr": 1}, "adam": {}}), lr=Float(0, 1))
    with pytest.raises(SpaceError, match="'opt' is declared both"):
        Space(opt=Choice({"sgd": {"opt": 1}}))
    with pytest.raises(SpaceError, match="'k' is declared both under a='x' and under b='x'"):
        Space(a=Choice({"x": {"k": 1}}), b=Choice({"x": {"k": 1}}))


# -- the prior ---------------------------------------------------------------------------------------------------------


def p_value(parameter: Float | Int | Choice, expected: dict[Any, float], n: int = 20_000) -> float:
    space, rng = Space(x=parameter), np.random.default_rng(1)
    drawn = [space.sample(rng)["x"] for _ in range(n)]
    counts = [drawn.count(value) for value in expected]
    assert sum(counts) == n
    return float(stats.chisquare(counts, [n * share for share in expected.values()]).pvalue)


def test_the_uniform_cube_is_the_prior() -> None:
    assert p_value(Choice(["a", "b", "c"], weights=[6, 3, 1]), {"a": 0.6, "b": 0.3, "c": 0.1}) > 0.01
    assert p_value(Int(1, 7, step=2), dict.fromkeys([1, 3, 5, 7], 0.25)) > 0.01
    assert p_value(Float(0, 1, step=0.5), dict.fromkeys([0, 0.5, 1.0], 1 / 3)) > 0.01
    span = np.log(8.5) - np.log(0.5)
    shares = {k: float(np.log(k + 0.5) - np.log(k - 0.5)) / span for k in range(1, 9)}
    assert p_value(Int(1, 8, log=True), shares) > 0.01
    space, rng = Space(lin=Float(-3, 5), log=Float(1e-5, 10, log=True)), np.random.default_rng(2)
    drawn = [space.sample(rng) for _ in range(5000)]
    assert stats.kstest([(p["lin"] + 3) / 8 for p in drawn], "uniform").pvalue > 0.01
    assert stats.kstest([(np.log10(p["log"]) + 5) / 6 for p in drawn], "uniform").pvalue > 0.01


def test_sampling_decodes_uniform_numbers() -> None:
    space = nested()
    ours, theirs = np.random.default_rng(5), np.random.default_rng(5)
    for _ in range(20):
        assert space.sample(ours) == space.decode(theirs.random(len(space)))


# -- grids -------------------------------------------------------------------------------------------------------------


def brute_force(declared: dict[str, Any], points: int) -> list[dict[str, Any]]:
    """The grid by itertools, over JSON data; knows nothing of mixed radix."""
    axes: list[list[dict[str, Any]]] = []
    for name, spec in declared.items():
        if not isinstance(spec, dict):
            axes.append([{name: spec}])
        elif isinstance(spec.get("choice"), dict):
            axes.append([{name: o} | below for o, b in spec["choice"].items() for below in brute_force(b, points)])
        elif "choice" in spec:
            axes.append([{name: option} for option in spec["choice"]])
        else:
            parameter = Space.from_json({name: spec}).dimensions[0].parameter
            count = parameter.grid_size(points)
            assert count is not None
            axes.append([{name: parameter.grid_value(k, points)} for k in range(count)])
    return [{k: v for part in row for k, v in part.items()} for row in itertools.product(*axes)]


@settings(max_examples=80, deadline=None)
@given(spaces(), st.integers(1, 4))
def test_the_grid_is_the_brute_force_product(space: Space, points: int) -> None:
    size = space.size(points)
    assume(size <= 300)
    grid = [space.at(index, points) for index in range(size)]
    assert list(map(typed, grid)) == list(map(typed, brute_force(space.to_json(), points)))
    assert len({repr(params) for params in grid}) == size
    assert all(typed(space.validate(params)) == typed(params) for params in grid)
    assert all(typed(space.decode(space.encode(params))) == typed(params) for params in grid)


@settings(max_examples=150, deadline=None)
@given(ints(200) | floats(), st.integers(2, 30))
def test_grid_values_rise_from_bound_to_bound(parameter: Float | Int, points: int) -> None:
    count = parameter.grid_size(points)
    assert count is not None and count <= points
    values = [parameter.grid_value(k, points) for k in range(count)]
    assert all(a < b for a, b in itertools.pairwise(values))
    assert (values[0], values[-1]) == (parameter.from_unit(0.0), parameter.from_unit(1.0)) or count == 1


def test_grids_without_points_have_every_value() -> None:
    space = nested()
    assert space.size() == (2 * (3 + 1) + 3) * 2 == len({repr(space.at(k)) for k in range(space.size())})
    assert [space.at(k)["last"] for k in range(2)] == [True, None]  # the last declared changes fastest
    assert Space(a=Int(1, 1000, log=True)).size() == 1000
    assert [Space(a=Int(1, 1000, log=True)).at(k, 4)["a"] for k in range(4)] == [1, 10, 100, 1000]
    assert [Space(a=Int(0, 10)).at(k, 3)["a"] for k in range(3)] == [0, 5, 10]
    assert [Space(a=Float(0, 1)).at(k, {"a": 3})["a"] for k in range(3)] == [0, 0.5, 1]
    assert [Space(a=Int(0, 10), b=Float(0, 1, step=0.25)).at(k, {"a": 2})["b"] for k in range(5)][-1] == 1.0


def test_huge_grids_are_never_built() -> None:
    space = Space({f"x{k}": Int(0, 10**9) for k in range(30)})
    assert space.size() == (10**9 + 1) ** 30
    assert set(space.at(space.size() - 1).values()) == {10**9}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: s.size(), "'x' has no end of values.*points={'x': 5}.*step"),
        (lambda s: s.size(0), "points is 0.*at least 1"),
        (lambda s: s.size(True), "points is True"),
        (lambda s: s.size({"y": 3}), "points names 'y'.*Known: x"),
        (lambda s: s.size({"c": 3}), "points names 'c'.*every option"),
        (lambda s: s.size({"x": 2.5}), "whole number"),
        (lambda s: s.at(6, 3), "no configuration 6: it has 6"),
        (lambda s: s.at(-1, 3), "no configuration -1"),
    ],
)
def test_bad_grids(call: Any, words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        call(Space(x=Float(0, 1), c=Choice(["a", "b"])))


# -- stored forms ------------------------------------------------------------------------------------------------------


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return repr(value) if isinstance(value, float) else json.dumps(value)


@settings(max_examples=100, deadline=None)
@given(spaces())
def test_json_toml_repr_and_pickle_give_the_same_space(space: Space) -> None:
    text = json.dumps(space.to_json(), allow_nan=False)
    copies = [Space.from_json(json.loads(text)), pickle.loads(pickle.dumps(space)), eval(repr(space))]
    if "null" not in text:
        copies.append(Space.from_toml("\n".join(f"{k} = {toml(v)}" for k, v in space.to_json().items())))
    for copy in copies:
        assert copy == space and hash(copy) == hash(space) and copy.hash == space.hash
        assert copy.dimensions == space.dimensions and json.dumps(copy.to_json()) == text


def test_toml_says_what_python_says(tmp_path: Path) -> None:
    text = """
        lr = {float = [1e-4, 1e-1], log = true}
        width = {int = [16, 256], log = true}
        depth = {int = [1, 5]}
        batch = {int = [16, 128], step = 16}
        optimizer = {choice = {sgd = {momentum = {float = [0, 0.99]}, nesterov = true}, adamw = {}}}
        act = {choice = ["relu", "gelu"], weights = [3, 1]}
        size = {choice = [1, 2, 4], ordered = true}
        seed = 7
        constraints = ["width * depth <= 512"]
    """
    file = tmp_path / "space.toml"
    file.write_text(text)
    assert Space.from_toml(text) == Space.from_toml(file) == Space.from_toml(str(file)) == example()
    with pytest.raises(SpaceError, match="cannot be read: No such file"):
        Space.from_toml(tmp_path / "none.toml")
    with pytest.raises(SpaceError, match="no valid TOML"):
        Space.from_toml("lr = {float = ")


def test_the_hash_is_the_same_everywhere_and_tells_types_and_order_apart() -> None:
    assert example().hash == "283fe6344576feb2"
    variants = [
        Space(a=1), Space(a=1.0), Space(a=True), Space(a="1"), Space(a=None), Space(b=1),
        Space(a=Choice([1])), Space(a=Choice([1.0])), Space(a=Choice([True])),
        Space(a=1, b=2), Space(b=2, a=1), Space(a=1, constraints="a > 0"),
    ]  # fmt: skip
    assert len({space.hash for space in variants}) == len(set(variants)) == len(variants)
    assert Space(a=Float(0, 1)) == Space({"a": Float(0.0, np.float64(1))}) != Space(a=Int(0, 1))
    assert Choice(["a"]) == Choice({"a": {}}) and Choice([1]) != Choice([True])
    assert len({Float(0, 1), Float(0.0, 1.0), Int(0, 1), Choice([1]), Choice([1])}) == 3


def at_most(limit: int) -> Any:
    return lambda p: p["a"] <= limit


def test_functions_are_stored_by_name_and_digest() -> None:
    space = Space(a=Int(1, 9), constraints=["a > 1", at_most(5)])
    data = json.loads(json.dumps(space.to_json()))
    assert data["constraints"][0] == "a > 1"
    assert data["constraints"][1]["function"] == "at_most.<locals>.<lambda>"
    assert Space.from_json(data, constraints=[at_most(5)]) == space
    assert Space.from_json(data, constraints=[at_most(6)]).hash != space.hash
    with pytest.raises(SpaceError, match=r"at_most.*pass it again, Space.from_json\(data, constraints=\[\.\.\.\]\)"):
        Space.from_json(data)
    with pytest.raises(SpaceError, match="0 constraints that are functions"):
        Space.from_json({"a": 1}, constraints=[at_most(5)])


def test_a_functions_digest_does_not_depend_on_addresses_or_hash_seeds() -> None:
    code = (
        "from foretell.space import *\n"
        "def rule(p): return p['a'] in {'x', 'y', 'z'} and all(v for v in [1]) and (lambda q: q)(1)\n"
        "print(Space(a='x', constraints=[rule]).hash)"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE), "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(hashes) == 1


def test_the_repr_is_readable() -> None:
    assert repr(Space(a=Int(1, 2), s="x")) == "Space(a=Int(1, 2), s='x')"
    assert repr(Space({"a b": 1}, constraints="1 > 0")) == "Space({'a b': 1}, constraints=['1 > 0'])"
    assert "\n    optimizer=Choice({'sgd': {'momentum': Float(0.0, 0.99), 'nesterov': True}, 'adamw': {}}),\n" in repr(
        example()
    )
