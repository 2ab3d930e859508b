"""What a running study shows: words and numbers, not pictures."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import foretell as ft
from foretell import events
from foretell.budget import Budget
from foretell.objective import Objective
from foretell.progress import Watcher, _text
from foretell.progress.live import Live, render, view
from foretell.progress.ndjson import Lines, finite
from foretell.progress.none import Silent
from foretell.progress.plain import Plain
from foretell.record import Record
from foretell.trial import CONTINUE, Verdict

SPACE = ft.Space(x=ft.Float(0, 1))
FOREVER: Callable[[], float] = lambda: 0.0  # noqa: E731 - a clock that stands


def shown(record: Record, width: int = 80, **options: Any) -> str:
    budget = options.pop("budget", Budget(epochs=400, seconds=3600, trials=100))
    stream = io.StringIO()
    Console(file=stream, width=width, no_color=True).print(render(view("digits", record, budget, **options), width))
    return stream.getvalue()


def replayed(progress: Watcher, workers: int = 2, *, budget: str = "60 epochs", maximizes: bool = False) -> ft.Study:
    metric = {"maximize" if maximizes else "minimize": "val_loss"}
    study = ft.Study(SPACE, **metric)  # type: ignore[arg-type]
    curve = lambda params: ft.Recording([params["x"] + 1 / epoch for epoch in range(1, 10)])  # noqa: E731
    return study.run(None, budget, executor=ft.Replay(curve, workers), progress=progress)  # type: ignore[arg-type]


def record_of(*happened: events.Event, maximizes: bool = False) -> Record:
    record = Record(SPACE, Objective("val_loss", "maximize" if maximizes else "minimize"))
    for time, event in enumerate(happened):
        record.apply(event, float(time))
    return record


def begun(trial: int, *values: float) -> list[events.Event]:
    return [
        events.Created(trial, {"x": trial / 100}),
        events.Started(trial, 1),
        events.Opened(trial, 1, 20, True, True),
        *(events.Reported(trial, 1, step, {"val_loss": value}, step / 2) for step, value in enumerate(values, 1)),
    ]


class Ticking:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.mark.parametrize("manner", [Live, Plain, Lines, Silent])
def test_every_manner_is_a_watcher(manner: type) -> None:
    assert isinstance(manner(), Watcher)


def test_a_study_without_trials() -> None:
    text = shown(record_of(events.SessionStarted(1)))
    assert "minimize val_loss" in text
    assert "0 / 400" in text and "0 / 100" in text and "1 h left" in text
    assert "best" not in text


def test_a_training_shows_where_it_stands() -> None:
    record = record_of(events.SessionStarted(1), *begun(0, 0.9, 0.5, 0.7), events.Granted(0, 1, 9))
    (line,) = [line for line in shown(record).splitlines() if line.strip().startswith("0 ")]
    assert line.split() == ["0", "3", "9", "20", "0.7", "0.5", "1.5", "s", "█▁▄"]
    assert "trial 0 (running)" in shown(record)


def test_values_are_in_the_units_of_the_metric() -> None:
    record = record_of(*begun(0, 0.25, 0.75), *begun(1, 0.125), maximizes=True)
    text = shown(record)
    assert "maximize val_loss" in text
    assert "0.75  trial 0" in text
    assert "-0.75" not in text and "▁█" in text


def test_values_that_are_no_numbers() -> None:
    text = shown(record_of(*begun(0, math.nan, math.inf)))
    assert "nan" not in text
    assert "··" in text
    assert "best " not in text.replace("last    best", "")


def test_many_workers_show_the_best_eight() -> None:
    record = record_of(*(event for trial in range(64) for event in begun(trial, 1 - trial / 100)))
    text = shown(record)
    listed = [int(line.split()[0]) for line in text.splitlines() if line.split()[:1] and line.split()[0].isdigit()]
    assert listed == [63, 62, 61, 60, 59, 58, 57, 56]
    assert "+56 more" in text and "64 running" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    study = replayed(Silent(), 4)
    record = record_of(*(event for trial in range(9) for event in begun(trial, *([0.123456] * 20))))
    for verdict in (None, study.verdict):
        for seen in (record, study.record):
            lines = shown(seen, width, verdict=verdict).splitlines()
            assert max(map(len, lines)) <= width
            assert any(line.startswith("trials  ") for line in lines)


def test_decisions_come_with_their_reasons() -> None:
    paused = events.Ended(0, 1, ft.State.PAUSED, 2, 1.0, Verdict("pause", "asha", "2nd of 3 at epoch 2"))
    failed = events.Ended(
        1, 1, ft.State.FAILED, 1, 1.0, CONTINUE, "error", "Traceback:\n  line\nValueError: \x1b[31mbad"
    )
    text = shown(record_of(*begun(0, 0.5, 0.4), *begun(1, 0.9), paused, failed))
    assert "trial 0 paused at epoch 2: 2nd of 3 at epoch 2" in text
    assert "trial 1 failed at epoch 1: ValueError:  [31mbad" in text
    assert "\x1b" not in text


def test_the_end_says_why_and_what_was_saved() -> None:
    study = replayed(Silent())
    record, trials = study.record, list(study.trials)
    text = shown(record, 200, verdict=study.verdict)
    trained, planned = sum(trial.step for trial in trials), sum(trial.horizon or 0 for trial in trials)
    assert 0 < trained < planned
    assert f"saved {100 - round(100 * trained / planned)} % ({trained} of {planned} epochs trained)" in text
    assert study.verdict.reason in text
    assert f"trial {study.best.number}, val_loss {study.best.value:.4g}" in text
    assert f"{len(trials)}: " in text


def test_what_failed_or_still_runs_is_not_called_saved() -> None:
    failed = events.Ended(1, 1, ft.State.FAILED, 1, 1.0, CONTINUE, "error", "boom")
    done = events.Ended(2, 1, ft.State.DONE, 20, 1.0)
    record = record_of(*begun(0, 0.5), *begun(1, 0.9), failed, *begun(2, *([0.5] * 20)), done)
    assert _text.epochs(record) == (20, 20)


def test_an_interrupt_saves_nothing() -> None:
    paused = events.Ended(0, 1, ft.State.PAUSED, 2, 1.0, Verdict("pause", "interrupt", "interrupted by Ctrl-C"))
    record = record_of(*begun(0, 0.5, 0.4), paused)
    text = shown(record, verdict=Verdict("stop", "interrupt", "interrupted by Ctrl-C"))
    assert "2 of 20 epochs trained so far" in text
    assert "early termination" not in text


def test_an_end_without_a_result() -> None:
    text = shown(record_of(*begun(0, math.nan)), verdict=CONTINUE)
    assert "no trial has a usable value" in text and "broken off" in text


def test_live_draws_four_times_a_second_at_most_and_lets_go_of_the_terminal() -> None:
    stream, clock = io.StringIO(), Ticking()
    live = Live(Console(file=stream, width=80, force_terminal=True, height=24), clock=clock)
    record = record_of(events.SessionStarted(1), *begun(0, 0.5))
    live.begin("digits", record, Budget(epochs=10))
    drawn = stream.tell()
    live.tick(1.0)
    live.happened(events.SessionStarted(1))
    assert stream.tell() == drawn
    clock.time += 0.25
    live.tick(1.0)
    assert stream.tell() > drawn
    live.end(Verdict("stop", "budget", "the budget is spent"))
    text = stream.getvalue()
    assert "\x1b[?25l" in text and text.rstrip("\n").endswith("\x1b[?25h")  # the cursor was hidden and is back
    assert "\x1b[?1049h" not in text  # never the alternate screen
    assert "the budget is spent" in text
    live.tick(2.0)
    live.end(CONTINUE)
    assert stream.getvalue() == text


def test_plain_has_no_control_codes_and_ends_with_the_summary() -> None:
    stream = io.StringIO()
    study = replayed(Plain(stream, clock=FOREVER))
    text = stream.getvalue()
    assert "\x1b" not in text
    assert text.startswith("study: minimize val_loss, budget 60 epochs\n")
    assert f"trial {study.best.number}, val_loss {study.best.value:.4g}" in text
    assert "early termination saved" in text


def test_plain_is_short_of_words() -> None:
    stream, clock = io.StringIO(), Ticking()
    plain, record = Plain(stream, clock=clock), record_of(events.SessionStarted(1))
    plain.begin("digits", record, Budget())
    for trial in range(10):
        done = events.Ended(trial, 1, ft.State.DONE, 1, 1.0)
        for event in (*begun(trial, 1 - trial / 10), done):
            record.apply(event, 1.0)
        plain.happened(done)
    assert stream.getvalue().count("\n") == 1 + 3
    assert "trial 2 done at epoch 1, val_loss 0.8, the best so far" in stream.getvalue()
    plain.tick(1.0)
    assert stream.getvalue().count("\n") == 1 + 3
    clock.time += 10
    plain.tick(1.0)
    assert "besides: 7 done\n" in stream.getvalue()
    assert "10: 10 done, best val_loss 0.1 (trial 9)" in stream.getvalue()


def test_plain_sums_up_short_pauses() -> None:
    stream, pause = io.StringIO(), Verdict("pause", "asha", "waits")
    plain, record = Plain(stream, clock=FOREVER), record_of(*begun(0, 0.5), *begun(1, 0.4))
    plain.begin("digits", record, Budget())
    for trial, span in ((0, 5.0), (1, 500.0)):
        event = events.Ended(trial, 1, ft.State.PAUSED, 1, span, pause)
        record.apply(event, 1.0)
        plain.happened(event)
    plain.end(CONTINUE)
    assert "trial 0 paused" not in stream.getvalue() and "besides: 1 paused" in stream.getvalue()
    assert "trial 1 paused at epoch 1, val_loss 0.4: waits" in stream.getvalue()


class Shut(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_nobody_listening_ends_no_training() -> None:
    for progress in (Plain(Shut()), Lines(Shut())):
        assert replayed(progress).verdict.rule == "budget"


def test_lines_are_json_and_the_whole_log() -> None:
    stream = io.StringIO()
    study = replayed(Lines(stream))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert {line["schema_version"] for line in lines} == {1}
    assert lines[0] == {
        "schema_version": 1, "kind": "Begun", "study": "study", "metric": "val_loss", "direction": "minimize",
        "budget": {"seconds": None, "epochs": 60, "trials": None},
    }  # fmt: skip
    assert lines[1]["kind"] == "SessionStarted" and lines[-1]["kind"] == "Concluded"
    assert sum(line["kind"] == "Created" for line in lines) == len(study.trials)


def test_json_has_no_word_for_nan() -> None:
    assert finite({"a": [math.nan, 1.0, (math.inf,)], 2: "x"}) == {"a": [None, 1.0, [None]], "2": "x"}


def test_a_sparkline_of_huge_values() -> None:
    assert _text.sparkline([-1.7e308, 0.0, 1.7e308, 5e-324]) == "▁▅█▅"


@given(st.lists(st.floats(), max_size=60), st.integers(1, 20))
def test_a_sparkline_fits_and_rises_with_the_values(values: list[float], width: int) -> None:
    line = _text.sparkline(values, width)
    assert len(line) == min(len(values), width)
    if len(values) <= width:
        assert [mark == "·" for mark in line] == [not math.isfinite(value) for value in values]
        pairs = [(value, mark) for value, mark in zip(values, line, strict=True) if mark != "·"]
        assert [mark for _, mark in sorted(pairs)] == sorted(mark for _, mark in pairs)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 s"), (0.018, "0.018 s"), (2.34, "2.3 s"), (9.96, "10 s"), (59.9, "1 min"), (60, "1 min"), (61, "1 min 1 s"),
     (3600, "1 h"), (3661, "1 h 1 min"), (90000, "1 d 1 h"), (math.nan, "–")],
)  # fmt: skip
def test_spans_of_time_for_people(value: float, text: str) -> None:
    assert _text.seconds(value) == text


@pytest.mark.parametrize("maximizes", [False, True])
def test_what_is_foretold_stands_beside_what_runs(maximizes: bool) -> None:
    values = [-value if maximizes else value for value in (0.9, 0.5, 0.4, 0.35)]
    record = record_of(*begun(0, *values), *begun(1, values[0]), maximizes=maximizes)
    wide = shown(record, 120)
    assert "comes to" in wide and "chance" in wide and "%" in wide
    assert "chance" not in shown(record, 80)
    known, unknown = view("digits", record, Budget()).running
    assert unknown.outlook is None  # one epoch tells nothing
    assert known.outlook is not None and 0.5 < known.outlook.chance <= 1
    assert (known.outlook.better > known.outlook.worse) == maximizes
