"""`foretell ls`, `show` and `best`: what is in a store, read while others may write."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from foretell.cli._output import document, fields, table, talk
from foretell.cli._reader import Reader, opened
from foretell.errors import CheckpointError, StudyError
from foretell.progress.plain import clean, counted, number, params, seconds, sparkline

if TYPE_CHECKING:
    from foretell.trial import Trial

_WORDS = ("study", "metric", "best", "state", "params", "curve")


def studies(store: Path, *, as_json: bool) -> int:
    """List the studies of a store."""
    place = opened(store)
    readers = [Reader(store, place, name) for name in place.names()]
    if as_json:
        document({"store": str(store), "studies": [_study_data(reader) for reader in readers]})
        return 0
    rows = []
    for reader in readers:
        record = reader.record
        done = ", ".join(f"{count} {state}" for state, count in record.counts.items() if count) or "none"
        value = None if record.best is None else record.objective.value(record.losses[record.best])
        rows.append((reader.name, record.objective.metric, number(value), f"{record.epochs_spent:,}",
                     seconds(record.seconds()), done, reader.standing))  # fmt: skip
    if rows:
        titles = ("study", "metric", "best", "epochs", "time", "trials", "state")
        table(titles, rows, left=("study", "metric", "trials", "state"))
    else:
        talk(f"There is no study in {store} yet.")
    return 0


def study(store: Path, name: str, *, top: int, as_json: bool) -> int:
    """Show how a study stands, and its best trials."""
    reader = Reader(store, opened(store), name)
    record = reader.record
    order = sorted(range(len(record)), key=lambda trial: (record.losses[trial], trial))[:top]
    if as_json:
        document({**_study_data(reader), "top": [_trial_data(reader, record.trial(trial)) for trial in order]})
        return 0
    objective, counts = record.objective, [(state.value, count) for state, count in record.counts.items() if count]
    lines = [
        ("study", f"{name}: {reader.spec['direction']} {objective.metric}"),
        ("state", reader.standing),
        ("spent", f"{seconds(record.seconds())}, {record.epochs_spent:,} epochs, {record.started} trials"),
        ("trials", counted(counts)),
    ]
    if record.best is not None:
        winner = record.trial(record.best)
        lines.append(("best", f"trial {winner.number}, {objective.metric} {number(winner.value)}"))
        lines.append(("", params(winner.params)))
    if record.verified is not None:
        lines.append(("verified", f"trial {record.verified.trial}: {number(record.verified.value)}"))
    fields(lines)
    if order:
        click.echo()
        rows = [_row(record.trial(trial), objective.value) for trial in order]
        table(("trial", "value", "state", "epochs", "time", "curve", "params"), rows, left=("state", "curve", "params"))
    return 0


def trial(store: Path, name: str, number_of: int, *, as_json: bool) -> int:
    """Show all that is known of one trial."""
    reader = Reader(store, opened(store), name)
    found = chosen(reader, number_of)
    if as_json:
        document({"study": name, **_trial_data(reader, found), "curve": _points(reader, found),
                  "decisions": [decision.to_json() for decision in found.decisions]})  # fmt: skip
        return 0
    objective = reader.record.objective
    horizon = f" of {found.horizon}" if found.horizon else ""
    best_step = f" at epoch {found.best_step}" if found.best_step is not None else ""
    lines: list[tuple[str, object]] = [
        ("trial", f"{number_of} of study {name}"),
        ("state", found.state),
        ("value", f"{objective.metric} {number(found.value)}{best_step}"),
        ("params", "\n".join(f"{key} = {value!r}" for key, value in found.params.items()) or "none"),
        ("last", params(found.values) or "nothing reported"),
        ("epochs", f"{found.step}{horizon}"),
        ("time", seconds(found.cost)),
        ("attempts", found.attempts),
    ]
    if len(found.curve):
        lines.append(("curve", sparkline([objective.value(loss) for loss in found.curve.losses.tolist()], 40)))
    if found.parent is not None:
        lines.append(("parent", f"trial {found.parent}, whose weights it started from"))
    if found.decisions:
        lines.append(("decided", "\n".join(_decided(found))))
    if found.checkpoint is not None:
        lines += [("weights", f"{found.checkpoint.folder} (epoch {found.checkpoint.step})"), ("load", _loading(found))]
    if found.error:
        lines.append(("error", found.error))
    if found.attempts:
        lines.append(("output", f"foretell logs {name} {number_of} --store {store}"))
    fields(lines)
    return 0


def best(store: Path, name: str, *, form: str, as_json: bool) -> int:
    """Print the best configuration."""
    reader = Reader(store, opened(store), name)
    record = reader.record
    if record.best is None:
        talk(f"No trial of {name} has a usable value yet (trials: {record.trials!r}): give the study a larger budget.")
        if as_json:
            document({"study": name, "best": None})
        return 1
    winner = record.trial(record.best)
    if as_json:
        data = {"trial": winner.number, "value": winner.value, "params": winner.params}
        document({"study": name, "metric": record.objective.metric, "best": data})
    else:
        click.echo(_FORMS[form](winner.params))
    return 0


def chosen(reader: Reader, number_of: int) -> Trial:
    """A trial by its number.

    Raises:
        StudyError: there is no such trial.
    """
    count = len(reader.record)
    if number_of >= count:
        there = f"its trials are 0 to {count - 1}" if count else "it has none yet"
        raise StudyError(f"Study {reader.name!r} has no trial {number_of}: {there}.")
    return reader.record.trial(number_of)


def _row(found: Trial, value: Any) -> tuple[object, ...]:
    full = f"/{found.horizon}" if found.horizon else ""
    curve = sparkline([value(loss) for loss in found.curve.losses.tolist()])
    return (found.number, number(found.value), found.state, f"{found.step}{full}", seconds(found.cost), curve,
            params(found.params))  # fmt: skip


def _study_data(reader: Reader) -> dict[str, Any]:
    record = reader.record
    holder = reader.holder
    winner = None if record.best is None else record.trial(record.best)
    return {
        "name": reader.name,
        "metric": record.objective.metric,
        "direction": reader.spec["direction"],
        "state": reader.standing,
        "pid": None if holder is None else holder.pid,
        "trials": {state.value: count for state, count in record.counts.items()},
        "epochs": record.epochs_spent,
        "seconds": record.seconds(),
        "verdict": None if record.concluded is None else record.concluded.to_json(),
        "best": winner and {"trial": winner.number, "value": winner.value, "params": winner.params},
        "verified": record.verified and {"trial": record.verified.trial, "value": record.verified.value},
    }


def _trial_data(reader: Reader, found: Trial) -> dict[str, Any]:
    return {
        "trial": found.number,
        "state": found.state.value,
        "value": found.value,
        "params": found.params,
        "metrics": found.values,
        "best_step": found.best_step,
        "epochs": found.step,
        "horizon": found.horizon,
        "seconds": found.cost,
        "attempts": found.attempts,
        "parent": found.parent,
        "checkpoint": None if found.checkpoint is None else str(found.checkpoint.folder),
        "error": found.error,
    }


def _points(reader: Reader, found: Trial) -> list[dict[str, Any]]:
    value = reader.record.objective.value
    return [{"step": point.step, "value": value(point.loss), "seconds": point.seconds} for point in found.curve]


def _decided(found: Trial) -> list[str]:
    return [
        clean(f"{f'epoch {decision.step}: ' if decision.step is not None else ''}{decision} ({decision.rule})")
        for decision in found.decisions
    ]


def _loading(found: Trial) -> str:
    assert found.checkpoint is not None
    try:
        return found.checkpoint.how_to_load
    except (CheckpointError, OSError) as error:
        return f"not possible: {error}"


# --- configurations as text ------------------------------------------------------------------------------------------


def _toml(values: dict[str, Any]) -> str:
    bare = re.compile(r"[A-Za-z0-9_-]+")
    return "\n".join(
        f"{key if bare.fullmatch(key) else _quoted(key)} = {_quoted(value)}" if value is not None else f"# {key}: none"
        for key, value in values.items()
    )


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True).replace("\x7f", "\\u007f")


def _args(values: dict[str, Any]) -> str:
    words = []
    for key, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value)
        words += [f"--{key}={text}"] if text.startswith("-") else [f"--{key}", text]
    return shlex.join(words)


_FORMS: dict[str, Callable[[dict[str, Any]], str]] = {"json": json.dumps, "toml": _toml, "args": _args}
