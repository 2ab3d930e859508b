"""Every event survives JSON, whatever numbers it holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell import events
from foretell.stores import _json as strict
from foretell.trial import CONTINUE, State, Verdict

NUMBERS = st.floats() | st.integers(-5, 5).map(float)
TEXTS = st.text(max_size=8)
VERDICTS = st.builds(
    Verdict,
    st.sampled_from(["continue", "stop", "pause"]),
    TEXTS,
    TEXTS,
    step=st.none() | st.integers(0, 9),
    value=st.none() | NUMBERS,
    limit=st.none() | NUMBERS,
    evidence=st.dictionaries(TEXTS, NUMBERS | st.none() | TEXTS, max_size=2),
    restored=st.none() | st.text(min_size=1, max_size=8),
)
KNOWN: dict[Any, Any] = {
    events.Created: {"params": st.dictionaries(TEXTS, NUMBERS | TEXTS | st.booleans() | st.none(), max_size=3)},
    events.Reported: {"metrics": st.dictionaries(TEXTS, NUMBERS, max_size=3), "seconds": NUMBERS},
    events.Verified: {"value": NUMBERS},
    events.Ended: {"verdict": VERDICTS, "state": st.sampled_from(State)},
    events.Concluded: {"verdict": VERDICTS},
}


def event_of(kind: type[events.Event]) -> st.SearchStrategy[events.Event]:
    return st.builds(kind, **KNOWN.get(kind, {}))


@pytest.mark.parametrize("kind", events.KINDS.values(), ids=events.KINDS)
@given(data=st.data())
def test_an_event_comes_back_from_json(kind: type[events.Event], data: st.DataObject) -> None:
    event = data.draw(event_of(kind))
    back = events.from_json(strict.loads(strict.dumps(events.to_json(event))))
    assert type(back) is kind
    assert repr(back) == repr(event)  # by text, since NaN is not equal to itself


@given(VERDICTS)
def test_a_verdict_comes_back_from_json(verdict: Verdict) -> None:
    back = Verdict.from_json(strict.loads(strict.dumps(verdict.to_json())))
    assert verdict.to_json().keys() == back.to_json().keys()
    assert repr(back.value) == repr(verdict.value) and repr(back.limit) == repr(verdict.limit)
    assert (back.action, back.rule, back.step) == (verdict.action, verdict.rule, verdict.step)


def test_zero_is_not_nothing() -> None:
    verdict = Verdict("stop", "r", "why", step=0, value=0.0, limit=0.0)
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_every_kind_of_event_is_listed_once() -> None:
    assert set(events.KINDS.values()) == set(events.Event.__args__)


def test_a_verdict_is_no_truth_value() -> None:
    for verdict in (CONTINUE, Verdict("stop")):
        with pytest.raises(TypeError, match=r"verdict\.stop"):
            bool(verdict)


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (CONTINUE, "Continue"),
        (Verdict("stop", "r", "loss 1 is over the limit"), "Stop: loss 1 is over the limit"),
        (Verdict("pause", "r", "later", restored="best weights of epoch 3 restored"),
         "Pause: later; best weights of epoch 3 restored"),
    ],
)  # fmt: skip
def test_a_verdict_in_words(verdict: Verdict, text: str) -> None:
    assert str(verdict) == text
    assert verdict.stop == (verdict.action != "continue")


def test_which_states_are_final() -> None:
    assert {state for state in State if not state.ended} == {State.QUEUED, State.RUNNING, State.PAUSED}
