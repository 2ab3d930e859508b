"""What every store promises, and a state machine that compares it with a dict of lists."""

from __future__ import annotations

import copy
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from foretell import events
from foretell.errors import StudyError
from foretell.stores import Entry, Store
from foretell.stores.memory import MemoryStore
from foretell.stores.sqlite import SQLiteStore
from foretell.trial import State, Verdict

Open = Callable[[], Store]

FLOATS = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 1e308, 5e-324, 2.0**53 + 2, 3.0])
COUNTS = st.integers(0, 2**62)
TEXTS = st.text() | st.sampled_from(["", "~float", "nul \x00", "\ud800 alone", "val/acc"])
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["loss", "val/acc", "Größe", "~"]
)
SCALARS = st.none() | st.booleans() | st.integers() | FLOATS | TEXTS
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)
DICTS = st.dictionaries(TEXTS, JSON, max_size=4)
VERDICTS = st.builds(
    Verdict,
    action=st.sampled_from(["continue", "stop", "pause"]),
    rule=TEXTS,
    reason=TEXTS,
    step=st.none() | COUNTS,
    value=st.none() | FLOATS,
    limit=st.none() | FLOATS,
    evidence=DICTS,
    restored=st.none() | st.text(min_size=1),
)
PLACE = {"trial": COUNTS, "attempt": COUNTS, "step": COUNTS}
EVENTS = st.one_of(
    st.builds(events.SessionStarted, pid=COUNTS, code=TEXTS),
    st.builds(events.Created, trial=COUNTS, params=DICTS, parent=st.none() | COUNTS, origin=TEXTS),
    st.builds(events.Started, **PLACE),
    st.builds(events.Opened, **PLACE, horizon=st.none() | COUNTS, can_pause=st.booleans(), tracked=st.booleans()),
    st.builds(events.Granted, trial=COUNTS, attempt=COUNTS, until=st.none() | COUNTS, reason=TEXTS),
    st.builds(events.Reached, **PLACE),
    st.builds(events.Reported, **PLACE, metrics=st.dictionaries(NAMES, FLOATS, max_size=4), seconds=FLOATS),
    st.builds(
        events.Saved,
        **PLACE,
        folder=TEXTS,
        digest=TEXTS,
        newest=st.booleans(),
        best=st.booleans(),
        seconds=FLOATS,
    ),
    st.builds(events.Dropped, trial=COUNTS, folder=TEXTS),
    st.builds(
        events.Ended,
        **PLACE,
        state=st.sampled_from(State),
        seconds=FLOATS,
        verdict=VERDICTS,
        cause=TEXTS,
        error=TEXTS,
    ),
    st.builds(events.Verified, trial=COUNTS, value=FLOATS),
    st.builds(events.Concluded, verdict=VERDICTS),
)


@st.composite
def mixed(draw: st.DrawFn) -> list[Any]:
    """A few events, half of them reports, as in life."""
    reports = st.builds(events.Reported, **PLACE, metrics=st.dictionaries(NAMES, FLOATS, max_size=3))
    return draw(st.lists(EVENTS | reports, max_size=6))


def log(happened: list[Any], start: int = 0) -> list[Entry]:
    return [Entry(start + i, 1.7e9 + 0.125 * i, event) for i, event in enumerate(happened)]


def same(found: list[Entry], expected: list[Entry]) -> bool:
    """Equal to the sign of a zero, the order of metrics, and NaN being NaN: that is what repr shows."""
    return repr(found) == repr(expected)


