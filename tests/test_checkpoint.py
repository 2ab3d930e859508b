"""Snapshots: exact, in place, independent of what trains on; bit-equal resume and inheritance without torch."""

from __future__ import annotations

import math
import random
import struct
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from foretell.checkpoint import Snapshot, capture, read, restore, unsupported, write
from foretell.errors import CheckpointError


class Holder:
    """Keeps any tree, as a user's own class with a state_dict would."""

    def __init__(self, tree: Any = None) -> None:
        self.tree = tree

    def state_dict(self) -> Any:
        return self.tree

    def load_state_dict(self, tree: Any) -> None:
        self.tree = tree


def through_disk(folder: Path, snapshot: Snapshot) -> Snapshot:
    digest = write(folder, snapshot, {"step": 3})
    return read(folder, digest)[0]


def same(a: Any, b: Any) -> bool:
    """Equal in type, value and bits, all the way down, in the same order."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return len(a) == len(b) and all(same(*pair) for pair in zip(a.items(), b.items(), strict=True))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or struct.pack("<d", a) == struct.pack("<d", b)
    return bool(a == b)


# ------------------------------------------------------------------------------------------------ trees, exactly

DTYPES = ["?", "u1", "i1", "<u2", "<i4", "<i8", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16", "<M8[ns]", "<U3"]
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
NUMPY_SCALARS = st.sampled_from([np.float32(0.1), np.float64("nan"), np.int64(-3), np.bool_(True), np.float16(2)])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**53, 2**80)
    | st.floats()
    | st.text()
    | st.binary(max_size=9)
)
KEYS = st.none() | st.booleans() | st.integers() | st.text() | st.tuples(st.integers(), st.text()) | st.just("~tuple")
TREES = st.recursive(
    SCALARS | ARRAYS | NUMPY_SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=3).map(OrderedDict)
        | st.dictionaries(st.integers(), st.integers(), max_size=3).map(Counter)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(tree=TREES)
def test_any_tree_comes_back_from_disk_as_it_was(tree: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("tree") / "checkpoint"
    copy = Holder()
    restore({"x": copy}, through_disk(folder, capture({"x": Holder(tree)}, rng=False)))
    assert same(copy.tree, tree)


@settings(max_examples=40, deadline=None)
@given(progress=st.dictionaries(st.text(), SCALARS | st.lists(SCALARS, max_size=3), max_size=4))
def test_progress_comes_back_as_it_was(progress: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("progress") / "checkpoint"
    write(folder, capture({}, rng=False), progress)
    assert same(read(folder)[1], progress)


def test_big_endian_fortran_and_strided_arrays_keep_their_values(tmp_path: Path) -> None:
    base = np.arange(24, dtype=np.float64).reshape(4, 6)
    tree = {"big": base.astype(">f4"), "fortran": np.asfortranarray(base), "strided": base[::2, ::-3]}
    copy = Holder()
    restore({"x": copy}, through_disk(tmp_path / "c", capture({"x": Holder(tree)})))
    for name, array in tree.items():
        np.testing.assert_array_equal(copy.tree[name], array)


@pytest.mark.parametrize(
    ("tree", "path"),
    [
        ({"a": [1, object()]}, "x['a'][1]"),
        ({"a": {"b": np.array([None])}}, "x['a']['b']"),
        ({"f": len}, "x['f']"),
        ({"s": {1, 2}}, "x['s']"),
        ({frozenset(): 1}, "frozenset"),
        ({"m": np.ma.masked_array([1.0], [True])}, "x['m']"),
        ({"long": np.zeros(2, np.longdouble)}, "x['long']"),
        ({"record": np.zeros(2, "i4,f4")}, "x['record']"),
    ],
)
def test_unsupported_names_the_leaf(tree: Any, path: str) -> None:
    assert path in unsupported({"x": Holder(tree), "fine": {"w": np.zeros(2)}}).pop("x")
    with pytest.raises(CheckpointError, match="x"):
        capture({"x": Holder(tree)})


def test_unsupported_explains_objects_without_state_and_passes_the_others() -> None:
    endless: list[Any] = []
    endless.append(endless)
    read_only = np.zeros(3)
    read_only.flags.writeable = False
    fine = {"array": np.zeros(2), "dict": {"a": 1}, "list": [np.zeros(1)], "generator": np.random.default_rng(0)}
    broken = {"number": 3, "lambda": len, "endless": endless, "read_only": read_only, "system": random.SystemRandom()}
    reasons = unsupported({**fine, **broken})
    assert list(reasons) == list(broken)
    assert "state_dict" in reasons["number"] and "dict" in reasons["number"]
    assert "contains itself" in reasons["endless"]
    assert "read-only" in reasons["read_only"]


def test_unsupported_reports_a_state_dict_that_fails() -> None:
    class Failing(Holder):
        def state_dict(self) -> Any:
            raise OSError("no connection")

    assert "no connection" in unsupported({"x": Failing()})["x"]


# ------------------------------------------------------------------------------------------------ snapshots in memory


def test_a_snapshot_is_a_copy() -> None:
    weights = np.arange(3.0)
    nested = {"w": weights, "history": [1.0]}
    snapshot = capture({"nested": nested})
    weights += 1
    nested["history"].append(2.0)
    restore({"nested": nested}, snapshot)
    assert same(nested, {"w": np.arange(3.0), "history": [1.0]})
    weights += 1
    restore({"nested": nested}, snapshot)
    assert same(weights, np.arange(3.0))


def test_restoring_is_in_place_down_to_the_arrays() -> None:
    weights, bias = np.ones((2, 2)), np.ones(2)
    tree = {"layers": [{"w": weights}, {"w": bias}], "pair": (bias,), "step": 5, "only_then": 1}
    snapshot = capture({"tree": tree, "bare": weights})
    layers = tree["layers"]
    weights[:], bias[:] = 7, 7
    tree.pop("only_then")
    tree["only_now"], tree["step"] = 1, 9
    restore({"tree": tree, "bare": weights}, snapshot)
    assert tree["layers"] is layers and layers[0]["w"] is weights and tree["pair"][0] is bias
    assert weights.tolist() == [[1, 1], [1, 1]] and bias.tolist() == [1, 1]
    assert list(tree) == ["layers", "pair", "step", "only_then"] and tree["step"] == 5


def test_an_array_of_another_shape_is_replaced_in_its_dict() -> None:
    snapshot = capture({"d": {"w": np.arange(4.0)}})
    new: dict[str, Any] = {"w": np.zeros(2, np.float32)}
    restore({"d": new}, snapshot)
    assert same(new["w"], np.arange(4.0))


@pytest.mark.parametrize("new", [np.zeros(3), np.zeros(4, np.float32)])
def test_a_bare_array_that_does_not_fit_is_an_error(new: np.ndarray) -> None:
    with pytest.raises(CheckpointError, match=r"w.*(\(3,\).*\(4,\)|float32)"):
        restore({"w": new}, capture({"w": np.arange(4.0)}))
    assert not new.any()


def test_nbytes_counts_shared_memory_once() -> None:
    shared = np.zeros(100)
    assert capture({"a": {"x": shared, "y": shared}, "b": shared}, rng=False).nbytes == 800
    assert capture({"a": {"x": shared, "y": shared[::2]}}, rng=False).nbytes == 1200


def test_memory_freed_between_objects_is_not_taken_for_shared() -> None:
    class Fresh(Holder):
        def state_dict(self) -> Any:
            return {"w": np.full(1000, self.tree)}

    a, b = Fresh(1.0), Fresh(2.0)
    snapshot = capture({"a": a, "b": b}, rng=False)
    restore({"a": a, "b": b}, snapshot)
    assert a.tree["w"][0] == 1.0 and b.tree["w"][0] == 2.0


def test_names_that_differ_are_listed_both_ways() -> None:
    snapshot = capture({"model": [1], "optimizer": [2]})
    with pytest.raises(CheckpointError, match=r"only tracked now \['ema'\].*\['optimizer'\].*run.track"):
        restore({"model": [1], "ema": [2]}, snapshot)


# ------------------------------------------------------------------------------------------------ bit-equal resume


class Training:
    """Noisy gradient descent with momentum that draws from every source of random numbers NumPy users have."""

    def __init__(self, seed: int) -> None:
        self.weights = {"w": np.zeros(4), "velocity": np.zeros(4)}
        self.rng = np.random.Generator(np.random.MT19937(seed))
        self.pcg = np.random.default_rng(seed)
        self.legacy = np.random.RandomState(seed)
        self.python = random.Random(seed)
        self.bits = np.random.SFC64(seed)
        self.losses: list[float] = []
        self.tracked = {"weights": self.weights, "rng": self.rng, "pcg": self.pcg, "legacy": self.legacy}
        self.tracked |= {"python": self.python, "losses": self.losses, "bits": self.bits}

    def epoch(self) -> None:
        noise = self.rng.normal(size=4) + self.pcg.normal(size=4) + self.legacy.normal(size=4)
        noise += np.random.normal(size=4) + random.gauss() + self.python.gauss() + self.bits.random_raw() / 2**64
        gradient = self.weights["w"] - 1 + 0.1 * noise
        self.weights["velocity"] = 0.9 * self.weights["velocity"] - 0.01 * gradient
        self.weights["w"] += self.weights["velocity"]
        self.losses.append(float(np.sum((self.weights["w"] - 1) ** 2)))


def test_numpy_training_resumes_bit_for_bit(tmp_path: Path) -> None:
    np.random.seed(1)
    random.seed(1)
    straight = Training(0)
    for _ in range(3):
        straight.epoch()
    digest = write(tmp_path / "c", capture(straight.tracked), {"step": 3})
    for _ in range(3):
        straight.epoch()
    np.random.seed(2)
    random.seed(2)
    resumed = Training(99)
    snapshot, progress = read(tmp_path / "c", digest)
    assert restore(resumed.tracked, snapshot) == ()
    assert progress == {"step": 3}
    for _ in range(3):
        resumed.epoch()
    assert same(resumed.weights, straight.weights)
    assert same(resumed.losses, straight.losses)


def test_without_rng_the_global_generators_stay() -> None:
    snapshot = capture({"w": [1]})
    expected = random.random(), np.random.random()
    restore({"w": [1]}, snapshot)
    assert (random.random(), np.random.random()) == expected
    after = random.getstate()
    restore({"w": [1]}, snapshot, rng=False)
    restore({"w": [1]}, snapshot, "inherit")
    assert random.getstate() == after
    assert not capture({"w": [1]}, rng=False).rng


def test_a_generator_of_another_kind_is_an_error() -> None:
    with pytest.raises(CheckpointError, match=r"rng.*MT19937"):
        restore({"rng": np.random.Generator(np.random.MT19937(0))}, capture({"rng": np.random.default_rng(0)}))


# ------------------------------------------------------------------------------------------------ inherit


def test_inherit_takes_arrays_of_dicts_and_nothing_else() -> None:
    parent = {"w": np.ones(3), "counts": np.ones(2, np.int64), "lr": 0.5, "deep": [{"b": np.ones(1)}]}
    child = {"w": np.zeros(3), "counts": np.zeros(2, np.int64), "lr": 0.1, "deep": [{"b": np.zeros(1)}], "own": 1}
    rng, schedule = np.random.default_rng(5), {"epoch": 0, "rate": 0.1}
    weights, expected = child["w"], np.random.default_rng(5).random()
    snapshot = capture({"d": parent, "rng": np.random.default_rng(1), "schedule": {"epoch": 9, "rate": 0.9}})
    restore({"d": child, "rng": rng, "schedule": schedule}, snapshot, "inherit")
    assert child["w"] is weights
    assert same(child, {**parent, "lr": 0.1, "own": 1})
    assert rng.random() == expected and schedule == {"epoch": 0, "rate": 0.1}


def test_inherit_takes_weights_and_moments_of_own_classes_but_no_scalars_or_counters() -> None:
    parent = Holder({"m": {"w": np.ones(2)}, "v": np.ones(2), "lr": 0.5, "t": 7, "state": np.ones(4, np.uint8)})
    child = Holder({"m": {}, "v": None, "lr": 0.1, "t": 0, "state": np.zeros(4, np.uint8)})
    restore({"optimizer": child}, capture({"optimizer": parent}), "inherit")
    assert same(
        child.tree, {"m": {"w": np.ones(2)}, "v": np.ones(2), "lr": 0.1, "t": 0, "state": np.zeros(4, np.uint8)}
    )


@pytest.mark.parametrize("wrap", [lambda w: w, lambda w: {"w": w}, lambda w: Holder({"w": [w]})])
def test_inherit_of_another_shape_names_the_array_and_both_shapes(wrap: Any) -> None:
    child = np.zeros((3, 2))
    with pytest.raises(CheckpointError, match=r"model.*\(3, 2\) here and \(3, 4\) in the checkpoint"):
        restore({"model": wrap(child)}, capture({"model": wrap(np.ones((3, 4)))}), "inherit")
    assert not child.any()
