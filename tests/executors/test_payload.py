"""The packing of functions: what arrives is what was sent, arrays are not copied, culprits are named."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from foretell.errors import FunctionError
from foretell.executors._payload import anonymous_file, from_memory, pack, to_memory, unpack

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
LARGE = 100_000


def define(source: str, **known: Any) -> dict[str, Any]:
    """What a user's script defines: its functions belong to `__main__` and are sent by value."""
    names: dict[str, Any] = {"__name__": "__main__", **known}
    exec(source, names)
    return names


def journey(function: Callable[..., Any]) -> Callable[..., Any]:
    descriptor = to_memory(pack(function))
    try:
        return unpack(from_memory(descriptor))
    finally:
        os.close(descriptor)


def refusal(function: Callable[..., Any]) -> str:
    with pytest.raises(FunctionError) as caught:
        pack(function)
    return str(caught.value)


@pytest.fixture
def log_file(tmp_path: Any) -> Iterator[Any]:
    with open(tmp_path / "log", "w") as file:
        yield file


arrays = st_numpy.arrays(
    dtype=st.one_of(st_numpy.floating_dtypes(), st_numpy.integer_dtypes(), st_numpy.boolean_dtypes()),
    shape=st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=40),
)


@settings(max_examples=60, deadline=None)
@given(arrays=st.lists(arrays, max_size=3), fortran=st.booleans(), other=st.dictionaries(st.text(), st.integers()))
def test_what_arrives_is_what_was_sent(arrays: list[Any], fortran: bool, other: dict[str, int]) -> None:
    large = np.arange(LARGE * len(arrays), dtype=np.float64)
    sent = [*(np.asfortranarray(array) if fortran else array for array in arrays), large]
    got, got_other = journey(lambda: (sent, other))()
    for before, after in zip(sent, got, strict=True):
        np.testing.assert_array_equal(before, after, strict=True)
        assert after.flags.writeable
        after[...] = 1
    assert got_other == other
    np.testing.assert_array_equal(large, np.arange(large.size))


@pytest.mark.parametrize("size", [10, LARGE])
def test_only_large_arrays_travel_beside_the_pickle(size: int) -> None:
    array = np.ones(size)
    payload = pack(lambda: array)
    assert len(payload.buffers) == (1 if size == LARGE else 0)
    assert sum(buffer.nbytes for buffer in payload.buffers) + len(payload.code) >= array.nbytes
    if payload.buffers:
        assert np.shares_memory(np.frombuffer(payload.buffers[0]), array)


def test_a_read_only_array_stays_read_only() -> None:
    array = np.ones(LARGE)
    array.flags.writeable = False
    assert not journey(lambda: array)().flags.writeable


def test_the_memory_is_not_inherited_by_foreign_programs() -> None:
    descriptor = anonymous_file()
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


def test_modules_are_those_that_the_function_names() -> None:
    import decimal
    import email.message

    def train() -> object:
        import fractions

        return decimal.Decimal(1), email.message.Message(), fractions, np.zeros(1)

    modules = pack(train).modules
    assert {"decimal", "email.message", "numpy"} <= set(modules)
    assert not {"__main__", "pytest", "hypothesis"} & set(modules)


@pytest.mark.parametrize(
    "expression",
    [
        "train",
        "lambda x: train(x)",
        "functools.partial(both, 1)",
        "Model().fit",
        "Model()",
        "Model.made",
        "closure(1)",
    ],
)
def test_every_kind_of_callable_arrives(expression: str) -> None:
    names = define(
        """
import functools
one = 1
def train(x): return x + one
def both(y, x): return x + y
def closure(y): return lambda x: x + y
class Model:
    def fit(self, x): return train(x)
    __call__ = fit
    @classmethod
    def made(cls, x): return cls().fit(x)
"""
    )
    assert journey(eval(expression, names))(41) == 42


def test_an_open_file_is_named(log_file: Any) -> None:
    names = define("def train(run): log_file.write(run)", log_file=log_file)
    assert refusal(names["train"]) == (
        "train uses the global 'log_file' (TextIOWrapper), which cannot be sent to a training process. "
        "Open it inside train, or use workers=0."
    )


def test_a_global_of_a_helper_is_named_with_the_helper() -> None:
    names = define(
        "def helper(): return [lock for _ in range(2)]\ndef train(run): return helper()", lock=threading.Lock()
    )
    expected = "train uses the global 'helper' (function), in it the global 'lock' (lock), which cannot be sent"
    assert expected in refusal(names["train"])


def test_an_attribute_of_the_same_name_is_not_blamed() -> None:
    names = define("def train(run): run.lock; return door", lock=threading.Lock(), door=threading.Lock())
    assert "the global 'door' (lock)" in refusal(names["train"])


def test_a_variable_of_the_enclosing_function_is_named() -> None:
    numbers = (number for number in range(3))
    empty: Any

    def train() -> object:
        return next(numbers), empty

    if not numbers:
        empty = None
    assert "train uses the variable 'numbers' of the enclosing function (generator)" in refusal(train)


def test_a_socket_is_named() -> None:
    with socket.socket() as connection:
        assert "'connection' of the enclosing function (socket)" in refusal(lambda: connection)