@pytest.fixture(params=["memory", "sqlite"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same store again and again; the one in memory is its own and only opening."""
    memory, opened = MemoryStore(), []

    def reopen() -> Store:
        for store in opened:
            store.close()
        opened.append(memory if request.param == "memory" else SQLiteStore(tmp_path / "store"))
        return opened[-1]

    yield reopen
    for store in opened:
        store.close()


def test_is_a_store(reopen: Open) -> None:
    store = reopen()
    assert isinstance(store, Store)
    assert store.names() == []


def test_studies_keep_their_order_and_specification(reopen: Open) -> None:
    specs = {"zebra": {"space": {"lr": [1e-4, 1e-1]}, "~float": [math.inf]}, "ant-2.b_C": {}, "0": {"deep": [[{}]]}}
    for name, spec in specs.items():
        reopen().create(name, copy.deepcopy(spec))
    assert reopen().names() == list(specs)
    assert {name: reopen().spec(name) for name in specs} == specs


def test_a_name_is_taken_once(reopen: Open) -> None:
    store = reopen()
    store.create("cnn", {"first": 1})
    with pytest.raises(StudyError, match=r"'cnn' already.*another name"):
        store.create("cnn", {"second": 2})
    assert store.spec("cnn") == {"first": 1}


@pytest.mark.parametrize("known", [[], ["cnn"]])
def test_a_missing_study_names_those_that_are_there(reopen: Open, known: list[str]) -> None:
    store = reopen()
    for name in known:
        store.create(name, {})
    with pytest.raises(StudyError, match="Did you mean 'cnn'" if known else "There are none"):
        store.spec("cn")


@settings(max_examples=40)
@given(happened=st.lists(EVENTS, max_size=8))
@example(happened=[events.Reported(0, 1, 1, dict.fromkeys("zaxb", -0.0)), events.Reported(0, 1, 2, {})])
@example(happened=[events.Verified(0, math.nan), events.Concluded(Verdict("stop", "r", value=math.inf))])
@example(happened=[events.Created(0, {"~float": "nan", "~~": {"~float": 1.0}, "x": math.nan})])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_every_event_comes_back_as_it_went(kind: str, happened: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store: Store = MemoryStore() if kind == "memory" else SQLiteStore(folder)
        store.create("study", {})
        store.append("study", log(happened))
        assert same(list(store.entries("study")), log(happened))
        store.close()


def test_every_kind_of_event_can_be_drawn() -> None:
    """The strategy above would miss a kind that is added later."""
    drawn = {type(event).__name__ for event in _one_of_each()}
    assert drawn == set(events.KINDS)


def _one_of_each() -> list[Any]:
    verdict = Verdict("stop", "patience", "no better for 3", 4, 0.5, 0.25, {"seen": [0.5, math.inf]}, "best weights")
    return [
        events.SessionStarted(4711, "c0de"),
        events.Created(0, {"lr": 0.1, "layers": 3, "kind": "cnn", "bias": True, "none": None}, None, "default"),
        events.Started(0, 1),
        events.Opened(0, 1, 10, True, True),
        events.Granted(0, 1, 3, "first rung"),
        events.Reported(0, 1, 1, {"val_loss": 0.5, "acc": math.nan}, 1.5),
        events.Reached(0, 1, 1),
        events.Saved(0, 1, 1, "trials/0/1", "ab" * 32, True, False, 0.01),
        events.Dropped(0, "trials/0/1"),
        events.Ended(0, 1, State.STOPPED, 1, 1.5, verdict, "", "Größe \ud800"),
        events.Verified(0, 0.25),
        events.Concluded(verdict),
    ]


def test_entries_from_a_number_on(reopen: Open) -> None:
    happened = log(_one_of_each() * 3)
    store = reopen()
    store.create("study", {})
    for start in range(0, len(happened), 4):
        store.append("study", happened[start : start + 4])
    store = reopen()
    for since in (0, 1, 5, len(happened) - 1, len(happened), len(happened) + 7):
        assert same(list(store.entries("study", since)), happened[since:])


def test_the_log_of_one_study_is_not_that_of_another(reopen: Open) -> None:
    store = reopen()
    logs = {"a": log(_one_of_each()), "b": log([events.Reported(0, 1, 1, {"acc": 1.0})]), "c": []}
    for name in logs:
        store.create(name, {})
    for name, entries in logs.items():
        store.append(name, entries)
    store = reopen()
    assert all(same(list(store.entries(name)), entries) for name, entries in logs.items())


def test_reading_while_it_grows_shows_the_log_of_the_call(reopen: Open) -> None:
    store = reopen()
    store.create("study", {})
    store.append("study", log(_one_of_each()))
    reading = store.entries("study")
    first = next(reading)
    store.append("study", log(_one_of_each(), start=12))
    assert same([first, *reading], log(_one_of_each()))
    assert len(list(store.entries("study"))) == 24


def test_the_lock_is_let_go_at_the_end_and_on_an_error(reopen: Open) -> None:
    store = reopen()
    for wait in (False, True):
        with pytest.raises(RuntimeError, match="inside"), store.lock("study", wait=wait):
            raise RuntimeError("inside")
        with store.lock("study", wait=wait):
            pass


def test_closing_twice_is_closing_once(reopen: Open) -> None:
    store = reopen()
    store.create("study", {})
    store.close()
    store.close()


class Machine(RuleBasedStateMachine):
    """Any sequence of calls, the store opened anew in between, against a dict of lists."""

    studies = Bundle("studies")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = self.open()
        self.model: dict[str, list[Entry]] = {}
        self.specs: dict[str, str] = {}

    def open(self) -> Store:
        raise NotImplementedError

    @initialize(target=studies)
    def first(self) -> str:
        return self.create("first", {})

    @rule(target=studies, name=st.sampled_from(["a", "b-2", "C.x"]), spec=DICTS)
    def create(self, name: str, spec: dict[str, Any]) -> str:
        if name in self.model:
            with pytest.raises(StudyError):
                self.store.create(name, spec)
        else:
            self.store.create(name, spec)
            self.model[name], self.specs[name] = [], json.dumps(spec)
        return name

    @rule(name=studies, happened=mixed())
    def append(self, name: str, happened: list[Any]) -> None:
        entries = log(happened, len(self.model[name]))
        with self.store.lock(name):
            self.store.append(name, entries)
        self.model[name].extend(entries)

    @rule(name=studies, since=st.integers(0, 12))
    def read(self, name: str, since: int) -> None:
        assert same(list(self.store.entries(name, since)), self.model[name][since:])

    @rule(name=studies)
    def read_a_little(self, name: str) -> None:
        assert same([entry for entry, _ in zip(self.store.entries(name), "ab", strict=False)], self.model[name][:2])

    @rule(name=studies)
    def spec(self, name: str) -> None:
        assert json.dumps(self.store.spec(name)) == self.specs[name]

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.open()

    @invariant()
    def studies_are_in_order(self) -> None:
        assert self.store.names() == list(self.model)

    def teardown(self) -> None:
        for name, entries in self.model.items():
            assert same(list(self.store.entries(name)), entries)
        self.store.close()
        shutil.rmtree(self.folder)


class MemoryMachine(Machine):
    def open(self) -> Store:
        return getattr(self, "store", None) or MemoryStore()


class SQLiteMachine(Machine):
    def open(self) -> Store:
        return SQLiteStore(self.folder)


MemoryMachine.TestCase.settings = SQLiteMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=20)
TestMemory = MemoryMachine.TestCase
TestSQLite = SQLiteMachine.TestCase