def test_a_culprit_is_found_inside_containers_and_objects(log_file: Any) -> None:
    names = define(
        """
class Data: pass
data = Data()
data.parts = [1, {"log": log_file}]
def train(run): return data
""",
        log_file=log_file,
    )
    path = "the global 'data' (Data), in it the attribute 'parts' (list), in it the item 1 (dict), in it the item 'log'"
    assert path in refusal(names["train"])


def test_arguments_defaults_and_instances_are_looked_through(log_file: Any) -> None:
    names = define(
        """
class Trainer:
    def __init__(self, log): self.log = log
    def __call__(self): return self.log
    def fit(self): return self.log
def train(run, log=None, *, out=None): return log
def with_default(run, log=log_file): return log
def with_keyword(run, *, log=log_file): return log
""",
        log_file=log_file,
    )
    train, trainer = names["train"], names["Trainer"](log_file)
    assert "train uses the argument 1 (TextIOWrapper)" in refusal(functools.partial(train, 1, log_file))
    assert "train uses the argument 'out' (TextIOWrapper)" in refusal(functools.partial(train, out=log_file))
    assert "with_default uses the default 0 of an argument (TextIOWrapper)" in refusal(names["with_default"])
    assert "with_keyword uses the default of 'log' (TextIOWrapper)" in refusal(names["with_keyword"])
    assert "the Trainer instance uses the attribute 'log' (TextIOWrapper)" in refusal(trainer)
    assert "Trainer.fit uses the object (Trainer), in it the attribute 'log' (TextIOWrapper)" in refusal(trainer.fit)
    assert "the lambda uses" in refusal(lambda: log_file)


def test_partials_and_methods_are_known_by_the_name_of_their_function(log_file: Any) -> None:
    source = "def train(run): return log_file\nclass Model:\n    fit = train\nmodel = Model()"
    names = define(source, log_file=log_file)
    partial = functools.partial(functools.partial(names["train"], 1), 2)
    assert refusal(partial).startswith("train uses the global 'log_file' (TextIOWrapper), which")
    assert "uses the object (Model), in it the class (type), in it the member 'fit' (function)" in refusal(
        names["model"].fit
    )


def test_a_member_of_a_class_of_the_script_is_named() -> None:
    names = define("class Model:\n    lock = lock\ndef train(run): return Model()", lock=threading.Lock())
    assert "the global 'Model' (type), in it the member 'lock' (lock)" in refusal(names["train"])


def test_a_failure_without_a_culprit_tells_the_reason() -> None:
    class Sulky:
        def __reduce__(self) -> str:
            raise RuntimeError("not today")

        def __call__(self) -> None: ...

    message = refusal(Sulky())
    assert re.search(r"the .*Sulky instance cannot be sent to a training process: not today\..*workers=0", message)


@needs_torch
@pytest.mark.parametrize("size", [3, LARGE])
def test_tensors_keep_values_strides_and_shared_storage(size: int) -> None:
    import torch

    base = torch.arange(2 * size, dtype=torch.bfloat16).reshape(2, size)
    row, turned, number, nothing = base[1], base.t(), torch.tensor(3.5), torch.empty(0)
    sent = base, row, turned, number, nothing
    got = journey(lambda: sent)()
    for before, after in zip(sent, got, strict=True):
        assert torch.equal(before, after)
        assert before.dtype == after.dtype
        assert before.stride() == after.stride()
        assert before.storage_offset() == after.storage_offset()
    got[0][1, 0] = -1
    assert got[1][0] == -1
    assert got[2][0, 1] == -1
    assert base[1, 0] != -1
    assert len(pack(lambda: sent).buffers) == (1 if size == LARGE else 0)


@needs_torch
def test_parameters_modules_and_unusual_tensors_arrive_as_they_were() -> None:
    import torch

    model = torch.nn.Linear(300, 300)
    leaf = torch.ones(5, requires_grad=True)
    sparse = torch.eye(3).to_sparse()
    complex_view = torch.ones(2, dtype=torch.complex64).conj()
    meta = torch.empty(2, device="meta")
    got_model, got_leaf, got_sparse, got_view, got_meta = journey(lambda: (model, leaf, sparse, complex_view, meta))()
    assert type(got_model.weight) is torch.nn.Parameter
    assert torch.equal(got_model.weight, model.weight)
    assert got_leaf.requires_grad
    assert torch.equal(got_sparse.to_dense(), torch.eye(3))
    assert got_view.is_conj()
    assert got_meta.device.type == "meta"
    assert len(pack(model.forward).buffers) == 1
    got_model(torch.ones(300)).sum().backward()
    with torch.no_grad():
        got_model.weight.add_(1.0)
    assert not torch.equal(got_model.weight, model.weight)


@needs_torch
def test_a_tensor_on_a_device_is_named_and_refused() -> None:
    import torch

    class OnDevice(torch.Tensor):
        is_cuda = True

    weights = torch.ones(2).as_subclass(OnDevice)
    names = define("def train(run): return weights", weights=weights)
    assert refusal(names["train"]) == (
        "train uses the global 'weights' (OnDevice on cuda), which cannot be sent to a training process. "
        "Keep it on the CPU and move it to the device inside train, or use workers=0."
    )
